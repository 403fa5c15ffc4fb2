# SPDX-License-Identifier: MIT
from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.supervisor import recycling
from prefork.supervisor.children import Children, State
from prefork.supervisor.messages import Policy


def policy(**changes: Any) -> Policy:
    return Policy(4, **changes)


def test_without_a_limit_a_worker_lives_for_ever() -> None:
    assert recycling.lifetime(1, policy(lifetime_jitter=60.0)) == inf


def test_without_jitter_all_live_equally_long() -> None:
    assert {recycling.lifetime(serial, policy(lifetime=60.0)) for serial in range(50)} == {60.0}


@given(first=st.integers(1, 100_000))
def test_workers_that_start_together_are_never_replaced_together(first: int) -> None:
    """Of eight in a row, any two are at least a fourteenth of the jitter apart; chance promises nothing."""
    given = policy(lifetime=3600.0, lifetime_jitter=600.0)
    ends = sorted(recycling.lifetime(serial, given) for serial in range(first, first + 8))
    assert 3600.0 <= ends[0] <= ends[-1] < 4200.0
    assert min(b - a for a, b in pairwise(ends)) > 600.0 / 15


def test_only_who_is_old_enough_and_serves_wants_a_successor() -> None:
    children = Children(8)
    ages = [(State.READY, 5.0), (State.READY, 5.1), (State.RETIRING, 5.0), (State.BOOTING, inf)]
    for state, expires in ages:
        child = children.add(1, 0.0, inf)
        child.state, child.expires = state, expires
    recycling.note_age(children, policy(lifetime=5400.0), 5.0)
    assert [child.wants_successor for child in children] == [
        "is older than max_worker_lifetime (1.5 h)",
        "",
        "",
        "",
    ]


def test_the_first_reason_to_go_is_the_one_that_is_told() -> None:
    children = Children(1)
    child = children.add(1, 0.0, inf)
    child.state, child.expires, child.wants_successor = State.READY, 1.0, "has served its share"
    recycling.note_age(children, policy(lifetime=1.0), 2.0)
    assert child.wants_successor == "has served its share"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (59.0, "59 s"), (60.0, "1 min"), (5400.0, "1.5 h"), (86400.0, "1 d")],
)
def test_a_duration_is_told_in_the_largest_unit_that_it_fills(seconds: float, text: str) -> None:
    assert recycling.duration(seconds) == text
