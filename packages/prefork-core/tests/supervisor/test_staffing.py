# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

import pytest

from prefork.supervisor import staffing
from prefork.supervisor.children import Child, Children, State
from prefork.supervisor.messages import Policy
from prefork.supervisor.staffing import Rollout


def table(*states: State, generation: int = 1, slots: int = 32) -> Children:
    """Return a table with a child in each of these states, oldest first."""
    children = Children(slots)
    for state in states:
        add(children, state, generation)
    return children


def add(children: Children, state: State, generation: int) -> Child:
    child = children.add(generation, 0.0, inf)
    child.state = state
    return child


def rollout(old_target: int, proven_at: float = 0.0) -> Rollout:
    return Rollout(0.0, 1, Policy(old_target), old_target, proven_at)


def serials(children: list[Child]) -> list[int]:
    return [child.serial for child in children]


def test_members_are_those_that_boot_and_those_that_are_ready() -> None:
    assert staffing.missing(table(*State), 5) == 3


def test_the_youngest_that_boots_goes_first_and_then_the_oldest_that_is_ready() -> None:
    children = table(State.READY, State.READY, State.BOOTING, State.BOOTING)
    assert serials(staffing.surplus(children, 2)) == [4, 3]
    assert serials(staffing.surplus(children, 1)) == [4, 3, 1]
    assert staffing.surplus(children, 9) == []


def test_a_retiring_worker_is_spare_when_enough_others_serve() -> None:
    children = table(State.RETIRING, State.READY, State.BOOTING)
    assert staffing.spare(children, 2, None, 0.0) == []
    assert serials(staffing.spare(children, 1, None, 0.0)) == [1]


def test_in_a_reload_old_workers_stay_until_a_new_one_is_proven() -> None:
    children = table(State.RETIRING, State.RETIRING)
    add(children, State.READY, 2)
    assert staffing.spare(children, 2, rollout(2, proven_at=5.0), 4.9) == []
    assert serials(staffing.spare(children, 2, rollout(2, proven_at=5.0), 5.0)) == [1]


def test_workers_of_a_reload_that_was_given_up_go_before_old_ones() -> None:
    children = table(State.RETIRING)
    add(children, State.RETIRING, 2)
    assert serials(staffing.spare(children, 1, rollout(1, proven_at=inf), 0.0)) == [2]


@pytest.mark.parametrize(("leaving", "admitted"), [(0, 2), (1, 1), (2, 0), (3, 0)])
def test_those_that_leave_count_against_those_that_may_retire(leaving: int, admitted: int) -> None:
    children = table(*[State.STOPPING] * leaving, *[State.READY] * 20)
    for child in children:
        child.wants_successor = "has served its share"
    assert len(staffing.retirements(children, 20, None)) == admitted


def test_nobody_retires_in_a_reload() -> None:
    children = table(State.READY)
    for child in children:
        child.wants_successor = "has served its share"
    assert staffing.retirements(children, 1, rollout(1)) == []


def test_there_are_no_more_vacancies_than_free_slots() -> None:
    assert staffing.vacancies(table(State.READY, slots=3), 9, None, Policy(9)) == 2


@pytest.mark.parametrize(("batch", "expected"), [(0, 2), (1, 1), (8, 8), (99, 8)])
def test_a_reload_has_as_many_vacancies_as_its_batch(batch: int, expected: int) -> None:
    children = table(*[State.RETIRING] * 8)
    assert staffing.vacancies(children, 8, rollout(8), Policy(8, reload_batch=batch)) == expected


def test_a_reload_has_no_vacancy_while_more_serve_than_a_batch_above_the_target() -> None:
    children = table(*[State.RETIRING] * 4)
    add(children, State.READY, 2)
    assert staffing.vacancies(children, 4, rollout(4), Policy(4)) == 0


def test_a_reload_is_complete_when_all_are_ready_and_the_first_is_proven() -> None:
    children = table(State.READY, State.READY)
    assert not staffing.is_complete(children, 3, rollout(3), 9.0)
    assert not staffing.is_complete(children, 2, rollout(2, proven_at=10.0), 9.0)
    assert staffing.is_complete(children, 2, rollout(2, proven_at=9.0), 9.0)
    assert staffing.is_complete(table(), 0, rollout(0, proven_at=inf), 9.0)
