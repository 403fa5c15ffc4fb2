# SPDX-License-Identifier: MIT
"""Which requests take too long, read off the scoreboard.

It decides when a request is stuck or slow, and what else a worker with a stuck one still does. What
follows from that is decided by `prefork.supervisor.machine`. It writes nothing, and has no clock.

The total time of a request is looked at from here, so no setting about it costs a worker anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.process.scoreboard import Phase, Stage
from prefork.supervisor.messages import Plight, Reason

if TYPE_CHECKING:
    from prefork.process.scoreboard import Current, Slot
    from prefork.settings import Settings

PACE: Final = 0.25
"""Seconds between two looks at a worker in which something was found."""

_RETURN: Final = 1.0
"""Seconds to the next look at a request that waits for its client, and is late as soon as it goes on."""

_WAITS: Final = frozenset({Phase.READING, Phase.WRITING})


class Limits(NamedTuple):
    """What the settings say about the time of a request. Seconds, infinity for none."""

    timeout: float = inf
    request_timeout: float = inf
    slow_request: float = inf
    blocked_loop: float = inf

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return those of some settings."""
        return cls(
            settings.timeout or inf,
            settings.request_timeout or inf,
            settings.slow_request or inf,
            settings.blocked_loop or inf,
        )


@dataclass(slots=True)
class Suspicion:
    """What was found of one worker so far."""

    look_at: float = 0.0
    """Not to be looked at before, in monotonic seconds."""
    seemed_empty: bool = False
    """Whether nothing but stuck requests was left at the look before."""
    told: set[tuple[int, float]] = field(default_factory=set)
    """Thread and start of each slow request that was found."""
    blocked_since: float = 0.0
    """When the loop was due that was found blocked last."""


class Late(NamedTuple):
    """A request that is past a limit."""

    current: Current
    reason: Reason


class Found(NamedTuple):
    """What a look at a worker has shown."""

    stuck: list[Late]
    """The one that began first in front."""
    plight: Plight
    slow: list[Current]
    """Found slow for the first time."""
    is_blocked: bool = False
    """Whether the loop on which all requests depend was found blocked for the first time."""
    is_lost: bool = False
    """Whether it has not turned for `timeout`."""


def _due(current: Current, limits: Limits) -> tuple[float, Reason]:
    """Return when a request is stuck, and for which reason first."""
    if current.phase is Phase.TAKEN:
        return inf, Reason.TIMEOUT
    progress = max(current.deadline, current.allowed) if current.deadline else inf
    whole = inf
    if current.phase not in _WAITS:
        whole = max(_after(current, limits.request_timeout), current.allowed)
    return (progress, Reason.TIMEOUT) if progress <= whole else (whole, Reason.REQUEST_TIMEOUT)


def _after(current: Current, seconds: float) -> float:
    """Return when a request will have run for so long, if it waits for its client no more."""
    return current.started + current.waited + seconds


def _is_slow(current: Current, limits: Limits, now: float) -> bool:
    runs = current.phase is Phase.APPLICATION
    return runs and _after(current, limits.slow_request) <= now


def next_look(slot: Slot, limits: Limits, suspicion: Suspicion, now: float) -> float:
    """Return when to look at a worker again at the latest, infinity for never.

    A worker that is idle may begin a request at any moment, but it cannot be late sooner than the shortest
    limit after now.

    Args:
        slot: the worker's part of the scoreboard.
        limits: of its settings.
        suspicion: what was found before.
        now: monotonic seconds.
    """
    shortest = min(limits.timeout, limits.request_timeout, limits.slow_request)
    times = [now + shortest, *_blocked_times(slot, limits, suspicion)]
    for current in slot.current():
        if current.phase is Phase.TAKEN:
            continue
        times.append(_due(current, limits)[0])
        soonest = now + _RETURN if current.phase in _WAITS else 0.0
        if soonest:
            times.append(max(_after(current, limits.request_timeout), soonest))
        if _key(current) not in suspicion.told:
            times.append(max(_after(current, limits.slow_request), soonest))
    return max(min(times), suspicion.look_at)


def look(slot: Slot, limits: Limits, suspicion: Suspicion, now: float) -> Found | None:
    """Look at a worker; return what is wrong with it, None for nothing or when it is not its time.

    Args:
        slot: the worker's part of the scoreboard.
        limits: of its settings.
        suspicion: what was found before; kept true here.
        now: monotonic seconds.
    """
    if now < suspicion.look_at:
        return None
    currents = slot.current()
    stuck = []
    for current in currents:
        due, reason = _due(current, limits)
        if due <= now:
            stuck.append(Late(current, reason))
    slow = [current for current in currents if _is_slow(current, limits, now)]
    fresh = [current for current in slow if _key(current) not in suspicion.told]
    suspicion.told &= {_key(current) for current in currents}
    suspicion.told |= {_key(current) for current in slow}
    due = slot.due
    is_lost = bool(due) and now >= due + limits.timeout
    is_blocked = bool(due) and now >= due + limits.blocked_loop and due != suspicion.blocked_since
    if is_blocked:
        suspicion.blocked_since = due
    if not stuck and not fresh and not is_lost and not is_blocked:
        suspicion.seemed_empty = False
        return None
    suspicion.look_at = now + PACE
    plight = Plight.LOST if is_lost else _plight(slot, len(stuck), len(currents), suspicion)
    return Found(stuck, plight, fresh, is_blocked, is_lost)


def _blocked_times(slot: Slot, limits: Limits, suspicion: Suspicion) -> list[float]:
    """Return when a loop that does not turn any more is to be looked at."""
    due = slot.due
    if not due:
        return []
    known = due == suspicion.blocked_since
    return [due + limits.timeout, inf if known else due + limits.blocked_loop]


def _key(current: Current) -> tuple[int, float]:
    return current.thread, current.started


def _plight(slot: Slot, stuck: int, busy: int, suspicion: Suspicion) -> Plight:
    if stuck >= slot.threads:
        return Plight.LOST
    if slot.stage is not Stage.STOPPING:
        return Plight.SERVES
    # Twice: the worker writes down how many connections it has at the end of a turn only.
    before = suspicion.seemed_empty
    suspicion.seemed_empty = busy == stuck and slot.connections <= stuck
    return Plight.EMPTY if before and suspicion.seemed_empty else Plight.LEAVES
