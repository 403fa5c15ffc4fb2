# SPDX-License-Identifier: MIT
"""Starting, replacing and the time of the next step; what goes wrong is in the tests of the other modules."""

from __future__ import annotations

import pytest
from supervised import KILLED, SEGFAULT, Server, of

from prefork.supervisor.children import State
from prefork.supervisor.fleet import Mode
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Abort,
    Death,
    Discard,
    Exit,
    Forked,
    ForkFailed,
    HungUp,
    Kill,
    Order,
    Overdue,
    Policy,
    Reaped,
    Reason,
    Reload,
    Report,
    Reported,
    Resize,
    Resized,
    Send,
    Serving,
    Spawn,
    Start,
    Stop,
)
from prefork.supervisor.reloading import PROOF

# ---------------------------------------------------------------- start


def test_the_start_spawns_the_workers_wanted_in_the_lowest_slots() -> None:
    machine = Machine(Policy(3))
    actions = machine.step(Start(), 0.0)
    assert actions == [Resized(3, None), Spawn(1, 0, 1), Spawn(2, 1, 1), Spawn(3, 2, 1)]


def test_the_first_ready_worker_makes_the_server_serve_and_no_later_one() -> None:
    server = Server(2)
    assert of(Serving, server.ready(1)) == [Serving()]
    assert of(Serving, server.ready(2)) == []
    assert server.has_said("worker 1001 (slot 0, generation 1) ready after 0.0 s")


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (4, 4), (1, 3), (0, 3)])
def test_a_first_worker_that_cannot_boot_ends_the_server(code: int, exit_code: int) -> None:
    server = Server(2)
    actions = server.end(1, Death(code=code))
    assert of(Send, actions) == [Send(2, Order.QUICK)]
    assert server.end(2, Death(code=0))[-1] == Exit(exit_code)


def test_a_first_worker_that_is_killed_ends_the_server_with_the_boot_code() -> None:
    server = Server(1)
    assert server.end(1, SEGFAULT)[-1] == Exit(3)


def test_siblings_of_a_first_worker_that_cannot_boot_are_killed_within_a_second() -> None:
    server = Server(2)
    server.end(1, Death(code=3))
    assert of(Kill, server.wait(1.0)) == [Kill(2, "was still booting", Reason.GRACEFUL_TIMEOUT)]
    assert server.end(2, KILLED)[-1] == Exit(3)


def test_a_first_worker_that_hangs_is_aborted_after_boot_timeout_and_ends_the_server() -> None:
    server = Server(1, boot_timeout=5.0)
    assert server.wait(4.9) == []
    (abort,) = of(Abort, server.wait(0.1))
    assert abort == Abort(1, "is not ready after 5.0 s (boot_timeout)", Reason.BOOT_TIMEOUT)
    server.wait(1.0)
    assert server.end(1, KILLED)[-1] == Exit(3)


def test_without_boot_timeout_a_worker_may_boot_for_ever() -> None:
    server = Server(1, boot_timeout=0.0)
    assert server.machine.next_deadline() is None
    server.wait(100_000.0)
    assert of(Serving, server.ready(1)) == [Serving()]


def test_a_second_worker_that_cannot_boot_ends_nothing_once_one_is_ready() -> None:
    server = Server(2)
    server.ready(1)
    actions = server.end(2, Death(code=3))
    assert of(Exit, actions) == of(Send, actions) == []
    assert len(of(Spawn, server.wait(0.2))) == 1


def test_forks_that_fail_are_tried_again_with_growing_waits() -> None:
    server = Server.running(1)
    server.forks_fail = True
    server.end(1, KILLED)
    server.wait(10.0)
    assert 4 <= sum("cannot start a worker: no memory" in said.text for said in server.said) <= 8
    server.forks_fail = False
    server.wait(30.0)
    assert len(server.booting) == 1


def test_forks_that_fail_at_the_start_do_not_end_the_server() -> None:
    server = Server(0)
    server.forks_fail = True
    server.tell(Resize(1))
    server.tell(Reload(2, Policy(1)))
    server.wait(1.0)
    assert server.fleet.mode is Mode.STARTING
    server.forks_fail = False
    server.wait(30.0)
    assert len(server.booting) == 1


# ---------------------------------------------------------------- successors


def test_a_worker_that_asks_for_a_successor_leaves_when_that_one_is_ready() -> None:
    server = Server.running(2)
    actions = server.tell(Reported(1, Report.RETIRE))
    assert (len(of(Spawn, actions)), of(Send, actions)) == (1, [])
    assert of(Send, server.ready_all()) == [Send(1, Order.LEAVE)]
    assert server.end(1) != []
    assert server.serving == [2, 3]


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (4, 1), (19, 1), (20, 2), (40, 4)])
def test_at_most_a_tenth_of_the_workers_is_replaced_at_once(workers: int, at_once: int) -> None:
    server = Server.running(workers)
    for serial in list(server.serving):
        server.tell(Reported(serial, Report.RETIRE))
    assert len(server.booting) == at_once
    server.ready_all()
    assert len(server.booting) == 0, "the ones that leave count too: their memory is still there"
    server.end_all_leaving()
    assert len(server.booting) == min(at_once, workers - at_once)


def test_a_successor_that_cannot_boot_does_not_cost_a_worker() -> None:
    server = Server.running(1)
    server.tell(Reported(1, Report.RETIRE))
    for _ in range(5):
        server.end(server.booting[0], Death(code=3))
        server.wait(10.0)
    assert server.serving == [1]
    assert server.leaving == []


def test_a_worker_that_is_old_enough_leaves_when_its_successor_is_ready() -> None:
    server = Server(2, lifetime=3600.0)
    server.ready(1)
    server.wait(10.0)
    server.ready(2)
    assert of(Spawn, server.wait(3589.0)) == []
    assert len(of(Spawn, server.wait(1.0))) == 1
    assert server.has_said("worker 1001 (slot 0, generation 1) is older than max_worker_lifetime (1 h):")
    assert of(Send, server.ready_all()) == [Send(1, Order.LEAVE)]
    server.wait(10.0)
    assert server.serials(State.RETIRING) == [], "the first one counts until it is gone"
    server.end(1)
    assert server.serials(State.RETIRING) == [2]


def test_the_time_to_boot_does_not_count_as_age() -> None:
    """An application that boots longer than its workers may live would never come to rest."""
    server = Server(1, lifetime=30.0)
    server.wait(40.0)
    server.ready(1)
    assert of(Spawn, server.wait(29.0)) == []
    assert len(of(Spawn, server.wait(1.0))) == 1


def test_workers_that_got_old_in_a_reload_need_no_successor() -> None:
    server = Server.running(2, lifetime=70.0)
    server.reload(lifetime=70.0)
    server.wait(20.0)
    assert len(server.booting) == 1, "the batch of the reload, and nobody for who is too old"
    for _ in range(5):
        server.ready_all()
        server.wait(PROOF)
        server.end_all_leaving()
    assert server.generations_serving() == [2, 2]
    assert not server.has_said("max_worker_lifetime")


# ---------------------------------------------------------------- time


def test_a_server_that_runs_wants_no_tick_at_all() -> None:
    assert Server.running(4).machine.next_deadline() is None


def test_the_next_tick_is_the_nearest_of_all_that_can_run_out() -> None:
    server = Server(2, boot_timeout=9.0)
    server.now += 2.0
    server.ready(1)
    assert server.machine.next_deadline() == 109.0
    server.ready(2)
    server.tell(Stop())
    assert server.machine.next_deadline() == 132.0


def test_an_unknown_child_is_ignored() -> None:
    server = Server.running(1)
    for event in (
        Reaped(99, KILLED),
        Reported(99, Report.READY),
        Overdue(99),
        Discard(99),
        HungUp(99),
        Forked(99, 1),
        ForkFailed(99, ""),
    ):
        assert server.tell(event) == []
