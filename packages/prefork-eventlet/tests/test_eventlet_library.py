# SPDX-License-Identifier: MIT
"""What prefork has to know of eventlet, with eventlet's own hub."""

from __future__ import annotations

import os
import signal
import socket
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from prefork_eventlet import library
from prefork_eventlet.library import Eventlet

if TYPE_CHECKING:
    from collections.abc import Iterator

eventlet: Any = vars(library)["eventlet"]  # imported there without its word on its end


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_signal_waits_for_the_end_of_the_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its handler raises ends the boot of a worker; eventlet would print it and go on."""
    happened: list[str] = []

    def patch() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        happened.append("patched")

    monkeypatch.setattr(eventlet, "monkey_patch", patch)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: happened.append("told to end"))
    try:
        library.patch()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert happened == ["patched", "told to end"]


def test_a_function_is_called_as_soon_as_its_greenlet_waits() -> None:
    called: list[str] = []
    Eventlet().defer(lambda: called.append("deferred"))
    assert called == []
    eventlet.sleep(0.01)
    assert called == ["deferred"]


def test_a_function_that_is_taken_back_is_not_called() -> None:
    called: list[str] = []
    green = Eventlet()
    green.defer(lambda: called.append("taken back"))()
    kept = green.defer(lambda: called.append("kept"))
    eventlet.sleep(0.01)
    kept()  # too late, and no harm
    assert called == ["kept"]


def test_others_run_in_a_pause() -> None:
    order: list[str] = []
    other = eventlet.spawn(lambda: order.append("other"))
    Eventlet().pause()
    order.append("own")
    other.wait()
    assert order == ["other", "own"]


def test_a_wait_ends_when_the_descriptor_is_ready_or_time_is_up(pipe: tuple[int, int]) -> None:
    read, write = pipe
    green = Eventlet()
    assert not green.wait(read, 0.01, to_write=False)
    assert green.wait(write, inf, to_write=True)
    eventlet.spawn_after(0.01, os.write, write, b".")
    assert green.wait(read, inf, to_write=False)


@pytest.mark.parametrize("timeout", [0.0, 0.01, 0.3])
def test_who_waits_again_and_again_lets_others_run(pipe: tuple[int, int], timeout: float) -> None:
    ran: list[str] = []
    wait = Eventlet().waits_for(pipe[0])
    for turn in range(3):
        eventlet.spawn_n(ran.append, "other")
        wait(timeout)
        assert len(ran) == turn + 1


def test_eventlets_own_websockets_find_the_socket() -> None:
    """The name is that of the input of eventlet's own server."""
    with socket.socket() as sock:
        offered = Eventlet().offered(sock)
        assert list(offered) == ["eventlet.input"]
        assert offered["eventlet.input"].get_socket() is sock  # type: ignore[attr-defined]
