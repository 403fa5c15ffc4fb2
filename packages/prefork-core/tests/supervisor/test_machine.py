# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import pytest

from prefork.supervisor.children import SERVING, State
from prefork.supervisor.machine import HEED, PROOF, Machine, Mode
from prefork.supervisor.messages import (
    Abort,
    Action,
    Death,
    Discard,
    Event,
    Exit,
    Explain,
    Forked,
    ForkFailed,
    Gone,
    HungUp,
    Kill,
    Order,
    Overdue,
    Park,
    Plight,
    Policy,
    Reaped,
    Reason,
    Reload,
    Reloaded,
    Report,
    Reported,
    Resize,
    Resized,
    RolledBack,
    Sampled,
    Say,
    Send,
    Serving,
    Spawn,
    Start,
    Stop,
    Stopping,
    StopQueueing,
    Tick,
    Weighed,
)

KILLED = Death(signal=9, signal_name="SIGKILL")
MIB = 1024**2
SEGFAULT = Death(signal=11, signal_name="SIGSEGV")


class Server:
    """A machine whose forks succeed at once, and a clock that moves by hand.

    Each method returns the actions of its step. `booting`, `serving`, `leaving` are serials.
    """

    def __init__(self, workers: int = 2, *, slots: int = 64, **policy: Any) -> None:
        self.policy = Policy(workers, **policy)
        self.machine = Machine(self.policy, slots=slots)
        self.now = 100.0
        self.said: list[str] = []
        self.forks_fail = False
        self.generation = 1
        self.tell(Start())

    @classmethod
    def running(cls, workers: int = 2, **policy: Any) -> Server:
        """Return a server whose workers have been ready for a minute."""
        server = cls(workers, **policy)
        server.ready_all()
        server.wait(60.0)
        return server

    def tell(self, event: Event) -> list[Action]:
        actions = self.machine.step(event, self.now)
        self.said += [action.text for action in actions if isinstance(action, Say)]
        for spawn in [action for action in actions if isinstance(action, Spawn)]:
            fork: Event = Forked(spawn.serial, 1000 + spawn.serial)
            if self.forks_fail:
                fork = ForkFailed(spawn.serial, "no memory")
            actions += self.tell(fork)
        return actions

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick whenever the machine wants one."""
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.machine.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            actions += self.tell(Tick())
        self.now = end
        return actions + self.tell(Tick())

    def ready(self, serial: int) -> list[Action]:
        return self.tell(Reported(serial, Report.READY))

    def ready_all(self) -> list[Action]:
        return [action for serial in self.booting for action in self.ready(serial)]

    def end(self, serial: int, death: Death = Death(code=0)) -> list[Action]:  # noqa: B008 -- frozen
        return self.tell(Reaped(serial, death))

    def end_all_leaving(self) -> list[Action]:
        return [action for serial in self.leaving for action in self.end(serial)]

    def reload(self, **changes: float) -> list[Action]:
        self.generation += 1
        policy = {"workers": self.policy.workers, **changes}
        return self.tell(Reload(self.generation, Policy(**policy)))  # type: ignore[arg-type]

    def finish_reload(self) -> None:
        """Let every new worker boot, and every old one end."""
        for _ in range(100):
            self.ready_all()
            self.wait(PROOF)
            self.end_all_leaving()

    def serials(self, *states: State) -> list[int]:
        return [child.serial for child in self.machine.children.among(*states)]

    @property
    def booting(self) -> list[int]:
        return self.serials(State.BOOTING)

    @property
    def serving(self) -> list[int]:
        return self.serials(*SERVING)

    @property
    def leaving(self) -> list[int]:
        return self.serials(State.STOPPING)

    def generations_serving(self) -> list[int]:
        return [child.generation for child in self.machine.children.among(*SERVING)]

    def has_said(self, words: str) -> bool:
        return any(words in text for text in self.said)


def of(kind: type[Action], actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


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
    assert 4 <= sum("cannot start a worker: no memory" in text for text in server.said) <= 8
    server.forks_fail = False
    server.wait(30.0)
    assert len(server.booting) == 1


def test_forks_that_fail_at_the_start_do_not_end_the_server() -> None:
    server = Server(0)
    server.forks_fail = True
    server.tell(Resize(1))
    server.tell(Reload(2, Policy(1)))
    server.wait(1.0)
    assert server.machine.mode is Mode.STARTING
    server.forks_fail = False
    server.wait(30.0)
    assert len(server.booting) == 1


# ---------------------------------------------------------------- crashes


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


# ---------------------------------------------------------------- timeout


def test_a_worker_whose_threads_are_all_stuck_is_replaced_aborted_and_then_killed() -> None:
    server = Server.running(2)
    actions = server.tell(Overdue(1))
    why = "made no progress within timeout"
    assert of(Abort, actions) == [Abort(1, why, Reason.TIMEOUT)]
    assert [type(action) for action in actions if isinstance(action, Spawn | Abort)] == [Spawn, Abort]
    assert of(Kill, server.wait(0.9)) == []
    assert of(Kill, server.wait(0.1)) == [Kill(1, "did not end on SIGABRT", Reason.TIMEOUT)]


def stuck(plight: Plight = Plight.SERVES, serial: int = 1) -> Overdue:
    return Overdue(serial, Reason.TIMEOUT, plight)


def test_a_worker_with_one_stuck_thread_is_explained_and_serves_until_its_successor_is_ready() -> None:
    server = Server.running(2)
    actions = server.tell(stuck())
    assert of(Explain, actions) == [Explain(1, "made no progress within timeout", Reason.TIMEOUT)]
    assert of(Spawn, actions) == [Spawn(3, 2, 1)]
    assert of(Abort, actions) == of(Send, actions) == []
    assert server.serving == [1, 2]
    assert of(Send, server.ready(3)) == [Send(1, Order.LEAVE)]


def test_a_worker_with_a_stuck_thread_is_explained_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert server.tell(stuck()) == []


def test_what_is_left_in_a_stuck_worker_may_finish_and_then_it_is_aborted() -> None:
    server = Server.running(2)
    server.tell(stuck())
    server.ready(3)
    server.wait(HEED + 1.0)
    assert server.tell(stuck(Plight.LEAVES)) == []
    actions = server.tell(stuck(Plight.EMPTY))
    assert actions == [Abort(1, "has nothing left but what is stuck", Reason.TIMEOUT, explained=True)]


def test_a_stuck_worker_is_aborted_after_graceful_timeout_at_the_latest() -> None:
    server = Server.running(2, graceful_timeout=9.0)
    server.tell(stuck())
    server.ready(3)
    assert of(Abort, server.wait(8.9)) == []
    assert of(Abort, server.wait(0.2)) == [Abort(1, "did not stop in time", Reason.TIMEOUT, explained=True)]


def test_a_stuck_worker_that_does_not_begin_to_leave_is_aborted() -> None:
    """C code has the interpreter's lock, so nobody there reads the order."""
    server = Server.running(2)
    server.tell(stuck())
    server.ready(3)
    server.wait(HEED - 0.1)
    assert server.tell(stuck()) == []
    server.wait(0.2)
    assert of(Abort, server.tell(stuck())) == [
        Abort(1, "does not begin to leave", Reason.TIMEOUT, explained=True)
    ]


def test_a_stuck_worker_whose_other_threads_get_stuck_too_is_aborted_at_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert len(of(Abort, server.tell(stuck(Plight.LOST)))) == 1


def test_a_stuck_worker_that_nobody_needs_any_more_is_told_to_leave_at_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert Send(1, Order.LEAVE) in server.tell(Resize(-1))


def test_stuck_workers_are_replaced_one_after_the_other_and_before_those_that_are_only_old() -> None:
    server = Server.running(3)
    server.tell(Reported(2, Report.RETIRE))
    server.tell(Reported(1, Report.RETIRE))
    server.tell(stuck(serial=3))
    assert server.serials(State.RETIRING) == [2]
    server.ready_all()
    server.end(2)
    assert server.serials(State.RETIRING) == [3]


def test_a_stuck_request_is_found_while_the_server_stops() -> None:
    server = Server.running(1)
    server.tell(Stop())
    assert of(Explain, server.tell(stuck(Plight.LEAVES))) != []
    assert len(of(Abort, server.tell(stuck(Plight.EMPTY)))) == 1


def test_a_new_worker_with_a_stuck_request_rolls_its_reload_back() -> None:
    server = Server.running(1)
    server.reload()
    server.ready(2)
    server.wait(PROOF / 2)
    assert of(RolledBack, server.tell(stuck(serial=2))) == [RolledBack(2, 1)]


def test_request_timeout_is_named() -> None:
    server = Server.running(1)
    actions = server.tell(Overdue(1, Reason.REQUEST_TIMEOUT, Plight.LOST))
    why = "has a request that takes longer than request_timeout"
    assert of(Abort, actions) == [Abort(1, why, Reason.REQUEST_TIMEOUT)]


def test_a_worker_that_is_overdue_twice_is_aborted_once() -> None:
    server = Server.running(1)
    server.tell(Overdue(1))
    assert server.tell(Overdue(1)) == []


# ---------------------------------------------------------------- given up by the operator


@pytest.mark.parametrize("state", [State.BOOTING, State.READY, State.RETIRING, State.STOPPING])
def test_a_worker_that_the_operator_gives_up_is_aborted_whatever_it_does(state: State) -> None:
    server = Server(1) if state is State.BOOTING else Server.running(1)
    if state is State.RETIRING:
        server.tell(Reported(1, Report.RETIRE))
    elif state is State.STOPPING:
        server.tell(Stop())
    assert server.serials(state) == [1]
    assert of(Abort, server.tell(Discard(1))) == [Abort(1, "was given up by the operator", Reason.OPERATOR)]
    assert server.tell(Discard(1)) == []
    assert of(Kill, server.wait(1.0)) == [Kill(1, "did not end on SIGABRT", Reason.OPERATOR)]
    assert server.tell(Discard(1)) == []


def test_its_successor_starts_at_once_and_nobody_has_failed() -> None:
    """It is no boot that failed: neither a first start nor a reload ends by it."""
    first = Server(2)
    assert len(of(Spawn, first.tell(Discard(1)))) == 1
    assert of(Exit, first.end(1, KILLED)) == []
    server = Server.running(2)
    server.reload()
    (new,) = server.booting
    assert len(of(Spawn, server.tell(Discard(new)))) == 1
    assert of(RolledBack, server.end(new, KILLED)) == []
    server.finish_reload()
    assert server.generations_serving() == [2, 2]


def test_a_worker_that_loses_its_channel_but_lives_is_killed_after_the_grace_and_replaced() -> None:
    server = Server.running(1, graceful_timeout=7.0)
    server.tell(HungUp(1))
    assert of(Kill, server.wait(6.9)) == []
    actions = server.wait(0.2)
    assert of(Kill, actions) == [Kill(1, "has closed its channel and does not end", Reason.HANGUP)]
    assert len(of(Spawn, actions)) == 1


# ---------------------------------------------------------------- how many


def test_one_worker_more_and_one_fewer() -> None:
    server = Server.running(2)
    actions = server.tell(Resize(1))
    assert of(Resized, actions) == [Resized(3, 2)]
    assert len(of(Spawn, actions)) == 1
    server.ready_all()
    assert of(Send, server.tell(Resize(-1))) == [Send(1, Order.LEAVE)]


def test_a_worker_that_boots_goes_before_one_that_serves() -> None:
    server = Server.running(2)
    server.tell(Resize(1))
    assert of(Send, server.tell(Resize(-1))) == [Send(3, Order.LEAVE)]


def test_the_last_worker_stays() -> None:
    server = Server.running(1)
    assert server.tell(Resize(-1)) == []


def test_there_are_never_more_workers_than_slots() -> None:
    server = Server(3, slots=4)
    server.ready_all()
    server.tell(Resize(10))
    assert server.machine.target == 4


def test_a_parked_server_has_no_worker_and_wakes_on_a_reload_or_on_more() -> None:
    for wake in (Reload(2, Policy(2)), Resize(1)):
        server = Server.running(2)
        assert len(of(Send, server.tell(Park()))) == 2
        server.end_all_leaving()
        assert server.tell(Resize(-1)) == []
        assert server.machine.next_deadline() is None
        assert len(of(Spawn, server.tell(wake))) == 1


def test_a_changed_number_survives_a_reload_that_does_not_change_it() -> None:
    server = Server.running(2)
    server.tell(Resize(2))
    server.ready_all()
    server.reload()
    assert server.machine.target == 4


def test_a_reload_that_changes_the_number_of_workers_sets_it() -> None:
    server = Server.running(2)
    server.tell(Resize(2))
    server.ready_all()
    assert of(Resized, server.reload(workers=3)) == [Resized(3, 4)]


# ---------------------------------------------------------------- scaling


def sample(server: Server, requests: int, waiting: int = 0, *, times: int = 3) -> list[Action]:
    """Return what follows from looking at a server of one thread for each worker a few times."""
    actions = []
    for _ in range(times):
        server.wait(0.25)
        serving = len(server.serving)
        actions += server.tell(Sampled(serving, serving, min(requests, serving), waiting))
    return actions


def test_a_saturated_server_starts_all_that_it_may_and_says_why() -> None:
    server = Server.running(2, min_workers=1, max_workers=4)
    actions = sample(server, 2, waiting=50)
    assert (len(of(Spawn, actions)), of(Resized, actions)) == (2, [Resized(4, 2)])
    assert server.has_said("workers: 4 (were 2): 100% of the threads busy, 50 connections waiting")


def test_an_idle_server_lets_one_worker_go_after_the_other() -> None:
    server = Server.running(3, min_workers=1, max_workers=4)
    actions = sample(server, 0, times=4 * 30 + 4)
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    actions = sample(server, 0, times=4 * 30)
    assert of(Send, actions) == [Send(2, Order.LEAVE)]
    assert server.serving == [3]


def test_without_max_workers_the_load_changes_nothing() -> None:
    server = Server.running(2)
    assert sample(server, 2, waiting=50, times=20) == []


def test_more_and_fewer_move_the_bounds_and_the_number() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(1))
    assert server.machine.target == 3
    assert server.has_said("workers: 2 to 4 as the load asks for")
    server.ready_all()
    sample(server, 3, waiting=50)
    assert server.machine.target == 4
    server.tell(Resize(-2))
    assert server.machine.target == 2
    sample(server, 2, waiting=50)
    assert server.machine.target == 2, "the operator does not want more"


def test_the_bounds_that_the_operator_moved_and_the_number_survive_a_reload() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(2))
    server.ready_all()
    server.reload(min_workers=1, max_workers=3)
    server.finish_reload()
    assert server.machine.target == len(server.serving) == 4
    sample(server, 4, waiting=50)
    assert server.machine.target == 5


def test_new_bounds_replace_moved_ones_and_hold_at_once() -> None:
    server = Server.running(4, min_workers=1, max_workers=6)
    server.tell(Resize(1))
    server.reload(workers=4, min_workers=1, max_workers=3)
    assert server.machine.target == 3
    server.finish_reload()
    sample(server, 3, waiting=50, times=9)
    assert server.machine.target == 3


def test_a_roll_back_restores_the_bounds_that_the_operator_had_moved() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(2))
    server.ready_all()
    server.reload(min_workers=1, max_workers=2)
    server.end(server.booting[0], Death(code=3))
    assert server.machine.target == len(server.serving) == 4
    sample(server, 4, waiting=50)
    assert server.machine.target == 5


def test_a_reload_that_turns_scaling_off_returns_to_workers() -> None:
    server = Server.running(2, min_workers=1, max_workers=8)
    sample(server, 2, waiting=50)
    server.ready_all()
    assert server.machine.target == 8
    server.reload()
    assert server.machine.target == 2


def test_during_a_reload_the_number_stays() -> None:
    server = Server.running(2, min_workers=1, max_workers=8)
    server.reload(min_workers=1, max_workers=8)
    assert of(Resized, sample(server, 2, waiting=50)) == []


def test_a_parked_server_stays_parked_and_wakes_with_what_the_bounds_say() -> None:
    server = Server.running(2, min_workers=2, max_workers=8)
    server.tell(Park())
    sample(server, 0)
    server.tell(Resize(-1))
    assert server.machine.target == 0
    server.tell(Resize(1))
    server.ready_all()
    sample(server, 0)
    assert server.machine.target == 2


# ---------------------------------------------------------------- recycling


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


def test_a_worker_that_has_grown_too_large_leaves_when_its_successor_is_ready() -> None:
    server = Server.running(2, memory=400 * MIB)
    server.tell(Weighed(1, 100 * MIB))
    actions = server.tell(Weighed(1, 512 * MIB))
    assert (len(of(Spawn, actions)), of(Send, actions), of(Abort, actions)) == (1, [], [])
    assert server.has_said(
        "worker 1001 (slot 0, generation 1) has 512 MiB of its own (max_worker_memory 400 MiB):"
        " starting its successor"
    )
    assert of(Send, server.ready_all()) == [Send(1, Order.LEAVE)]


def test_a_worker_above_the_hard_limit_is_aborted_replaced_and_then_killed() -> None:
    server = Server.running(2, memory_hard=400 * MIB)
    actions = server.tell(Weighed(1, 512 * MIB))
    why = "has 512 MiB of its own (max_worker_memory_hard 400 MiB)"
    assert (of(Abort, actions), len(of(Spawn, actions))) == ([Abort(1, why, Reason.MEMORY)], 1)
    assert of(Kill, server.wait(1.0)) == [Kill(1, "did not end on SIGABRT", Reason.MEMORY)]


def test_a_worker_that_leaves_is_killed_above_the_hard_limit_too() -> None:
    server = Server.running(2, memory_hard=400 * MIB)
    server.tell(Resize(-1))
    (leaving,) = server.leaving
    assert len(of(Abort, server.tell(Weighed(leaving, 512 * MIB)))) == 1
    assert of(Abort, server.tell(Weighed(leaving, 512 * MIB))) == [], "once"


def test_workers_that_are_too_large_at_once_are_started_ever_more_slowly() -> None:
    server = Server.running(1, memory_hard=400 * MIB, memory=300 * MIB)
    starts = []
    for _ in range(5):
        server.tell(Weighed(server.serving[0], 512 * MIB))
        began = server.now
        while not server.booting:
            server.wait(0.05)
        starts.append(server.now - began)
        server.ready_all()
        server.wait(1.0)
    assert starts[0] == 0.0, "the first one had lived"
    assert starts[4] > 2 * starts[2] > 0.0


def test_a_new_generation_that_is_too_large_is_rolled_back() -> None:
    server = Server.running(2)
    server.reload(memory_hard=400 * MIB)
    new = server.booting[0]
    server.ready(new)
    server.wait(0.5)
    server.tell(Weighed(new, 512 * MIB))
    assert server.has_said("reload rolled back: worker 1003 (slot 2, generation 2): has 512 MiB of its own")
    assert server.generations_serving() == [1, 1]


def test_a_weight_of_nobody_changes_nothing() -> None:
    server = Server(1, memory_hard=400 * MIB)
    assert server.tell(Weighed(1, 512 * MIB)) == server.tell(Weighed(77, 512 * MIB)) == []


# ---------------------------------------------------------------- reload


def test_a_reload_starts_a_batch_and_an_old_worker_leaves_for_each_new_one() -> None:
    server = Server.running(4, reload_batch=1)
    actions = server.reload(reload_batch=1)
    assert (len(of(Spawn, actions)), of(Send, actions)) == (1, [])
    server.ready_all()
    actions = server.wait(PROOF)
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    assert len(of(Spawn, actions)) == 1
    assert of(Send, server.ready_all()) == [Send(2, Order.LEAVE)]


def test_the_batch_is_a_quarter_of_the_workers_unless_the_settings_say_more() -> None:
    server = Server.running(8)
    assert len(of(Spawn, server.reload())) == 2
    server = Server.running(2)
    assert len(of(Spawn, server.reload())) == 1
    server = Server.running(2)
    assert len(of(Spawn, server.reload(reload_batch=2))) == 2


def test_no_old_worker_goes_before_the_first_new_one_has_lived_for_a_second() -> None:
    server = Server.running(1)
    server.reload()
    assert of(Send, server.ready_all()) == []
    assert of(Send, server.wait(PROOF - 0.1)) == []
    assert of(Send, server.wait(0.1)) == [Send(1, Order.LEAVE)]


def test_a_complete_reload_says_so_and_lets_the_old_generation_go() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(1.0)
    actions = server.ready_all()
    assert of(Reloaded, actions) == [Reloaded(2)]
    assert server.has_said("reload: generation 2 ready, 2 of 2 replaced, took 1.0 s")
    assert of(Gone, server.end_all_leaving()) == [Gone(1)]


def test_a_slow_boot_only_makes_the_reload_slow() -> None:
    server = Server.running(2)
    server.reload()
    assert of(Send, server.wait(50.0)) == []
    assert server.serving == [1, 2]


@pytest.mark.parametrize("death", [Death(code=3), Death(code=4), SEGFAULT, Death(code=0)])
def test_a_new_worker_that_cannot_boot_rolls_the_reload_back(death: Death) -> None:
    server = Server.running(4)
    server.reload()
    actions = server.end(server.booting[0], death)
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert of(Gone, actions) == [Gone(2)]
    assert of(Spawn, actions) == of(Send, actions) == []
    assert server.serving == [1, 2, 3, 4]
    assert server.has_said("reload rolled back: worker 1005 (slot 4, generation 2)")


def test_a_new_worker_that_hangs_rolls_the_reload_back() -> None:
    server = Server.running(1)
    server.reload(boot_timeout=5.0)
    assert of(RolledBack, server.wait(5.0)) == [RolledBack(2, 1)]


def test_a_new_worker_that_cannot_be_forked_rolls_the_reload_back() -> None:
    server = Server.running(1)
    server.forks_fail = True
    assert of(RolledBack, server.reload()) == [RolledBack(2, 1)]
    assert server.machine.rolled_back == "a worker could not be started: no memory"
    server.forks_fail = False
    server.reload()
    assert server.machine.rolled_back == ""
    assert server.serving == [1]


def test_a_quick_crash_rolls_back_and_replaced_workers_come_again_in_the_old_generation() -> None:
    server = Server.running(4)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.end_all_leaving()
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1, 2, 2]
    crashed = server.serving[-1]
    actions = server.end(crashed, SEGFAULT)
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert [spawn.generation for spawn in actions if isinstance(spawn, Spawn)] == [1, 1]
    assert server.generations_serving() == [1, 1, 2], (
        "the new one that works serves until its successor is ready"
    )
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1, 1, 1]


def test_a_roll_back_whose_workers_cannot_boot_either_keeps_what_serves() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.end_all_leaving()
    server.end(server.booting[0], Death(code=3))
    assert server.generations_serving() == [1, 2]
    for _ in range(5):
        server.end(server.booting[0], Death(code=3))
        server.wait(30.0)
    assert server.generations_serving() == [1, 2]


def test_a_roll_back_restores_the_number_of_workers() -> None:
    server = Server.running(2)
    server.reload(workers=5)
    assert of(Resized, server.end(server.booting[0], Death(code=3))) == [Resized(2, 5)]


def test_a_roll_back_keeps_what_the_operator_asked_for_meanwhile() -> None:
    server = Server.running(2)
    server.reload()
    server.tell(Resize(1))
    server.end(server.booting[0], Death(code=3))
    assert server.machine.target == 3


def test_a_new_worker_that_lived_may_die_without_rolling_back() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(30.0)
    new = server.serving[-1]
    actions = server.end(new, SEGFAULT)
    assert of(RolledBack, actions) == []
    assert server.machine.rollout is not None


def test_fewer_workers_in_the_new_settings_still_replace_one_by_one() -> None:
    server = Server.running(4)
    server.reload(workers=2)
    server.ready_all()
    assert of(Send, server.wait(PROOF)) == [Send(1, Order.LEAVE)]
    assert of(Send, server.ready_all()) == [Send(serial, Order.LEAVE) for serial in (2, 3, 4)]


def test_a_reload_during_a_reload_returns_to_the_last_complete_generation() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.reload()
    assert server.has_said("reload to generation 2 given up for a newer one")
    assert of(RolledBack, server.end(server.booting[-1], Death(code=3))) == [RolledBack(3, 1)]
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1]


def test_a_reload_during_a_reload_completes() -> None:
    server = Server.running(4, reload_batch=1)
    server.reload(reload_batch=1)
    server.ready_all()
    server.reload(reload_batch=1)
    server.finish_reload()
    assert server.generations_serving() == [3, 3, 3, 3]
    assert server.machine.rollout is None


def test_a_reload_before_the_first_worker_is_ready_starts_over() -> None:
    server = Server(2)
    server.reload()
    assert server.leaving == [1, 2]
    server.ready_all()
    assert server.generations_serving() == [2, 2]


def test_a_worker_may_ask_for_a_successor_during_a_reload() -> None:
    server = Server.running(2)
    server.reload()
    server.tell(Reported(1, Report.RETIRE))
    server.ready_all()
    server.tell(Reported(3, Report.RETIRE))
    server.finish_reload()
    assert server.generations_serving() == [2, 2]
    assert 3 not in server.serving


# ---------------------------------------------------------------- stop


def test_a_graceful_stop_drains_waits_and_exits_with_zero() -> None:
    server = Server.running(2)
    actions = server.tell(Stop())
    done = [action for action in actions if not isinstance(action, Say)]
    assert done == [Stopping(), StopQueueing(), Send(1, Order.DRAIN), Send(2, Order.DRAIN)]
    assert server.said[-1] == "stopping: 2 workers to finish what is in hand, within 30.0 s"
    server.end(1)
    assert server.end(2)[-1] == Exit(0)


def test_what_is_left_after_graceful_timeout_is_killed() -> None:
    server = Server.running(2, graceful_timeout=8.0)
    server.tell(Stop())
    server.end(1)
    assert of(Kill, server.wait(7.9)) == []
    assert of(Kill, server.wait(0.1)) == [Kill(2, "did not stop in time", Reason.GRACEFUL_TIMEOUT)]
    assert server.end(2, KILLED)[-1] == Exit(0)


def test_without_graceful_timeout_a_stop_waits_for_ever_but_a_second_one_does_not() -> None:
    server = Server.running(1, graceful_timeout=0.0)
    server.tell(Stop())
    assert of(Kill, server.wait(10_000.0)) == []
    server.tell(Stop())
    assert len(of(Kill, server.wait(2.0))) == 1


def test_a_worker_that_was_told_to_leave_without_limit_has_one_when_the_server_stops() -> None:
    server = Server.running(2, graceful_timeout=0.0)
    server.tell(Resize(-1))
    server.reload(graceful_timeout=8.0)
    server.tell(Stop())
    assert {kill.serial for kill in server.wait(8.0) if isinstance(kill, Kill)} == {1, 2, 3}


def test_drain_delay_serves_on_for_a_while_and_starts_nobody() -> None:
    server = Server.running(2, drain_delay=5.0)
    assert of(Send, server.tell(Stop())) == []
    assert of(Spawn, server.end(1, KILLED)) == []
    assert of(Send, server.wait(4.9)) == []
    assert of(Send, server.wait(0.1)) == [Send(2, Order.DRAIN)]


@pytest.mark.parametrize("drain_delay", [0.0, 5.0])
def test_a_second_signal_makes_the_stop_quick(drain_delay: float) -> None:
    server = Server.running(1, drain_delay=drain_delay)
    server.tell(Stop())
    server.wait(1.0)
    assert of(Send, server.tell(Stop())) == [Send(1, Order.QUICK)]
    assert of(Kill, server.wait(2.0)) == [Kill(1, "did not stop in time", Reason.GRACEFUL_TIMEOUT)]


def test_the_echo_of_a_signal_is_no_second_one_but_another_signal_is() -> None:
    server = Server.running(1)
    server.tell(Stop())
    server.wait(0.9)
    assert server.tell(Stop()) == []
    assert of(Send, server.tell(Stop(quick=True))) == [Send(1, Order.QUICK)]


def test_a_quick_stop_is_quick_from_the_start() -> None:
    server = Server.running(1, drain_delay=60.0)
    stopping, _, send = server.tell(Stop(quick=True))
    assert (stopping, send) == (Stopping(), Send(1, Order.QUICK))
    assert server.said[-1] == "stopping: 1 worker to drop everything, within 2.0 s"


def test_a_stop_during_a_reload_stops_both_generations() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.tell(Stop())
    assert server.leaving == [1, 2, 3]
    assert server.has_said("reload to generation 2 given up: stopping")


def test_a_worker_that_boots_gets_one_second_unless_it_became_ready_just_now() -> None:
    server = Server.running(1)
    server.tell(Resize(2))
    server.tell(Stop())
    server.ready(2)
    assert of(Kill, server.wait(1.0)) == [Kill(3, "was still booting", Reason.GRACEFUL_TIMEOUT)]
    assert server.leaving == [1, 2]


def test_a_stop_before_anything_is_ready_exits_with_zero() -> None:
    server = Server(1)
    server.tell(Stop())
    server.wait(1.0)
    assert server.end(1, KILLED)[-1] == Exit(0)


def test_a_process_that_not_even_kill_ends_does_not_keep_the_server() -> None:
    server = Server.running(1)
    server.tell(Stop(quick=True))
    server.wait(2.0)
    assert of(Exit, server.wait(5.0)) == [Exit(0)]
    assert server.has_said("stuck in the kernel")


def test_reload_and_resize_during_a_stop_change_nothing() -> None:
    server = Server.running(1)
    server.tell(Stop())
    actions = server.reload()
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert of(Gone, actions) == [Gone(2)]
    assert of(Resized, server.tell(Resize(1))) == []
    assert of(Resized, server.tell(Park())) == []


def test_after_the_exit_nothing_is_done_any_more() -> None:
    server = Server.running(1)
    server.tell(Stop())
    server.end(1)
    assert server.machine.mode is Mode.ENDED
    assert server.tell(Stop()) == []


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


# ---------------------------------------------------------------- reload by watched files


def watched(workers: int) -> Server:
    """Return a server whose code is watched, and whose workers have been ready for a minute."""
    server = Server(workers, watched=True, reload_batch=workers)
    server.ready_all()
    server.ready_all()
    server.wait(60.0)
    return server


def test_watched_the_first_worker_is_tried_before_the_others() -> None:
    """So that what is wrong with the code is said once."""
    server = Server(3, watched=True)
    assert server.booting == [1]
    assert len(of(Spawn, server.ready(1))) == 2


@pytest.mark.parametrize("death", [Death(code=3), Death(code=4), SEGFAULT])
def test_watched_a_first_boot_that_fails_waits_for_a_change(death: Death) -> None:
    server = Server(2, watched=True)
    assert of(Exit, server.end(1, death)) == []
    assert server.has_said("nobody serves; waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []
    assert server.machine.next_deadline() is None
    assert len(of(Spawn, server.reload(watched=True))) == 1
    server.ready_all()
    server.ready_all()
    assert server.generations_serving() == [2, 2]


def test_watched_a_first_boot_that_hangs_waits_for_a_change() -> None:
    server = Server(1, watched=True, boot_timeout=5.0)
    assert len(of(Abort, server.wait(5.0))) == 1
    server.end(1, KILLED)
    assert of(Spawn, server.wait(1000.0)) == []
    assert len(of(Spawn, server.reload(watched=True))) == 1


def test_a_server_that_waits_for_a_change_stops_in_peace() -> None:
    server = Server(1, watched=True)
    server.end(1, Death(code=3))
    assert server.tell(Stop())[-1] == Exit(0)


def test_watched_an_old_worker_leaves_as_soon_as_a_new_one_is_ready() -> None:
    server = watched(1)
    server.reload(watched=True)
    actions = server.ready_all()
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    assert of(Reloaded, actions) == [Reloaded(2)]


def test_watched_a_reload_that_fails_says_so_once_and_waits_for_a_change() -> None:
    server = watched(3)
    server.reload(watched=True, reload_batch=3)
    (new,) = server.booting
    server.end(new, Death(code=3))
    assert server.has_said("serving the old code on (generation 1); waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []
    assert server.generations_serving() == [1, 1, 1]


def test_watched_all_others_follow_the_first_new_worker_at_once() -> None:
    server = watched(3)
    server.reload(watched=True, reload_batch=3)
    assert len(of(Spawn, server.ready_all())) == 2
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [2, 2, 2]


def test_watched_a_successor_that_cannot_boot_is_not_tried_again_without_a_change() -> None:
    """It imports what is on disk by then, and that can be half an edit."""
    server = watched(2)
    server.end(1, KILLED)
    server.end(server.booting[0], Death(code=3))
    assert server.has_said("1 of 2 workers serve on; waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []


def test_watched_a_worker_that_dies_in_service_is_replaced() -> None:
    server = watched(1)
    server.reload(watched=True)
    server.ready_all()
    server.end(2, SEGFAULT)
    assert len(of(Spawn, server.wait(1.0))) == 1
