# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf
from typing import Any

from prefork.arbiter.weighing import FIRST, INTERVAL, REST, Weighing
from prefork.supervisor.messages import Weighed


class Kernel:
    """Weighs each process with its pid, which takes as long as is said; and a clock that moves by hand."""

    def __init__(self, takes: float = 0.0) -> None:
        self.time = 1000.0
        self.takes = takes
        self.weighed: list[int] = []

    def now(self) -> float:
        return self.time

    def private_memory(self, pid: int) -> int | None:
        self.time += self.takes
        self.weighed.append(pid)
        return pid or None


def run(weighing: Weighing, kernel: Kernel, pids: dict[int, int], seconds: float) -> list[Weighed]:
    """Look whenever it is time, as the arbiter's loop does."""
    end = kernel.time + seconds
    found = []
    for _ in range(10_000):
        weighed = weighing.look(pids)
        found += [weighed] if weighed else []
        if weighing.next_at > end:
            kernel.time = max(end, kernel.time)
            return found
        kernel.time = max(kernel.time, weighing.next_at)
    raise AssertionError("time does not pass")


def made(takes: float = 0.0) -> tuple[Weighing, Any]:
    kernel: Any = Kernel(takes)
    return Weighing(kernel), kernel


def test_a_worker_is_weighed_soon_after_it_came_and_then_at_intervals() -> None:
    weighing, kernel = made()
    assert run(weighing, kernel, {1: 500}, FIRST / 2) == []
    assert run(weighing, kernel, {1: 500}, FIRST / 2) == [Weighed(1, 500)]
    assert len(run(weighing, kernel, {1: 500}, 6 * INTERVAL)) == 6


def test_all_workers_have_their_turn_and_one_look_is_at_one_of_them() -> None:
    weighing, kernel = made()
    pids = {serial: serial + 500 for serial in range(1, 201)}
    found = run(weighing, kernel, pids, FIRST + INTERVAL)
    assert sorted(weighed.serial for weighed in found) == sorted([*pids, *pids])


def test_looks_that_take_long_are_taken_less_often() -> None:
    """200 large processes of 20 ms each would be 4 s in 10: it rests so that it is a twentieth."""
    weighing, kernel = made(takes=0.02)
    pids = {serial: serial + 500 for serial in range(1, 201)}
    found = run(weighing, kernel, pids, 100.0)
    assert 100 / (0.02 * (REST + 1)) - 5 < len(found) <= 100 / (0.02 * REST)
    assert {weighed.serial for weighed in found} == set(pids), "but nobody is left out"


def test_a_process_that_is_gone_has_no_weight_and_does_not_hold_up_the_others() -> None:
    weighing, kernel = made()
    assert run(weighing, kernel, {1: 0, 2: 500}, FIRST) == [Weighed(2, 500)]
    assert run(weighing, kernel, {2: 500}, INTERVAL) == [Weighed(2, 500)]
    assert 0 not in kernel.weighed[2:]


def test_without_workers_to_weigh_there_is_nothing_to_wait_for() -> None:
    weighing, kernel = made()
    run(weighing, kernel, {1: 500}, 5.0)
    assert weighing.look({}) is None
    assert weighing.next_at == inf
