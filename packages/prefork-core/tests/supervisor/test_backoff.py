# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.supervisor.backoff import CALM, FIRST_WAIT, LONGEST_AFTER_READY, LONGEST_WAIT, Backoff


def failed(times: int, *, was_ready: bool = False) -> tuple[Backoff, float]:
    """Return a back-off after so many failures in a row, and the time."""
    backoff, now = Backoff(), 100.0
    for _ in range(times):
        born = max(now, backoff.next_at)
        now = born + 0.01
        backoff.failed(born, now, was_ready=was_ready)
    return backoff, now


def test_without_a_failure_everybody_may_start() -> None:
    assert Backoff().allowance(8, 0, 100.0) == 8


def test_nobody_starts_during_the_wait_and_one_after_it() -> None:
    backoff, now = failed(1)
    assert backoff.allowance(8, 0, now) == 0
    assert backoff.allowance(8, 0, now + FIRST_WAIT) == 1
    assert backoff.allowance(8, 1, now + FIRST_WAIT) == 0


def test_nobody_starts_when_nobody_is_wanted() -> None:
    backoff, now = failed(1)
    assert backoff.allowance(0, 0, now + FIRST_WAIT) == 0


def test_the_wait_doubles_up_to_a_bound() -> None:
    waits = []
    for times in (1, 2, 3, 50, 5_000):
        backoff, now = failed(times)
        waits.append(round(backoff.next_at - now, 6))
    assert waits == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_the_wait_after_one_that_was_ready_stays_short() -> None:
    waits = []
    for times in (1, 2, 4, 5, 5_000):
        backoff, now = failed(times, was_ready=True)
        waits.append(round(backoff.next_at - now, 6))
    short = LONGEST_AFTER_READY
    assert waits == [FIRST_WAIT, 2 * FIRST_WAIT, 8 * FIRST_WAIT, short, short]


def test_it_stays_short_too_where_starts_have_failed_before() -> None:
    backoff, now = failed(7)
    now = backoff.next_at
    backoff.failed(now, now, was_ready=True)
    assert backoff.next_at == now + LONGEST_AFTER_READY


def test_many_crashes_of_who_was_ready_do_not_make_the_wait_of_a_failed_start_the_longest() -> None:
    backoff, now = failed(50, was_ready=True)
    now = backoff.next_at
    backoff.failed(now, now)
    assert round(backoff.next_at - now, 6) == 16 * FIRST_WAIT


def test_workers_from_before_the_last_failure_are_the_same_failure() -> None:
    backoff, now = failed(3)
    next_at = backoff.next_at
    backoff.failed(now - 1.0, now + 0.05)
    assert backoff.next_at == next_at


def test_success_lets_the_others_follow_but_the_next_wait_is_longer_still() -> None:
    backoff, now = failed(2)
    now += 1.0
    backoff.succeeded()
    assert backoff.allowance(8, 0, now) == 8
    backoff.failed(now, now)
    assert round(backoff.next_at - now, 6) == 4 * FIRST_WAIT


def test_a_long_calm_or_a_long_life_starts_the_count_again() -> None:
    backoff, now = failed(6)
    now = backoff.next_at + CALM + 1.0
    backoff.failed(now, now)
    assert round(backoff.next_at - now, 6) == FIRST_WAIT
    backoff, now = failed(6)
    backoff.forget()
    assert backoff.allowance(3, 0, now) == 3


def test_one_that_probes_from_the_beginning_starts_the_others_when_the_first_is_ready() -> None:
    backoff = Backoff(probing=True)
    assert backoff.allowance(8, 0, 100.0) == 1
    assert backoff.allowance(7, 1, 100.0) == 0
    backoff.succeeded()
    assert backoff.allowance(7, 0, 100.0) == 7


def test_on_hold_nobody_starts_any_more() -> None:
    backoff = Backoff()
    backoff.hold()
    assert backoff.allowance(8, 0, 1e9) == 0
