# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

import pytest

from prefork.supervisor.children import State
from prefork.supervisor.messages import AbortTemplate, Action, KillTemplate, StartTemplate, StopTemplate
from prefork.supervisor.templates import STOP_GRACE, Template, Templates


class Table:
    """A table, and what it wants done."""

    def __init__(self) -> None:
        self.done: list[Action] = []
        self.templates = Templates(self.done.append)

    def tend(
        self, present: int | None, kept: int | None = None, now: float = 0.0, busy: tuple[int, ...] = ()
    ) -> list[Action]:
        del self.done[:]
        self.templates.tend(present, kept, busy, now, 60.0)
        return self.done

    def with_ready(self, *generations: int) -> Table:
        for generation in generations:
            self.tend(generation, generation - 1)
            self.templates.ready(generation, 1.0)
        return self


def test_the_missing_one_is_started_once() -> None:
    table = Table()
    assert table.tend(1) == [StartTemplate(1, 1)]
    assert table.tend(1) == []
    assert table.templates.forking(1) is None
    assert table.templates.next_deadline(1) == 60.0


def test_none_is_started_where_none_is_wanted() -> None:
    table = Table()
    assert table.tend(None) == []
    assert table.templates.next_deadline(None) == inf


def test_one_that_is_ready_can_fork_and_has_no_deadline() -> None:
    table = Table().with_ready(1)
    assert table.templates.forking(1) is not None
    assert table.templates.next_deadline(1) == inf


def test_that_of_the_generation_to_return_to_is_kept() -> None:
    table = Table().with_ready(1)
    assert table.tend(2, kept=1) == [StartTemplate(2, 2)]
    assert table.templates.forking(1) is not None


def test_one_that_has_ended_is_not_started_again_only_to_be_kept() -> None:
    table = Table().with_ready(1, 2)
    table.templates.remove(1)
    assert table.tend(2, kept=1) == []


def test_all_others_are_stopped_once() -> None:
    table = Table().with_ready(1, 2)
    assert table.tend(2, now=5.0) == [StopTemplate(1)]
    assert table.tend(2, now=5.0) == []
    assert table.templates.forking(1) is None
    assert table.templates.next_deadline(2) == 5.0 + STOP_GRACE


def test_after_a_failure_the_next_one_waits() -> None:
    table = Table()
    table.tend(1)
    table.templates.remove(1)
    table.templates.backoff.failed(0.0, 10.0)
    due = table.templates.next_deadline(1)
    assert table.tend(1, now=due - 0.01) == []
    assert table.tend(1, now=due) == [StartTemplate(2, 1)]


def test_it_is_aborted_before_it_is_killed() -> None:
    table = Table()
    table.tend(1)
    (template,) = table.templates
    table.templates.abort(template, "is late", 60.0)
    table.templates.kill(template, "does not end", 61.0)
    assert table.done[-2:] == [AbortTemplate(1, "is late"), KillTemplate(1, "does not end")]
    assert template.state is State.KILLED


def test_a_word_that_comes_too_late_counts_for_nothing() -> None:
    table = Table().with_ready(1)
    table.tend(None)
    assert table.templates.ready(1, 2.0) is None
    assert table.templates.ready(7, 2.0) is None
    assert table.templates.forking(1) is None


def test_there_is_no_way_back() -> None:
    template = Template(3, 1, 0.0, 60.0, State.KILLED, pid=7)
    with pytest.raises(ValueError, match=r"template 7 \(generation 1\) cannot go from killed to ready"):
        template.enter(State.READY)


def test_one_that_was_a_worker_takes_over_at_once() -> None:
    table = Table().with_ready(1)
    promoted = table.templates.promote(1, 77, 9.0)
    assert table.templates.forking(1) is promoted
    assert (promoted.is_warm, promoted.pid, promoted.deadline) == (True, 77, inf)
    assert table.tend(1, now=9.0) == [StopTemplate(1)]


def test_the_one_before_stays_until_it_has_forked_what_it_was_ordered() -> None:
    table = Table().with_ready(1)
    table.templates.promote(1, 77, 9.0)
    assert table.tend(1, busy=(1,)) == []
    assert table.tend(1) == [StopTemplate(1)]


def test_a_generation_that_nobody_needs_is_not_waited_for() -> None:
    table = Table().with_ready(1)
    assert table.tend(None, busy=(1,)) == [StopTemplate(1)]


def test_two_are_told_apart_by_their_numbers() -> None:
    table = Table().with_ready(1)
    second = table.templates.promote(1, 77, 9.0)
    assert table.templates.remove(1) is not second
    assert table.templates.forking(1) is second
