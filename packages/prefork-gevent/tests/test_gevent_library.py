# SPDX-License-Identifier: MIT
"""What prefork has to know of gevent, with gevent's own loop."""

from __future__ import annotations

import logging
import os
import sys
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import gevent
import gevent.event
import gevent.select
import pytest
from greenlet_rules import GreenletRules

from prefork_gevent.library import Gevent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def library() -> Gevent:
    return Gevent(logging.getLogger("test"))


def block(seconds: float) -> None:
    """Let nobody else run."""
    until = monotonic() + seconds
    while monotonic() < until:
        pass


class TestRules(GreenletRules):
    """Gevent keeps the promises."""

    def library(self) -> Gevent:
        return library()

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def spawn(self, call: Callable[[], object]) -> Callable[[], object]:
        wait: Callable[[], object] = gevent.spawn(call).join
        return wait


@pytest.mark.parametrize("timeout", [0.0, 0.01, 1.0, inf])
def test_who_waits_again_and_again_comes_back_in_time_and_lets_others_run(
    pipe: tuple[int, int], timeout: float
) -> None:
    ran: list[str] = []
    wait = library().waits_for(pipe[0])
    began = monotonic()
    for turn in range(3):
        other = gevent.spawn(ran.append, "other")
        wait(timeout)
        other.join()
        assert len(ran) == turn + 1
    assert monotonic() - began < 20.0


def test_who_waits_again_and_again_is_woken_by_the_descriptor_whichever_greenlet_it_is(
    pipe: tuple[int, int],
) -> None:
    read, write = pipe
    wait = library().waits_for(read)
    got: list[bytes] = []

    def take() -> None:
        wait(inf)
        while not got:
            wait(inf)  # it may come back early
            if gevent.select.select([read], [], [], 0)[0]:
                got.append(os.read(read, 1))

    for letter in (b"a", b"b"):
        got.clear()
        greenlet = gevent.spawn(take)
        gevent.sleep(0)
        os.write(write, letter)
        greenlet.join(20.0)
        assert got == [letter]


def test_who_has_come_back_is_not_woken_again(pipe: tuple[int, int]) -> None:
    """A descriptor can be first when other callbacks take longer than the switch interval.

    gevent looks whether they do after each 50 of them, and leaves the others for its next turn.
    """
    read, write = pipe
    os.write(write, b".")
    wait = library().waits_for(read)
    elsewhere = gevent.event.Event()

    def other() -> None:
        wait(0.0)
        assert not elsewhere.wait(0.05)  # an error, if it is woken by what it has waited for before

    greenlet = gevent.Greenlet(other)
    loop = gevent.get_hub().loop
    loop.run_callback(greenlet.switch)
    for _ in range(60):
        loop.run_callback(block, sys.getswitchinterval() / 10)
    greenlet.join(20.0)
    greenlet.get(block=False)


def test_what_a_greenlet_raises_is_logged_and_its_end_is_not(caplog: pytest.LogCaptureFixture) -> None:
    hub = gevent.get_hub()
    before = hub.handle_error
    try:
        library()
        failed = gevent.spawn(lambda: 1 / 0)
        ended = gevent.spawn(gevent.sleep, 20.0)
        gevent.sleep(0)
        ended.kill()
        failed.join()
    finally:
        hub.handle_error = before
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["error in a greenlet"]
    assert "ZeroDivisionError" in caplog.text
