# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING

import pytest

from prefork.arbiter.gauge import INTERVAL, Gauge, sample
from prefork.net.listener import open_listener, parse_bind
from prefork.process.scoreboard import Scoreboard, Slot, Stage
from prefork.supervisor.messages import Sampled

if TYPE_CHECKING:
    from pathlib import Path


def slot(threads: int = 2, busy: int = 0, connections: int = 0, idle: int = 0) -> Slot:
    made = Scoreboard(1).slot(0)
    made.clear(1, Stage.READY, threads)
    for number in range(busy):
        made.thread(number).begin(b"GET /", 1.0)
    made.connections, made.idle = connections, idle
    return made


def test_threads_and_requests_of_all_workers_are_summed_up() -> None:
    assert sample([slot(4, busy=3), slot(4, busy=1)], []) == Sampled(2, 8, 4, 0)


def test_connections_that_wait_for_a_thread_of_their_worker_are_requests_too() -> None:
    assert sample([slot(2, busy=2, connections=9, idle=3)], []).requests == 6


def test_with_a_free_thread_nobody_can_wait_for_one() -> None:
    assert sample([slot(2, busy=1, connections=9, idle=3)], []).requests == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_connections_in_the_queue_of_a_listener_are_counted() -> None:
    with ExitStack() as stack:
        listener = open_listener(parse_bind("127.0.0.1:0"), 16, 0o600)
        stack.callback(listener.close, unlink=True)
        assert sample([slot()], [listener]).waiting == 0
        for _ in range(5):
            stack.enter_context(socket.create_connection(listener.sock.getsockname()))
        deadline = time.monotonic() + 5.0
        while (found := sample([slot()], [listener]).waiting) != 5:
            assert time.monotonic() < deadline, found


def test_somebody_in_the_queue_of_a_unix_socket_counts_as_many(tmp_path: Path) -> None:
    listener = open_listener(parse_bind(f"unix:{tmp_path}/web.sock"), 16, 0o600)
    try:
        assert sample([slot(4)], [listener]).waiting == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/web.sock")
            found = sample([slot(4), slot(4)], [listener])
            assert (found.waiting, found.is_counted) == (8, False)
    finally:
        listener.close(unlink=True)


def test_a_sample_is_taken_at_once_and_then_at_intervals() -> None:
    gauge = Gauge()
    assert gauge.next_at == inf
    assert gauge.look([], [], 5.0) is not None
    assert gauge.look([], [], 5.0 + INTERVAL / 2) is None
    assert gauge.next_at == 5.0 + INTERVAL
    assert gauge.look([], [], 5.0 + INTERVAL) is not None
    gauge.rest()
    assert gauge.next_at == inf
