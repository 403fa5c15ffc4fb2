# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

import pytest

from prefork.supervisor.children import MEMBERS, SERVING, TRANSITIONS, Child, Children, State


def a_child(state: State = State.BOOTING) -> Child:
    return Child(serial=1, slot=0, generation=1, born=10.0, deadline=inf, state=state)


def test_every_state_has_its_transitions_and_killed_is_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.KILLED] == frozenset()


@pytest.mark.parametrize("state", [state for state in State if state is not State.KILLED])
def test_every_living_child_can_be_killed(state: State) -> None:
    a_child(state).enter(State.KILLED)


@pytest.mark.parametrize(
    ("state", "to"),
    [
        (State.STOPPING, State.READY),
        (State.KILLED, State.READY),
        (State.ABORTED, State.STOPPING),
        (State.BOOTING, State.RETIRING),
    ],
)
def test_there_is_no_way_back_to_service_once_told_to_stop(state: State, to: State) -> None:
    with pytest.raises(ValueError, match=f"cannot go from {state.value} to {to.value}"):
        a_child(state).enter(to)


def test_no_state_that_counts_as_member_or_serving_is_on_its_way_out() -> None:
    assert {State.STOPPING, State.ABORTED, State.KILLED}.isdisjoint(MEMBERS | SERVING)


def test_a_new_state_has_a_new_deadline() -> None:
    child = a_child()
    child.enter(State.STOPPING, 20.0)
    assert child.deadline == 20.0
    child = a_child()
    child.enter(State.READY)
    assert child.deadline == inf


def test_the_lowest_free_slot_is_used_and_serials_are_never_used_twice() -> None:
    children = Children(4)
    first, second = (children.add(1, 0.0, inf) for _ in range(2))
    assert (first.slot, second.slot) == (0, 1)
    children.remove(first.serial)
    third = children.add(1, 0.0, inf)
    assert (third.slot, third.serial) == (0, 3)


def test_a_full_table_takes_no_child() -> None:
    children = Children(1)
    children.add(1, 0.0, inf)
    assert children.free == 0
    with pytest.raises(IndexError):
        children.add(1, 0.0, inf)


def test_an_unknown_child_is_none() -> None:
    assert Children(1).get(5) is None
    assert Children(1).remove(5) is None


def test_service_is_counted_from_ready() -> None:
    child = a_child()
    assert child.served(50.0) == 0.0
    child.ready_at = 20.0
    assert child.served(50.0) == 30.0
