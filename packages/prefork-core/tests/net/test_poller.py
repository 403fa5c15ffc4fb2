# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import time
from math import inf

from prefork.net.poller import READ, WRITE, Poller


def test_it_says_who_can_be_read_and_who_can_be_written() -> None:
    left, right = socket.socketpair()
    with left, right:
        poller = Poller()
        poller.watch(left.fileno(), READ)
        assert poller.wait(0.0) == []
        right.send(b"x")
        assert [fd for fd, _ in poller.wait(5.0)] == [left.fileno()]
        poller.change(left.fileno(), WRITE)
        assert poller.wait(5.0) == [(left.fileno(), WRITE)]
        poller.close()


def test_it_is_woken_by_the_peers_end_too() -> None:
    left, right = socket.socketpair()
    with left:
        poller = Poller()
        poller.watch(left.fileno(), READ)
        right.close()
        assert poller.wait(inf)
        poller.close()


def test_what_is_forgotten_wakes_nobody() -> None:
    left, right = socket.socketpair()
    with left, right:
        poller = Poller()
        poller.watch(left.fileno(), READ)
        right.send(b"x")
        poller.forget(left.fileno())
        assert poller.wait(0.0) == []
        poller.close()


def test_a_deadline_has_passed_when_the_wait_for_it_is_over() -> None:
    """Otherwise the loop would turn without having anything to do."""
    poller = Poller()
    for _ in range(5):
        deadline = time.monotonic() + 0.0023
        poller.wait(deadline - time.monotonic())
        assert time.monotonic() >= deadline
    assert poller.wait(-1.0) == []
    poller.close()
