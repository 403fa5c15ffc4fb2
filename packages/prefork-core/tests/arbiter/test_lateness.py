# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

from prefork.arbiter.lateness import PACE, Found, Limits, Suspicion, look, next_look
from prefork.process.scoreboard import Phase, Scoreboard, Slot, Stage
from prefork.settings import Settings
from prefork.supervisor.messages import Plight, Reason

TIMEOUT = Limits(timeout=30.0)
WHOLE = Limits(request_timeout=60.0)
SLOW = Limits(slow_request=5.0)


def slot_with(threads: int = 4) -> Slot:
    slot = Scoreboard(1).slot(0)
    slot.clear(1, Stage.READY, threads)
    for number in range(threads):
        slot.thread(number).belong_to(100 + number)
    return slot


def begin(slot: Slot, number: int, started: float, deadline: float = 0.0) -> None:
    """Begin a request whose deadline is 30 seconds later, unless said otherwise."""
    slot.thread(number).begin(b"GET /", started, deadline or started + 30.0)


def found(slot: Slot, limits: Limits, now: float, suspicion: Suspicion | None = None) -> Found:
    result = look(slot, limits, suspicion or Suspicion(), now)
    assert result is not None
    return result


def reasons(found: Found) -> list[Reason]:
    return [late.reason for late in found.stuck]


# What is stuck


def test_a_request_is_stuck_when_its_deadline_has_passed_and_not_before() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    assert look(slot, TIMEOUT, Suspicion(), 129.9) is None
    assert reasons(found(slot, TIMEOUT, 130.0)) == [Reason.TIMEOUT]


def test_progress_does_not_help_against_request_timeout() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    slot.thread(0).deadline = 1000.0
    assert look(slot, WHOLE, Suspicion(), 159.9) is None
    assert reasons(found(slot, WHOLE, 160.0)) == [Reason.REQUEST_TIMEOUT]


def test_waits_for_the_client_do_not_count_for_request_timeout() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0, inf)
    slot.thread(0).phase = Phase.READING
    assert look(slot, WHOLE, Suspicion(), 900.0) is None
    slot.thread(0).phase = Phase.APPLICATION
    slot.thread(0).count_waited(800.0)
    assert look(slot, WHOLE, Suspicion(), 950.0) is None
    assert reasons(found(slot, WHOLE, 960.0)) == [Reason.REQUEST_TIMEOUT]


def test_a_request_that_has_asked_for_time_gets_it() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    slot.thread(0).allowed = 400.0
    both = Limits(timeout=30.0, request_timeout=60.0)
    assert look(slot, both, Suspicion(), 399.9) is None
    assert len(found(slot, both, 400.0).stuck) == 1


def test_asking_for_less_time_than_there_is_takes_none_away() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    slot.thread(0).allowed = 101.0
    assert look(slot, TIMEOUT, Suspicion(), 120.0) is None


def test_the_next_request_has_not_asked_for_time() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    slot.thread(0).allowed = 400.0
    slot.thread(0).end()
    begin(slot, 0, 110.0)
    assert len(found(slot, TIMEOUT, 140.0).stuck) == 1


def test_a_connection_that_was_taken_over_is_never_late() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    slot.thread(0).deadline = 0.0
    slot.thread(0).phase = Phase.TAKEN
    every = Limits(30.0, 60.0, 5.0)
    assert look(slot, every, Suspicion(), 9000.0) is None
    assert next_look(slot, every, Suspicion(), 9000.0) == 9005.0


def test_the_oldest_of_several_is_in_front() -> None:
    slot = slot_with()
    begin(slot, 0, 101.0)
    begin(slot, 1, 100.0)
    begin(slot, 2, 190.0)
    assert [late.current.started for late in found(slot, TIMEOUT, 200.0).stuck] == [100.0, 101.0]


# What is left of the worker


def test_a_worker_whose_threads_are_all_stuck_is_lost() -> None:
    slot = slot_with(2)
    begin(slot, 0, 100.0)
    begin(slot, 1, 101.0)
    assert found(slot, TIMEOUT, 130.0).plight is Plight.SERVES
    assert found(slot, TIMEOUT, 131.0).plight is Plight.LOST


def test_a_worker_with_one_thread_is_lost_with_its_request() -> None:
    slot = slot_with(1)
    begin(slot, 0, 100.0)
    assert found(slot, TIMEOUT, 130.0).plight is Plight.LOST


def test_a_worker_that_leaves_is_empty_when_two_looks_show_nothing_but_what_is_stuck() -> None:
    slot, suspicion = slot_with(), Suspicion()
    begin(slot, 0, 100.0)
    begin(slot, 1, 129.0)
    slot.stage = Stage.STOPPING
    slot.connections = 2
    plights = [found(slot, TIMEOUT, 130.0, suspicion).plight]
    slot.thread(1).end()
    plights.append(found(slot, TIMEOUT, 131.0, suspicion).plight)
    slot.connections = 1
    plights += [found(slot, TIMEOUT, at, suspicion).plight for at in (132.0, 133.0)]
    assert plights == [Plight.LEAVES, Plight.LEAVES, Plight.LEAVES, Plight.EMPTY]


# What is slow


def test_a_slow_request_is_found_once() -> None:
    slot, suspicion = slot_with(), Suspicion()
    begin(slot, 0, 100.0)
    assert look(slot, SLOW, suspicion, 104.9) is None
    assert [current.thread for current in found(slot, SLOW, 105.0, suspicion).slow] == [100]
    assert look(slot, SLOW, suspicion, 106.0) is None
    begin(slot, 1, 106.0)
    assert [current.thread for current in found(slot, SLOW, 111.0, suspicion).slow] == [101]


def test_the_next_slow_request_of_a_thread_is_found_too() -> None:
    slot, suspicion = slot_with(), Suspicion()
    begin(slot, 0, 100.0)
    found(slot, SLOW, 105.0, suspicion)
    slot.thread(0).end()
    begin(slot, 0, 106.0)
    assert len(found(slot, SLOW, 111.0, suspicion).slow) == 1


def test_a_slow_request_that_goes_on_to_its_client_and_back_is_found_once() -> None:
    slot, suspicion = slot_with(), Suspicion()
    begin(slot, 0, 100.0)
    found(slot, SLOW, 105.0, suspicion)
    slot.thread(0).phase = Phase.WRITING
    assert look(slot, SLOW, suspicion, 106.0) is None
    slot.thread(0).phase = Phase.APPLICATION
    assert look(slot, SLOW, suspicion, 107.0) is None


def test_a_slow_client_is_no_slow_request() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0, inf)
    slot.thread(0).phase = Phase.WRITING
    assert look(slot, SLOW, Suspicion(), 900.0) is None


# When to look again


def test_an_idle_worker_is_looked_at_after_the_shortest_limit() -> None:
    assert next_look(slot_with(), Limits(30.0, 60.0, 5.0), Suspicion(), 100.0) == 105.0
    assert next_look(slot_with(), Limits(), Suspicion(), 100.0) == inf


def test_a_busy_worker_is_looked_at_when_its_first_request_may_be_late() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0)
    begin(slot, 1, 101.0)
    assert next_look(slot, TIMEOUT, Suspicion(), 110.0) == 130.0
    assert next_look(slot, SLOW, Suspicion(), 103.0) == 105.0


def test_a_worker_with_a_stuck_request_is_looked_at_every_moment_and_not_without_end() -> None:
    slot, suspicion = slot_with(), Suspicion()
    begin(slot, 0, 100.0)
    found(slot, TIMEOUT, 130.0, suspicion)
    assert next_look(slot, TIMEOUT, suspicion, 130.0) == 130.0 + PACE
    assert look(slot, TIMEOUT, suspicion, 130.1) is None
    assert look(slot, TIMEOUT, suspicion, 130.0 + PACE) is not None


def test_a_request_that_waits_for_its_client_beyond_its_time_is_looked_at_again_soon() -> None:
    slot = slot_with()
    begin(slot, 0, 100.0, inf)
    slot.thread(0).phase = Phase.READING
    assert next_look(slot, WHOLE, Suspicion(), 110.0) == 160.0
    assert next_look(slot, WHOLE, Suspicion(), 500.0) == 501.0


def test_a_limit_of_zero_is_none() -> None:
    assert Limits.of(Settings(timeout=0.0, blocked_loop=0.0)) == Limits()
    given = Settings(timeout=1.0, request_timeout=2.0, slow_request=3.0, blocked_loop=4.0)
    assert Limits.of(given) == Limits(1.0, 2.0, 3.0, 4.0)


# Loops


BLOCKED = Limits(timeout=30.0, blocked_loop=2.0)


def test_a_loop_that_does_not_turn_is_found_once_and_lost_at_its_timeout() -> None:
    slot = slot_with()
    suspicion = Suspicion()
    slot.due = 100.0
    assert look(slot, BLOCKED, suspicion, 101.9) is None
    first = found(slot, BLOCKED, 102.0, suspicion)
    assert (first.is_blocked, first.is_lost, first.plight) == (True, False, Plight.SERVES)
    assert look(slot, BLOCKED, suspicion, 129.9) is None
    last = found(slot, BLOCKED, 130.0, suspicion)
    assert (last.is_blocked, last.is_lost, last.plight) == (False, True, Plight.LOST)


def test_a_loop_that_is_blocked_again_is_found_again() -> None:
    slot = slot_with()
    suspicion = Suspicion()
    for due in (100.0, 110.0):
        slot.due = due
        assert found(slot, BLOCKED, due + 2.0, suspicion).is_blocked


def test_a_loop_is_looked_at_when_it_may_be_blocked_and_again_when_it_may_be_lost() -> None:
    slot = slot_with()
    suspicion = Suspicion()
    slot.due = 100.0
    assert next_look(slot, BLOCKED, suspicion, 100.0) == 102.0
    assert found(slot, BLOCKED, 102.0, suspicion).is_blocked
    assert next_look(slot, BLOCKED, suspicion, 102.5) == 130.0


def test_a_worker_without_a_loop_has_none_that_blocks() -> None:
    assert look(slot_with(), BLOCKED, Suspicion(), 1e6) is None
    assert next_look(slot_with(), BLOCKED, Suspicion(), 100.0) == 130.0
