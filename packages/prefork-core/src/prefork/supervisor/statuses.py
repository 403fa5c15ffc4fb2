# SPDX-License-Identifier: MIT
"""The table of status processes: who answers probes, while workers and arbiter do their work.

It decides when one is started, stopped, killed and started again. It follows the generation that is complete:
during a reload the old one answers on, so a reload that is rolled back changes nothing. A generation has one
at most, so its number names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import REAP_GRACE, TRANSITIONS, State
from prefork.supervisor.messages import KillStatus, Level, StartStatus, StopStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import StatusEnded, StatusFailed, StatusForked, StatusSilent

STOP_GRACE: Final = 2.0
"""Seconds that a status process gets to stop: what it has in hand takes milliseconds."""


@dataclass(slots=True)
class StatusProcess:
    """One status process. Times are monotonic seconds."""

    generation: int
    born: float
    deadline: float = inf
    """When the present state has lasted too long."""
    state: State = State.READY
    """As a worker's; it loads nothing, so it never boots."""
    pid: int = 0

    def enter(self, state: State, deadline: float) -> None:
        """Change the state.

        Args:
            state: the next one.
            deadline: when that one has lasted too long.

        Raises:
            ValueError: there is no way from here to there.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.deadline = deadline

    def __str__(self) -> str:
        return f"status process {self.pid} (generation {self.generation})"


class Statuses:
    """Every status process that is not reaped yet.

    Args:
        fleet: of which they tell.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._by_generation: dict[int, StatusProcess] = {}
        self._wanted: int | None = None
        self._backoff = Backoff()

    # ------------------------------------------------------------ events

    def forked(self, event: StatusForked) -> None:
        """Note the pid of one that has been started."""
        process = self._by_generation.get(event.generation)
        if process is not None:
            process.pid = event.pid
            self._fleet.say(Level.DEBUG, f"{process} started")

    def failed(self, event: StatusFailed) -> None:
        """Note that one could not be started."""
        process = self._by_generation.pop(event.generation, None)
        if process is not None:
            self._try_later(process, f"cannot start a status process: {event.why}")

    def silent(self, event: StatusSilent) -> None:
        """End one that does nothing any more: a signal has stopped it, or it hangs."""
        process = self._by_generation.get(event.generation)
        if process is not None and process.state is State.READY:
            self._kill(process, "does not answer any more")

    def ended(self, event: StatusEnded) -> None:
        """Note that one has been reaped."""
        process = self._by_generation.pop(event.generation, None)
        if process is None:
            return
        if process.generation == self._wanted:
            self._try_later(process, f"{process} ended: {event.death}")
        else:
            self._fleet.say(Level.DEBUG, f"{process} ended ({event.death})")

    def _try_later(self, process: StatusProcess, what: str) -> None:
        self._backoff.failed(process.born, self._fleet.now)
        wait = max(0.0, self._backoff.next_at - self._fleet.now)
        self._fleet.say(Level.WARNING, f"{what}; the next one starts in {wait:.1f} s")

    # ------------------------------------------------------------ what is against what should be

    def tend(self) -> None:
        """Start the one that is missing, stop those that nobody needs, and kill those that do not stop."""
        fleet = self._fleet
        wanted = self._find_wanted()
        if wanted != self._wanted:
            self._wanted = wanted
            self._backoff = Backoff()
        # The new one first: where both have the same address, no client finds it closed.
        if wanted is not None and wanted not in self._by_generation and fleet.now >= self._backoff.next_at:
            self._by_generation[wanted] = StatusProcess(wanted, fleet.now)
            fleet.do(StartStatus(wanted))
        for process in self:
            if process.generation != wanted and process.state is State.READY:
                process.enter(State.STOPPING, fleet.now + STOP_GRACE)
                fleet.do(StopStatus(process.generation))
            elif process.deadline <= fleet.now:
                self._expire(process)

    def _find_wanted(self) -> int | None:
        """Return the generation that is to have one; None when nobody is, or it would tell of nothing."""
        fleet, rollout = self._fleet, self._fleet.rollout
        if fleet.other_speaks:
            return None
        if fleet.is_stopping:
            return self._find_last()
        if rollout is not None:
            return rollout.old_generation if rollout.old_policy.status else None
        return fleet.generation if fleet.policy.status else None

    def _find_last(self) -> int | None:
        """Return the generation that is to have one until the end of a stop.

        The one that has it keeps it. To start another, only the present generation still has its listeners
        for certain: a reload that the stop has ended may have been as good as complete.
        """
        if self._fleet.is_empty or self._wanted is None:
            return None
        if self._wanted in self._by_generation:
            return self._wanted
        return self._fleet.generation if self._fleet.policy.status else None

    def _expire(self, process: StatusProcess) -> None:
        if process.state is State.STOPPING:
            self._kill(process, "did not stop in time")
            return
        self._fleet.say(Level.ERROR, f"{process} does not end on SIGKILL: stuck in the kernel")
        process.deadline = inf
        if process.generation != self._wanted:
            del self._by_generation[process.generation]

    def _kill(self, process: StatusProcess, why: str) -> None:
        process.enter(State.KILLED, self._fleet.now + REAP_GRACE)
        self._fleet.do(KillStatus(process.generation, why))

    def next_deadline(self) -> float:
        """Return when a state has lasted too long, or the next start is due; infinity for never."""
        times = [process.deadline for process in self]
        if self._wanted is not None and self._wanted not in self._by_generation:
            times.append(self._backoff.next_at)
        return min(times, default=inf)

    def get(self, generation: int) -> StatusProcess | None:
        """Return the status process of a generation, or None when it is not here."""
        return self._by_generation.get(generation)

    def generations(self) -> set[int]:
        """Return the generations that have a status process."""
        return set(self._by_generation)

    def __iter__(self) -> Iterator[StatusProcess]:
        return iter(list(self._by_generation.values()))

    def __len__(self) -> int:
        return len(self._by_generation)
