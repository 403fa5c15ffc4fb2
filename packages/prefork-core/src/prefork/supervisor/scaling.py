# SPDX-License-Identifier: MIT
"""How many workers the load asks for, between the bounds of the settings.

It decides a number from samples. Where a sample is from, and how workers come and go, is not
known here.

Up it goes at once, as far as the load asks for: clients wait. Down it goes slowly, one at a time, and
only if the worst moment of the last half minute would have left one worker fewer with time to
spare. So a load that stays as it is moves nothing, whatever it is.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from prefork.supervisor.messages import Policy, Sampled

SATURATED: Final = 0.9
"""The share of threads in use, over a few samples, from which there are too few workers."""
COMFORT: Final = 0.7
"""The share that is aimed at then."""
SPARE: Final = 0.6
"""The share below which the worst moment would have to be with one worker fewer. Far enough from
`SATURATED`, or the next burst would bring the worker back."""
WINDOW: Final = 3
"""Samples that a burst must last for. One alone sees all threads in use quite often."""
CALM: Final = 30.0
"""Seconds in which the load must have been low."""
STEP: Final = 5.0
"""Seconds from one worker that goes to the next."""
GROWTH: Final = 2
"""So many times as many are there next when all in use does not tell how much more is asked for."""


class Range(NamedTuple):
    """How few and how many workers there may be."""

    least: int
    most: int

    def clamp(self, count: int) -> int:
        """Return the number in the range that is nearest to another."""
        return max(self.least, min(count, self.most))


def span(policy: Policy, shift: int, slots: int) -> Range:
    """Return how few and how many workers there may be.

    Args:
        policy: its bounds are read.
        shift: by how much the operator has moved them (TTIN, TTOU).
        slots: how many there can be at all.
    """
    if not policy.max_workers:
        return Range(1, slots)
    most = max(1, min(policy.max_workers + shift, slots))
    return Range(max(1, min(policy.min_workers + shift, most)), most)


def moved(policy: Policy, shift: int, slots: int) -> int:
    """Return a shift that is no larger than what it can do, so that the opposite one undoes it."""
    if not policy.max_workers:
        return 0
    return max(1 - policy.max_workers, min(shift, slots - policy.max_workers))


def same(one: Policy, other: Policy) -> bool:
    """Return whether two policies have the same bounds."""
    return (one.min_workers, one.max_workers) == (other.min_workers, other.max_workers)


class Change(NamedTuple):
    """Another number of workers, and why."""

    target: int
    why: str


class Moment(NamedTuple):
    """What a few samples say together."""

    at: float
    used: float
    """The share of threads in use, at most 1.0."""
    wanted: float
    """Threads that all requests would need at once, those that wait included."""


class Scaling:
    """The memory of the load that decisions need."""

    def __init__(self) -> None:
        self._samples: deque[Sampled] = deque(maxlen=WINDOW)
        self._past: deque[Moment] = deque()
        self._since = inf
        self._changed_at = -inf

    def forget(self) -> None:
        """Begin anew: what was seen says nothing of what comes."""
        self._samples.clear()
        self._past.clear()
        self._since = inf

    def decide(self, sample: Sampled, target: int, bounds: Range, now: float) -> Change | None:
        """Take in a sample, and say how many workers there should be.

        Args:
            sample: the load at this moment.
            target: how many there should be so far.
            bounds: how few and how many there may be.
            now: the time.

        Returns:
            Another number and why; None for no change.
        """
        if bounds.clamp(target) != target:
            return Change(bounds.clamp(target), "min_workers and max_workers")
        if not sample.workers:
            self.forget()  # all are booting: nobody can be busy
            return None
        self._since = min(self._since, now)
        self._samples.append(sample)
        if len(self._samples) < WINDOW:
            return None
        moment = self._look_back(now)
        change = self._more(sample, moment, target, bounds) or self._fewer(sample, target, bounds, now)
        if change is not None:
            self._samples.clear()
            self._changed_at = now
        return change

    def _look_back(self, now: float) -> Moment:
        """Sum the last samples up, and forget what is too long ago to count."""
        used = sum(min(1.0, (each.requests + each.waiting) / each.threads) for each in self._samples)
        wanted = sum(each.requests + each.waiting for each in self._samples)
        moment = Moment(now, used / WINDOW, wanted / WINDOW)
        self._past.append(moment)
        while self._past[0].at < now - CALM:
            self._past.popleft()
        return moment

    def _more(self, sample: Sampled, moment: Moment, target: int, bounds: Range) -> Change | None:
        if moment.used < SATURATED:
            return None
        threads_each = sample.threads / sample.workers
        needed = ceil(moment.wanted / (COMFORT * threads_each))
        if sample.workers >= target:  # else those that are on their way may be enough
            needed = max(needed, GROWTH * target)
        needed = bounds.clamp(needed)
        if needed <= target:
            return None
        waiting = sum(each.waiting for each in self._samples) / WINDOW
        count = f"{waiting:.0f} connections" if sample.is_counted else "connections" if waiting else "none"
        return Change(needed, f"{moment.used:.0%} of the threads busy, {count} waiting")

    def _fewer(self, sample: Sampled, target: int, bounds: Range, now: float) -> Change | None:
        if target <= bounds.least or now < self._since + CALM or now < self._changed_at + STEP:
            return None
        threads_each = sample.threads / sample.workers
        worst = max(moment.wanted for moment in self._past)
        if worst > SPARE * threads_each * (target - 1):
            return None
        threads = threads_each * target
        return Change(target - 1, f"at most {worst:.1f} of {threads:.0f} threads busy in {CALM:.0f} s")
