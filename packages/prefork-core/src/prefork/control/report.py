# SPDX-License-Identifier: MIT
"""What a status is made of, and what of it is told.

It decides the shape of the answers to `status` and `workers`. It is given the facts, and knows nothing of
where they are from.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES: Final = ("booting", "ready", "retiring", "stopping", "aborted", "killed")
"""Where a worker can be in its life, by the names of `supervisor.children.State`."""


class Totals(NamedTuple):
    """Sums that only grow, over all workers that there ever were."""

    requests: int = 0
    errors: int = 0
    """Requests that were answered with an error of the worker's own."""
    shed: int = 0
    """Requests that were turned away because they had waited too long."""
    queued: float = 0.0
    """Seconds that measured requests have waited for a thread."""
    measured: int = 0
    """How many requests have been measured so."""

    def plus(self, other: Totals) -> Totals:
        """Return the sums of both."""
        return Totals(
            self.requests + other.requests,
            self.errors + other.errors,
            self.shed + other.shed,
            self.queued + other.queued,
            self.measured + other.measured,
        )

    def at_least(self, other: Totals) -> Totals:
        """Return the larger of each two sums."""
        return Totals(
            max(self.requests, other.requests),
            max(self.errors, other.errors),
            max(self.shed, other.shed),
            max(self.queued, other.queued),
            max(self.measured, other.measured),
        )

    @property
    def mean_queued(self) -> float | None:
        """Seconds that a measured request has waited on average; None while there is none."""
        return self.queued / self.measured if self.measured else None


class Listening(NamedTuple):
    """One listener."""

    url: str
    waiting: int | None
    """Connections in its queue, None where the kernel does not say."""
    closing: bool
    """Whether it takes no new ones, and its queue is to run dry."""


class InHand(NamedTuple):
    """A request that a worker has not finished."""

    method: str
    target: str
    age: float
    """Seconds."""
    phase: str


class Seat(NamedTuple):
    """A slot with the worker that has it."""

    slot: int
    pid: int
    generation: int
    state: str
    age: float
    """Seconds since the fork."""
    threads: int
    busy: int
    requests: int
    errors: int
    connections: int
    idle: int
    oldest: InHand | None
    """Of the requests in hand, the one that began first."""
    memory: int | None = None
    """Bytes that it shares with no other process, when last weighed; None when it never was."""


class Mould(NamedTuple):
    """A template: a process that forks workers."""

    pid: int
    generation: int
    state: str
    age: float
    """Seconds since it was started, or has become one."""
    requests: int | None
    """How many it has answered before, as a worker; None when it has loaded the application itself."""


class Reforks(NamedTuple):
    """What became of the workers that were to be a template, since the start."""

    done: int = 0
    failed: int = 0


class Snapshot(NamedTuple):
    """A server at one moment."""

    version: str
    pid: int
    started: float
    """Seconds since the epoch."""
    uptime: float
    """Seconds."""
    mode: str
    generation: int
    target: int
    """How many workers there should be."""
    rolled_back: str
    """Why the last reload was rolled back; empty when it was not."""
    upgrade: str
    """How far an upgrade is, or why the last one failed; empty for neither."""
    seats: tuple[Seat, ...]
    listeners: tuple[Listening, ...]
    totals: Totals
    kills: Mapping[str, int]
    """Workers that were ended by force, by reason."""
    templates: tuple[Mould, ...] = ()
    reforks: Reforks = Reforks()

    def count(self, state: str) -> int:
        """Return how many workers are in a state."""
        return sum(seat.state == state for seat in self.seats)


def status(snapshot: Snapshot) -> dict[str, Any]:
    """Return the answer to `status`.

    Args:
        snapshot: the facts.

    Returns:
        What JSON has. Times are in seconds; null is "not known".
    """
    counts = Counter(seat.state for seat in snapshot.seats)
    totals = snapshot.totals
    return {
        "version": snapshot.version,
        "pid": snapshot.pid,
        "uptime": round(snapshot.uptime, 3),
        "mode": snapshot.mode,
        "generation": snapshot.generation,
        "rolled_back": snapshot.rolled_back or None,
        "upgrade": snapshot.upgrade or None,
        "workers": {"target": snapshot.target, **{state: counts[state] for state in STATES}},
        "templates": [{**mould._asdict(), "age": round(mould.age, 3)} for mould in snapshot.templates],
        "reforks": snapshot.reforks._asdict(),
        "listeners": [listening._asdict() for listening in snapshot.listeners],
        "requests": totals.requests,
        "errors": totals.errors,
        "shed": totals.shed,
        "kills": dict(snapshot.kills),
        "queue_time": _rounded(totals.mean_queued),
        "measured": totals.measured,
    }


def workers(snapshot: Snapshot) -> dict[str, Any]:
    """Return the answer to `workers`.

    Args:
        snapshot: the facts.

    Returns:
        What JSON has, a row for each slot in use. Times are in seconds.
    """
    return {"workers": [_row(seat) for seat in sorted(snapshot.seats)]}


def _row(seat: Seat) -> dict[str, Any]:
    oldest = seat.oldest
    return {
        **seat._asdict(),
        "age": round(seat.age, 3),
        "oldest": None if oldest is None else {**oldest._asdict(), "age": round(oldest.age, 3)},
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
