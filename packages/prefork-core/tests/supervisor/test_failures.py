# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from supervised import KILLED, SEGFAULT, Server, of

from prefork.supervisor.messages import Death, Overdue, Spawn


def test_a_worker_that_lived_is_replaced_at_once() -> None:
    server = Server.running(2)
    actions = server.end(1, KILLED)
    assert of(Spawn, actions) == [Spawn(3, 0, 1)]
    assert server.has_said(
        "ended unexpectedly after 60.0 s of service: killed by SIGKILL: perhaps out of memory"
    )


def test_a_worker_that_we_killed_is_not_said_to_be_out_of_memory() -> None:
    server = Server.running(1)
    server.tell(Overdue(1))
    server.wait(1.0)
    server.end(1, KILLED)
    assert not server.has_said("out of memory")


def test_the_wait_doubles_with_each_failure_and_is_bounded() -> None:
    server = Server.running(1)
    server.end(1, KILLED)
    waits = []
    for _ in range(14):
        (serial,) = server.booting
        server.end(serial, Death(code=3))
        deadline = server.machine.next_deadline()
        assert deadline is not None
        waits.append(round(deadline - server.now, 3))
        server.wait(deadline - server.now)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == waits[-2] == 30.0


def test_workers_that_crash_together_count_as_one_failure() -> None:
    server = Server(8)
    server.ready_all()
    for serial in list(server.serving):
        server.end(serial, SEGFAULT)
    deadline = server.machine.next_deadline()
    assert deadline is not None
    assert deadline - server.now == pytest.approx(0.1)


def test_after_a_failure_one_worker_is_tried_and_the_others_follow_when_it_is_ready() -> None:
    server = Server(4)
    server.ready_all()
    for serial in list(server.serving):
        server.end(serial, SEGFAULT)
    assert len(of(Spawn, server.wait(5.0))) == 1
    assert len(of(Spawn, server.ready(server.booting[0]))) == 3


def test_a_worker_that_lived_ends_the_back_off() -> None:
    server = Server.running(1)
    server.end(1, KILLED)
    for _ in range(5):
        server.end(server.booting[0], Death(code=3))
        server.wait(30.0)
    server.ready(server.booting[0])
    server.wait(10.0)
    assert len(of(Spawn, server.end(server.serving[0], KILLED))) == 1


def test_a_worker_that_ends_on_its_own_is_replaced() -> None:
    server = Server.running(1)
    assert len(of(Spawn, server.end(1, Death(code=0)))) == 1
