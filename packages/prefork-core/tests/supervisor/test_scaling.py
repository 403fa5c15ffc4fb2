# SPDX-License-Identifier: MIT
from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork.supervisor import scaling
from prefork.supervisor.messages import Policy, Sampled
from prefork.supervisor.scaling import CALM, STEP, Range, Scaling

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 0.25
"""Seconds between two samples, as the arbiter takes them."""


class Service:
    """Workers that boot for a while, and a load of so many requests at once.

    Args:
        least: min_workers.
        most: max_workers.
        threads: of each worker.
        boot: seconds.
        sees: whether the queue is known, as it is not behind a Unix socket.
    """

    def __init__(
        self, least: int = 1, most: int = 8, *, threads: int = 1, boot: float = 0.3, sees: bool = True
    ) -> None:
        self.bounds = Range(least, most)
        self.threads = threads
        self.boot = boot
        self.sees = sees
        self.scaling = Scaling()
        self.now = 1000.0
        self.target = least
        self.ready_at = [0.0] * least
        self.changes: list[tuple[float, int, str]] = []

    def run(self, seconds: float, load: float | Callable[[], float]) -> Service:
        end = self.now + seconds
        while self.now < end:
            self.now += EVERY
            wanted = round(load() if callable(load) else load)
            serving = sum(at <= self.now for at in self.ready_at)
            threads = serving * self.threads
            requests = min(wanted, threads)
            waiting = wanted - requests if self.sees else 0
            sample = Sampled(serving, threads, requests, waiting)
            change = self.scaling.decide(sample, self.target, self.bounds, self.now)
            if change is not None:
                self.change(change.target, change.why)
        return self

    def change(self, target: int, why: str) -> None:
        self.changes.append((self.now, target, why))
        self.ready_at += [self.now + self.boot] * (target - self.target)
        self.ready_at = self.ready_at[max(0, self.target - target) :]
        self.target = target

    @property
    def ready(self) -> int:
        return sum(at <= self.now for at in self.ready_at)


@pytest.mark.parametrize("threads", [1, 4, 16])
@pytest.mark.parametrize(("least", "most"), [(1, 4), (2, 16), (1, 64)])
def test_two_seconds_after_saturation_all_workers_that_it_asks_for_are_ready(
    least: int, most: int, threads: int
) -> None:
    service = Service(least, most, threads=threads, boot=0.5).run(60.0, 0)
    assert service.target == least
    service.run(2.0, most * threads)
    assert service.ready == most


def test_a_queue_that_nobody_sees_is_met_by_doubling() -> None:
    """Behind a Unix socket: four times as many workers after two seconds, eight times after three."""
    service = Service(1, 8, sees=False).run(2.0, 100)
    assert service.ready >= 4
    assert service.run(1.5, 100).ready == 8


def test_no_more_are_started_than_the_load_asks_for() -> None:
    service = Service(2, 64).run(60.0, 10)
    assert service.target == 15  # ten of them are busy: 70 %


def test_a_burst_of_half_a_second_starts_nobody() -> None:
    service = Service(2, 8)
    for _ in range(100):
        service.run(0.5, 20).run(2.0, 0)
    assert service.changes == []


def test_a_slow_boot_is_waited_for_and_not_answered_with_ever_more_workers() -> None:
    """Only what is seen to be needed counts until those that were asked for are there."""
    service = Service(1, 64, boot=30.0, sees=False).run(25.0, 100)
    assert service.target == 2


def test_low_load_takes_one_worker_after_the_other_after_half_a_minute() -> None:
    service = Service(1, 8).run(10.0, 8)
    assert service.target == 8
    began = service.now
    service.changes.clear()
    service.run(CALM + 60.0, 0)
    assert [target for _, target, _ in service.changes] == [7, 6, 5, 4, 3, 2, 1]
    assert CALM - 1.0 <= service.changes[0][0] - began <= CALM + 2.0
    pauses = [b[0] - a[0] for a, b in zip(service.changes, service.changes[1:], strict=False)]
    assert all(STEP <= pause <= STEP + 1.0 for pause in pauses)


def test_a_load_that_comes_again_within_the_calm_keeps_the_workers() -> None:
    service = Service(1, 8).run(5.0, 8)
    service.changes.clear()
    for _ in range(30):
        service.run(20.0, 0).run(2.0, 8)
    assert service.changes == []


@given(
    load=st.integers(0, 40),
    most=st.integers(1, 16),
    threads=st.integers(1, 4),
    boot=st.sampled_from([0.0, 0.5, 5.0, 40.0]),
    sees=st.booleans(),
)
@settings(max_examples=50)  # each is many minutes of samples
def test_a_load_that_stays_comes_to_rest(
    load: int, most: int, threads: int, boot: float, *, sees: bool
) -> None:
    """Whatever it is: up, perhaps down a little, and then no change any more."""
    service = Service(1, most, threads=threads, boot=boot, sees=sees).run(400.0, load)
    service.changes.clear()
    assert service.run(600.0, load).changes == []
    assert service.target == most or load <= 0.9 * service.target * threads


@pytest.mark.parametrize("mean", [0.5, 1.5, 3.0, 5.0])
@pytest.mark.parametrize("threads", [1, 4])
def test_a_load_that_flickers_does_not_make_workers_come_and_go(mean: float, threads: int) -> None:
    """An hour of requests that come by chance: a few changes, and most of them at the beginning."""
    chance = random.Random(7)

    def flicker() -> int:
        return sum(chance.random() < mean / 50 for _ in range(50))  # about Poisson's

    service = Service(1, 16, threads=threads).run(600.0, flicker)
    service.changes.clear()
    service.run(3600.0, flicker)
    assert len(service.changes) <= 24, service.changes


@given(
    samples=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40), st.integers(0, 2048)), max_size=60),
    target=st.integers(0, 20),
    bounds=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_the_bounds_hold_whatever_is_seen(
    samples: list[tuple[int, int, int]], target: int, bounds: tuple[int, int]
) -> None:
    given_range = Range(min(bounds), max(bounds))
    scaler, now = Scaling(), 0.0
    for workers, requests, waiting in samples:
        now += EVERY
        sample = Sampled(workers, workers * 2, requests, waiting)
        change = scaler.decide(sample, target, given_range, now)
        target = target if change is None else change.target
        assert given_range.least <= target <= given_range.most


def test_the_reasons_have_figures() -> None:
    service = Service(2, 4).run(3.0, 10).run(40.0, 1)
    whys = [why for _, _, why in service.changes]
    assert whys == [
        "100% of the threads busy, 8 connections waiting",
        "at most 1.0 of 4 threads busy in 30 s",
        *whys[2:],
    ]


def test_a_figure_that_is_assumed_is_not_told() -> None:
    scaler, given_sample = Scaling(), Sampled(1, 1, 1, 1, is_counted=False)
    found = [scaler.decide(given_sample, 1, Range(1, 4), now) for now in (1.0, 1.25, 1.5)]
    assert found == [None, None, (3, "100% of the threads busy, connections waiting")]


def test_without_max_workers_only_the_slots_limit_the_number() -> None:
    assert scaling.span(Policy(4), 0, 64) == (1, 64)
    assert scaling.moved(Policy(4), 3, 64) == 0


def test_a_shift_moves_both_bounds_and_its_opposite_undoes_it() -> None:
    policy = Policy(2, min_workers=2, max_workers=4)
    assert scaling.span(policy, 1, 64) == (3, 5)
    assert scaling.span(policy, -2, 64) == (1, 2)
    lowest = scaling.moved(policy, -50, 64)
    assert scaling.span(policy, lowest, 64) == (1, 1)
    assert scaling.span(policy, scaling.moved(policy, lowest + 3, 64), 64) == (2, 4)
    assert scaling.span(policy, scaling.moved(policy, 999, 64), 64) == (62, 64)
