# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf
from typing import Any

import pytest

from prefork.supervisor import weight
from prefork.supervisor.children import Child, Children, State
from prefork.supervisor.messages import Policy

MIB = 1024**2


class Weighed:
    """Ready workers, and a scale that each of them is put on."""

    def __init__(self, *weights: int, **limits: int) -> None:
        given: dict[str, Any] = {name: limit * MIB for name, limit in limits.items()}
        self.policy = Policy(4, **given)
        self.children = Children(8)
        self.scales = weight.Scales()
        self.warnings: list[str] = []
        for count in weights:
            self.put(self.add(), count)

    def add(self, state: State = State.READY) -> Child:
        child = self.children.add(1, 0.0, inf)
        child.state = state
        return child

    def put(self, child: Child, mebibytes: int) -> str:
        """Return why it wants a successor after it was weighed."""
        child.weigh(mebibytes * MIB)
        self.warnings += self.scales.judge(self.children, child, self.policy)
        return child.wants_successor

    def child(self, number: int) -> Child:
        return list(self.children)[number]


def test_a_worker_that_has_grown_above_the_limit_wants_a_successor() -> None:
    given = Weighed(100, memory=400)
    assert given.put(given.child(0), 400) == ""
    assert given.put(given.child(0), 401) == "has 401 MiB of its own (max_worker_memory 400 MiB)"
    assert given.warnings == []


def test_a_worker_that_is_above_the_limit_from_the_start_stays_and_that_is_said_once() -> None:
    """Its successor would be above it, too, and so for ever."""
    given = Weighed(500, memory=400)
    assert given.put(given.child(0), 549) == ""
    assert given.warnings == [
        (
            "worker 0 (slot 0, generation 1) has 500 MiB of its own (max_worker_memory 400 MiB) and is new:"
            " it stays, a successor would have no less"
        )
    ]
    assert given.put(given.child(0), 551) != ""


@pytest.mark.parametrize("state", sorted(set(State) - {State.READY}, key=str))
def test_only_a_worker_that_is_to_stay_can_want_a_successor(state: State) -> None:
    given = Weighed(memory=400, memory_total=400)
    child = given.add(state)
    given.put(child, 100)
    assert given.put(child, 500) == ""


def test_the_first_reason_is_kept() -> None:
    given = Weighed(100, memory=400)
    given.child(0).wants_successor = "has served its share"
    assert given.put(given.child(0), 500) == "has served its share"


def test_the_largest_goes_when_all_together_have_too_much() -> None:
    given = Weighed(100, 100, 100, memory_total=600)
    assert given.put(given.child(1), 300) == ""
    assert given.put(given.child(0), 250) == ""
    assert given.child(1).wants_successor == (
        "has 300 MiB, and the workers have 650 MiB of their own together (max_memory 600 MiB)"
    )


def test_who_has_not_grown_does_not_go_though_it_is_the_largest() -> None:
    given = Weighed(300, 100, memory_total=450)
    assert given.put(given.child(1), 160) != ""
    assert given.child(0).wants_successor == ""


@pytest.mark.parametrize("state", [State.RETIRING, State.STOPPING, State.ABORTED, State.KILLED])
def test_nobody_else_goes_for_the_total_before_one_that_leaves_is_gone(state: State) -> None:
    given = Weighed(100, 100, memory_total=300)
    given.child(0).state = state
    assert given.put(given.child(1), 250) == ""
    given.children.remove(given.child(0).serial)
    assert given.put(given.child(0), 310) != ""


def test_the_weight_of_one_that_leaves_still_counts() -> None:
    given = Weighed(200, 100, memory_total=300)
    given.child(0).state = State.STOPPING
    assert given.put(given.child(1), 150) == ""
    assert given.warnings == []


def test_a_total_that_new_workers_exceed_is_said_once_and_again_after_it_was_kept() -> None:
    given = Weighed(200, 200, memory_total=300)
    assert given.warnings == [
        (
            "the workers have 400 MiB of their own together (max_memory 300 MiB), and none has grown:"
            " fewer workers would need less"
        )
    ]
    given.put(given.child(0), 201)
    assert len(given.warnings) == 1
    given.put(given.child(0), 90)
    given.put(given.child(0), 200)
    assert len(given.warnings) == 2


@pytest.mark.parametrize(("limit", "found", "dies"), [(0, 900, False), (900, 900, False), (900, 901, True)])
def test_only_the_hard_limit_kills(limit: int, found: int, *, dies: bool) -> None:
    given: Any = Weighed(found, memory=100, memory_hard=limit)
    why = weight.fatal(given.child(0), given.policy)
    assert why == ("has 901 MiB of its own (max_worker_memory_hard 900 MiB)" if dies else "")
