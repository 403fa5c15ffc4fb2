# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.net.pace import Pace


def pace(timeout: float = 30.0, rate: int = 100) -> Pace:
    return Pace(timeout, rate, 1000.0)


def survives(gap: float, count: int, *, timeout: float = 30.0, rate: int = 100, seconds: float = 600) -> bool:
    """Return whether a peer that moves `count` bytes every `gap` seconds is let go on."""
    watched, now = pace(timeout, rate), 1000.0
    while now < 1000.0 + seconds:
        if watched.deadline() <= now + gap:
            return False
        now += gap
        watched.moved(count, now)
    return True


def test_a_peer_that_does_nothing_has_the_timeout() -> None:
    assert pace().deadline() == 1030.0


def test_no_timeout_is_no_limit_at_all() -> None:
    assert pace(timeout=0.0).deadline() == inf


def test_one_byte_a_second_is_a_stall() -> None:
    assert not survives(1.0, 1)


def test_one_byte_just_before_each_timeout_is_a_stall() -> None:
    assert not survives(29.0, 1)


def test_a_slow_modem_is_no_stall() -> None:
    assert survives(1.0, 120)


def test_a_burst_and_then_nothing_has_the_timeout_from_its_end() -> None:
    watched = pace()
    watched.moved(1_000_000, 1020.0)
    assert watched.deadline() == 1050.0


def test_a_burst_in_the_past_does_not_pay_for_a_trickle_now() -> None:
    watched, now = pace(), 1000.0
    watched.moved(1_000_000, now)
    for _ in range(600):
        if watched.deadline() <= now:
            break
        now += 1.0
        watched.moved(1, now)
    assert now < 1100.0


def test_without_a_rate_only_each_wait_is_limited() -> None:
    assert survives(29.0, 1, rate=0)
    assert not survives(31.0, 1, rate=0)


def test_a_byte_after_the_deadline_does_not_buy_another_window() -> None:
    """Deadlines are looked at now and then; whoever trickles must not slip through in between."""
    watched = pace()
    watched.moved(1, 1029.9)
    watched.moved(1, 1030.1)
    assert watched.deadline() <= 1030.1


def test_enough_after_the_deadline_is_progress() -> None:
    """The worker was busy with something else, and what has piled up shows that the peer was not slow."""
    watched = pace()
    watched.moved(5000, 1040.0)
    assert watched.deadline() == 1070.0


def test_time_in_which_nobody_waited_is_not_the_peers_fault() -> None:
    watched = pace()
    watched.moved(10, 1010.0)
    watched.resume(1500.0)
    assert watched.deadline() == 1520.0


def test_several_absences_add_up() -> None:
    watched = pace()
    for now in (1001.0, 1101.0, 1201.0):
        watched.moved(1, now)
        watched.resume(now + 99.0)
    assert watched.deadline() == 1030.0 + 3 * 99.0


@given(
    st.lists(st.tuples(st.floats(0.1, 40.0), st.integers(1, 5000)), min_size=1, max_size=50),
    st.floats(1.0, 60.0),
    st.integers(0, 200),
)
def test_nobody_is_cut_off_who_kept_the_rate_in_every_window(
    steps: list[tuple[float, int]], timeout: float, rate: int
) -> None:
    """A peer that moves at least `timeout * rate` bytes at once, within each `timeout`, is never late."""
    watched, now = Pace(timeout, rate, 0.0), 0.0
    for gap, count in steps:
        now += min(gap, timeout * 0.9)
        assert watched.deadline() >= now
        watched.moved(count + int(timeout * rate), now)


@pytest.mark.parametrize("rate", [1, 100, 5000])
def test_nobody_goes_on_below_half_the_rate(rate: int) -> None:
    assert not survives(0.5, max(rate // 4 - 1, 0), rate=rate)
