# SPDX-License-Identifier: MIT
"""What a service manager hears, beside a supervisor without processes."""

from __future__ import annotations

import os
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from prefork.arbiter.notices import AHEAD, PULSE, Notices, is_bounded, makes_progress, status_line
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Death,
    Event,
    Forked,
    Overdue,
    Park,
    Plight,
    Policy,
    Reaped,
    Reason,
    Reload,
    Report,
    Reported,
    Spawn,
    Start,
    Stop,
    Tick,
)

SERVES = "STATUS=2 workers ready, 0 busy, generation 1"
EXTENDED = f"EXTEND_TIMEOUT_USEC={int(AHEAD * 1e6)}"


class Manager:
    """Notes what it is told."""

    def __init__(self, watchdog: float = 0.0, *, is_there: bool = True) -> None:
        self.watchdog = watchdog
        self.is_there = is_there
        self.told: list[str] = []

    def tell(self, *states: str) -> bool:
        self.told += states
        return self.is_there

    def heard(self) -> list[str]:
        told, self.told = self.told, []
        return told


class Server:
    """A supervisor whose forks succeed, its manager, and a clock that moves by hand."""

    def __init__(
        self, workers: int = 2, *, manager: Manager | None = None, waits: bool = False, **policy: Any
    ) -> None:
        self.policy = Policy(workers, **policy)
        self.machine = Machine(self.policy)
        self.fleet = self.machine.fleet
        self.now = 100.0
        self.busy = 0
        self.manager = manager or Manager()
        anyone: Any = self.manager
        self.notices = Notices(anyone, waits=waits)
        self.tell(Start())

    def tell(self, event: Event) -> None:
        for action in self.machine.step(event, self.now):
            if isinstance(action, Spawn):
                self.tell(Forked(action.serial, 1000 + action.serial))

    def ready(self) -> None:
        for child in self.fleet.children:
            self.tell(Reported(child.serial, Report.READY))

    def among(self, serials: Any) -> list[Any]:
        """Be the brood: its first worker has all requests."""
        hands = [self.busy, *[0] * (len(list(serials)) - 1)]
        slots = [SimpleNamespace(in_hand=lambda hand=hand: (hand, None)) for hand in hands]
        return [SimpleNamespace(slot=slot) for slot in slots]

    def turn(self, seconds: float = 0.0) -> list[str]:
        """Let time pass, and return what the manager is told then."""
        self.now += seconds
        self.tell(Tick())
        brood: Any = self
        self.notices.turn(self.fleet, brood, self.now)
        return self.manager.heard()


def running(**more: Any) -> Server:
    """Return a server that has said all there is to say."""
    server = Server(**more)
    server.ready()
    server.turn(60.0)
    server.turn(60.0)
    return server


def test_the_line_says_how_many_serve_and_how_many_threads_are_busy() -> None:
    server = Server(3)
    assert server.turn() == ["STATUS=starting: 0 of 3 workers ready, generation 1", EXTENDED]
    server.ready()
    server.busy = 2
    assert server.turn(PULSE) == ["STATUS=3 workers ready, 2 busy, generation 1"]
    server.tell(Stop())
    assert server.turn(PULSE)[0] == "STATUS=stopping: 3 workers left, 2 busy"


def test_it_is_told_when_it_changes_and_once_a_second_at_most() -> None:
    server = running()
    assert server.turn(PULSE) == []
    server.busy = 1
    assert server.turn(PULSE / 2) == []
    assert server.notices.next_at == server.now + PULSE / 2
    assert server.turn(PULSE / 2) == ["STATUS=2 workers ready, 1 busy, generation 1"]
    server.busy = 2
    assert server.turn(PULSE / 2) == []


def test_ready_comes_with_the_pid_and_its_line_follows_at_once() -> None:
    server = Server(1)
    server.turn()
    server.ready()
    server.notices.serving()
    assert server.manager.heard() == ["READY=1", f"MAINPID={os.getpid()}"]
    assert server.turn() == ["STATUS=1 worker ready, 0 busy, generation 1"]


def test_a_reload_begins_with_the_time_and_ends_with_ready() -> None:
    server = running()
    server.notices.reloading(server.fleet, server.now)
    assert server.manager.heard() == ["RELOADING=1", f"MONOTONIC_USEC={int(server.now * 1e6)}"]
    server.tell(Reload(2, server.policy))
    assert server.turn() == ["STATUS=reloading: 0 of 2 workers of generation 2 ready, 2 serve", EXTENDED]
    told: list[str] = []
    while server.fleet.rollout is not None:
        assert "READY=1" not in told
        server.ready()
        told = server.turn(PULSE)
    assert told == ["READY=1", "STATUS=2 workers ready, 0 busy, generation 2"]
    assert server.turn(PULSE) == []


def test_one_that_is_rolled_back_ends_with_ready_too_and_with_the_reason() -> None:
    server = running()
    server.notices.reloading(server.fleet, server.now)
    server.tell(Reload(2, server.policy))
    server.turn()
    new = next(child for child in server.fleet.children if child.generation == 2)
    server.tell(Reaped(new.serial, Death(code=3)))
    told = server.turn()
    assert told[0] == "READY=1"
    assert told[1].startswith(
        "STATUS=2 workers ready, 0 busy, generation 1; the last reload was rolled back: "
    )
    assert told[1].endswith("exit code 3: it could not boot")


def test_one_that_is_refused_ends_at_once_and_with_the_reason_until_the_next() -> None:
    server = running()
    server.notices.reloading(server.fleet, server.now)
    server.manager.heard()
    server.notices.refused("there is no user 'web'\n  hint: none")
    refused = (
        "STATUS=2 workers ready, 0 busy, generation 1; the last reload was refused: there is no user 'web'"
    )
    assert server.turn()[-2:] == ["READY=1", refused]
    server.notices.reloading(server.fleet, server.now)
    assert server.turn()[-2:] == ["READY=1", "STATUS=2 workers ready, 0 busy, generation 1"]


def test_a_reload_of_a_server_that_is_not_ready_is_none_for_the_manager() -> None:
    """It would take the READY after it for that of the start."""
    server = Server(1)
    server.notices.reloading(server.fleet, server.now)
    server.tell(Reload(2, server.policy))
    assert "READY=1" not in server.turn()


def test_a_stop_ends_a_reload_without_another_ready() -> None:
    server = running()
    server.notices.reloading(server.fleet, server.now)
    server.tell(Reload(2, server.policy))
    server.tell(Stop())
    server.notices.stopping()
    assert server.manager.heard()[-1] == "STOPPING=1"
    assert "READY=1" not in server.turn()


def test_the_watchdog_is_petted_twice_as_often_as_it_must_be() -> None:
    server = Server(1, manager=Manager(watchdog=20.0))
    assert "WATCHDOG=1" in server.turn()
    assert "WATCHDOG=1" not in server.turn(9.0)
    assert server.notices.next_at <= server.now + 1.0
    assert "WATCHDOG=1" in server.turn(1.0)


def stuck(server: Server) -> None:
    for child in server.fleet.children:
        server.tell(Overdue(child.serial, Reason.TIMEOUT, Plight.SERVES))


def test_it_is_not_petted_while_every_worker_is_stuck() -> None:
    """Here without a successor, because there is no room for one."""
    server = Server(2, manager=Manager(watchdog=2.0))
    server.ready()
    first, second = server.fleet.children
    first.stuck = second.stuck = Reason.TIMEOUT
    assert not makes_progress(server.fleet)
    assert "WATCHDOG=1" not in server.turn()
    second.stuck = None
    assert "WATCHDOG=1" in server.turn()


def test_a_successor_that_boots_is_progress() -> None:
    server = Server(1)
    server.ready()
    server.turn(60.0)
    stuck(server)
    assert len(server.fleet.children) == 2
    assert makes_progress(server.fleet)


def test_a_server_that_is_to_have_no_worker_makes_progress() -> None:
    server = running()
    server.tell(Park())
    assert makes_progress(server.fleet)


@pytest.mark.parametrize("limit", [30.0, 0.0])
def test_the_managers_limit_is_moved_where_a_setting_is_the_limit(limit: float) -> None:
    server = Server(1, boot_timeout=limit, graceful_timeout=limit)
    assert (EXTENDED in server.turn()) is bool(limit)
    server.ready()
    bounded = is_bounded(server.fleet)
    server.tell(Stop())
    assert [bounded, is_bounded(server.fleet)] == [False, bool(limit)]


def test_nobody_is_told_where_there_is_no_manager() -> None:
    server = Server(1, manager=Manager(is_there=False))
    assert server.turn(60.0) == []
    assert server.notices.next_at == float("inf")


def test_a_reason_of_several_lines_does_not_become_a_state() -> None:
    fleet = running().fleet
    line = status_line(fleet, lambda: 0, "no\nREADY=1")
    assert line == "2 workers ready, 0 busy, generation 1; the last reload was refused: no"


def test_one_that_succeeds_another_says_nothing_before_it_has_taken_over() -> None:
    """Until then systemd would take its words for the other one's, or its end for the service's."""
    server = Server(waits=True, manager=Manager(watchdog=4.0))
    server.ready()
    server.notices.serving()
    server.notices.stopping()
    assert server.turn(60.0) == []
    assert server.notices.next_at == inf
    server.notices.take_over(server.fleet)
    assert server.manager.heard() == ["READY=1", f"MAINPID={os.getpid()}"]
    assert {"WATCHDOG=1", SERVES} <= set(server.turn())


def test_one_that_has_taken_over_before_it_could_answer_is_ready_later() -> None:
    server = Server(waits=True)
    server.notices.take_over(server.fleet)
    assert server.manager.heard() == []
    server.notices.serving()
    assert server.manager.heard() == ["READY=1", f"MAINPID={os.getpid()}"]
