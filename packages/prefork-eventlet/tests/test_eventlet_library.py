# SPDX-License-Identifier: MIT
"""What prefork has to know of eventlet, with eventlet's own hub."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from greenlet_rules import GreenletRules

from prefork_eventlet import library
from prefork_eventlet.library import Eventlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


class TestRules(GreenletRules):
    """Eventlet keeps the promises."""

    def library(self) -> Eventlet:
        return Eventlet()

    def sleep(self, seconds: float) -> None:
        eventlet.sleep(seconds)

    def spawn(self, call: Callable[[], object]) -> Callable[[], object]:
        wait: Callable[[], object] = eventlet.spawn(call).wait
        return wait


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
