# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest
from supervised import CLEAN, Server, of

from prefork.supervisor.fleet import Mode
from prefork.supervisor.kinship import PROOF, Phase
from prefork.supervisor.messages import (
    Exit,
    Order,
    OtherLeaves,
    Park,
    PredecessorGone,
    Reload,
    Resize,
    RolledBack,
    Send,
    Spawn,
    StartSuccessor,
    StartTemplate,
    Stop,
    StopQueueing,
    StopSuccessor,
    StopTemplate,
    SuccessorEnded,
    SuccessorFailed,
    SuccessorForked,
    SuccessorReady,
    TakeOver,
    TellReady,
    TemplateEnded,
    Upgrade,
)


def upgrading(workers: int = 2, *, hand_over: bool = False, **policy: Any) -> Server:
    """Return a server whose successor is starting."""
    server = Server.running(workers, **policy)
    assert of(StartSuccessor, server.tell(Upgrade(hand_over)))
    server.tell(SuccessorForked(4712))
    return server


def beside(workers: int = 2, **policy: Any) -> Server:
    """Return a server whose successor is ready."""
    server = upgrading(workers, **policy)
    server.tell(SuccessorReady())
    return server


def succeeding(workers: int = 2, **policy: Any) -> Server:
    """Return a server that has another one before it."""
    return Server(workers, predecessor=4711, **policy)


def phase(server: Server) -> Phase:
    return server.fleet.kinship.phase


def test_handing_over_ends_the_server_when_its_workers_have_ended() -> None:
    server = upgrading(2, hand_over=True)
    actions = server.tell(SuccessorReady())
    assert of(Send, actions) == [Send(1, Order.LEAVE), Send(2, Order.LEAVE)]
    assert of(StopQueueing, actions), "for what the other one does not listen on"
    assert not of(Exit, server.end(1))
    assert server.fleet.mode is Mode.RUNNING
    assert of(Exit, server.end(2)) == [Exit(0)]
    assert server.has_said("upgrade: all is left to arbiter 4712")


def test_a_template_ends_last_so_that_workers_could_come_back() -> None:
    server = upgrading(1, hand_over=True, preload=True)
    assert not of(StopTemplate, server.tell(SuccessorReady()))
    assert of(StopTemplate, server.end(1)) == [StopTemplate(1)]
    assert server.fleet.mode is Mode.RUNNING
    assert of(Exit, server.tell(TemplateEnded(1, CLEAN))) == [Exit(0)]


def test_until_then_another_template_can_be_started() -> None:
    server = upgrading(1, hand_over=True, preload=True)
    server.tell(SuccessorReady())
    server.end(1)
    server.tell(SuccessorEnded("killed by SIGKILL"))
    assert of(StartTemplate, server.tell(TemplateEnded(1, CLEAN))) == [StartTemplate(2, 1)]


@pytest.mark.parametrize("event", [SuccessorEnded("killed by SIGKILL"), OtherLeaves()])
def test_a_successor_that_fails_while_all_is_handed_over_gives_it_back(event: Any) -> None:
    server = upgrading(2, hand_over=True)
    server.tell(SuccessorReady())
    server.end(1)
    assert len(of(Spawn, server.tell(event))) == 2
    assert server.fleet.target == 2
    server.end(2)
    server.ready_all()
    assert len(server.serving) == 2
    assert server.fleet.mode is Mode.RUNNING


def test_what_the_operator_has_moved_comes_back_too() -> None:
    server = upgrading(2, hand_over=True)
    server.tell(Resize(1))
    server.tell(SuccessorReady())
    server.tell(OtherLeaves())
    assert server.fleet.target == 3


@pytest.mark.parametrize("event", [Resize(1), Park(), Upgrade()])
def test_nothing_else_is_done_while_all_is_handed_over(event: Any) -> None:
    server = upgrading(2, hand_over=True)
    server.tell(SuccessorReady())
    assert not of(Spawn, server.tell(event))
    assert server.fleet.target == 0


def test_a_reload_is_ignored_while_all_is_handed_over() -> None:
    server = upgrading(2, hand_over=True)
    server.tell(SuccessorReady())
    assert of(RolledBack, server.tell(Reload(2, server.policy)))
    assert server.fleet.generation == 1


def test_by_hand_nobody_leaves_before_the_operator_says_so() -> None:
    server = beside(2)
    assert len(server.serving) == 2
    assert of(Send, server.tell(Park())) == [Send(1, Order.LEAVE), Send(2, Order.LEAVE)]
    assert not of(Exit, server.end_all_leaving())
    assert of(Exit, server.tell(Stop())) == [Exit(0)]


def test_an_old_one_without_workers_takes_back_what_the_new_one_leaves() -> None:
    server = beside(3)
    server.tell(Park())
    server.end_all_leaving()
    assert len(of(Spawn, server.tell(OtherLeaves()))) == 3
    assert not of(Spawn, server.tell(SuccessorEnded("exit code 0")))
    assert phase(server) is Phase.ALONE


def test_a_server_that_was_parked_before_stays_parked() -> None:
    server = Server.running(2)
    server.tell(Park())
    server.end_all_leaving()
    server.tell(Upgrade())
    server.tell(SuccessorReady())
    assert not of(Spawn, server.tell(SuccessorEnded("exit code 3")))


def test_one_that_serves_again_already_gets_no_more() -> None:
    server = beside(2)
    server.tell(Park())
    server.end_all_leaving()
    server.reload()
    server.ready_all()
    assert not of(Spawn, server.tell(SuccessorEnded("exit code 0")))
    assert server.fleet.target == 2


def test_a_stopped_server_takes_nothing_back() -> None:
    server = beside(2)
    server.tell(Stop())
    assert not of(Spawn, server.tell(SuccessorEnded("exit code 3")))


def test_queues_run_dry_when_the_other_one_stops_too() -> None:
    """Before that the listeners were held for it, so the first time has done nothing."""
    server = beside(2)
    assert of(StopQueueing, server.tell(Stop()))
    assert of(StopQueueing, server.tell(OtherLeaves()))


def test_a_stop_waits_for_the_end_of_a_successor_that_is_not_ready() -> None:
    server = upgrading(1)
    assert of(StopSuccessor, server.tell(Stop())) == [StopSuccessor(quick=False)]
    assert not of(Exit, server.end(1))
    assert of(Exit, server.tell(SuccessorEnded("exit code 0"))) == [Exit(0)]


def test_a_quick_stop_makes_its_end_quick() -> None:
    server = upgrading(1)
    assert of(StopSuccessor, server.tell(Stop(quick=True))) == [StopSuccessor(quick=True)]


def test_a_failure_leaves_everything_as_it_was() -> None:
    server = upgrading(2, hand_over=True)
    assert not of(Send, server.tell(SuccessorEnded("exit code 3")))
    assert len(server.serving) == 2
    assert server.machine.no_upgrade == ""


def test_no_fork_is_a_failure() -> None:
    server = Server.running(2)
    server.tell(Upgrade())
    server.tell(SuccessorFailed("no memory"))
    assert server.has_said("upgrade failed: no memory; this one serves on")


def refused_because_it_starts() -> Server:
    return Server(2)


def refused_because_of_a_reload() -> Server:
    server = Server.running(2)
    server.reload()
    return server


def refused_because_it_stops() -> Server:
    server = Server.running(2)
    server.tell(Stop())
    return server


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (refused_because_it_starts(), "no worker has been ready yet"),
        (refused_because_of_a_reload(), "a reload is under way"),
        (refused_because_it_stops(), "the server is stopping"),
        (upgrading(), "an upgrade is under way: arbiter 4712 is starting"),
    ],
)
def test_there_is_a_time_for_upgrades(server: Server, why: str) -> None:
    assert server.machine.no_upgrade == why
    assert not of(StartSuccessor, server.tell(Upgrade()))
    assert server.has_said(f"upgrade refused: {why}")


# The other side


def test_a_successor_is_ready_when_all_its_workers_are() -> None:
    server = succeeding(2)
    server.ready(1)
    assert not of(TellReady, server.wait(5.0))
    assert of(TellReady, server.ready(2))


def test_a_successor_is_ready_when_its_first_worker_has_lived_for_a_while() -> None:
    server = succeeding(2)
    assert not of(TellReady, server.ready_all())
    assert not of(TellReady, server.wait(PROOF / 2))
    assert of(TellReady, server.wait(PROOF / 2))


def test_it_takes_over_whether_it_is_ready_or_not() -> None:
    server = succeeding(2)
    assert of(TakeOver, server.tell(PredecessorGone()))
    assert not of(TellReady, server.ready_all() + server.wait(5.0))
    assert server.machine.no_upgrade == ""


def test_one_that_drains_lets_the_queue_run_dry_when_its_predecessor_goes() -> None:
    server = succeeding(1)
    server.ready_all()
    server.tell(Stop())
    assert of(StopQueueing, server.tell(PredecessorGone()))


@pytest.mark.parametrize(
    ("policy", "by", "moved"), [({}, 3, 3), ({}, -1, -1), ({"max_workers": 4}, 1, 1), ({}, 0, 0)]
)
def test_a_successor_can_be_told_by_how_much_the_number_was_moved(
    policy: dict[str, int], by: int, moved: int
) -> None:
    server = Server.running(2, **policy)
    server.tell(Resize(by))
    assert server.machine.moved == moved


def test_the_number_that_a_parked_server_had_is_what_counts() -> None:
    server = beside(2)
    server.tell(Resize(1))
    server.tell(Park())
    assert server.machine.moved == 1
