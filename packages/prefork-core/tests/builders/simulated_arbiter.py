# SPDX-License-Identifier: MIT
"""The other arbiter of an upgrade, as it looks to the one that is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.supervisor.kinship import Phase
from prefork.supervisor.messages import (
    KillSuccessor,
    OtherLeaves,
    PredecessorGone,
    StartSuccessor,
    StopSuccessor,
    SuccessorEnded,
    SuccessorFailed,
    SuccessorForked,
    SuccessorReady,
    TakeOver,
    TellReady,
)

if TYPE_CHECKING:
    from simulated_kernel import Kernel

    from prefork.supervisor.messages import Action, Event


@dataclass(frozen=True)
class Course:
    """What a successor does. Times are in seconds, None is never."""

    boots_after: float | None = 1.0
    fails: bool = False
    leaves_after: float | None = 0.5
    """From an order to the exit."""


@dataclass
class Other:
    """One successor."""

    course: Course
    alive: bool = True
    leaves: bool = False
    ready: bool = False
    reaped: bool = False


class Kindred:
    """The arbiters before and after the one that is simulated.

    Args:
        kernel: tells the machine.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.course = Course()
        self.successor: Other | None = None
        self.told_ready = False
        self.took_over = False
        self.lent = 0
        """How many workers there were when the work was left to the successor."""

    def act(self, action: Action) -> Event | None:
        fleet = self._kernel.fleet
        match action:
            case StartSuccessor():
                return self._start()
            case StopSuccessor(quick):
                assert self.successor is not None
                assert not self.successor.ready or fleet.is_stopping or not self._was_told_ready()
                leaves_after = 0.1 if quick else self.successor.course.leaves_after
                if self.successor.course.leaves_after is not None and leaves_after is not None:
                    self._kernel.later(leaves_after, self.end)
            case KillSuccessor():
                self.end()
            case TellReady():
                assert not self.told_ready, "ready was told twice"
                assert len(self._kernel.ready()) >= fleet.target
                self.told_ready = True
            case TakeOver():
                assert not self.took_over, "it has taken over twice"
                self.took_over = True
        return None

    def _was_told_ready(self) -> bool:
        return self._kernel.fleet.kinship.phase in {Phase.BESIDE, Phase.HANDING}

    def _start(self) -> Event:
        assert self.successor is None or self.successor.reaped, "there are two successors"
        assert self._kernel.fleet.rollout is None
        if self._kernel.forks_that_fail:
            self._kernel.forks_that_fail -= 1
            return SuccessorFailed("no memory")
        other = self.successor = Other(self.course)
        if other.course.boots_after is not None:
            self._kernel.later(other.course.boots_after, lambda: self._boot(other))
        return SuccessorForked(self._kernel.next_pid())

    def _boot(self, other: Other) -> None:
        if not other.alive or other.leaves:
            return
        if other.course.fails:
            self.end()
            return
        other.ready = True
        self.lent = self._kernel.fleet.target
        self._kernel.tell(SuccessorReady())

    def end(self) -> None:
        """Let the successor die."""
        other = self.successor
        if other is not None and other.alive:
            other.alive = False
            self._kernel.later(0.01, lambda: self._reap(other))

    def _reap(self, other: Other) -> None:
        if self._kernel.exit_code is not None:
            return  # this arbiter has ended before it could
        other.reaped = True
        self._told(SuccessorEnded("exit code 3"))

    def leave(self) -> None:
        """Have an operator stop the successor."""
        if self.successor is not None and self.successor.alive:
            self.successor.leaves = True
            self._told(OtherLeaves())
            self._kernel.later(self.successor.course.leaves_after or 3.0, self.end)

    def _told(self, event: Event) -> None:
        fleet = self._kernel.fleet
        was_handing = fleet.kinship.phase is Phase.HANDING and not fleet.is_stopping
        self._kernel.tell(event)
        if was_handing and self.lent:
            assert fleet.target, "nobody serves"

    def predecessor_leaves(self) -> None:
        self._kernel.tell(OtherLeaves())

    def predecessor_goes(self) -> None:
        had_one = self._kernel.fleet.kinship.phase in {Phase.SUCCEEDING, Phase.INHERITING}
        self._kernel.tell(PredecessorGone())
        if had_one and self._kernel.exit_code is None:
            assert self.took_over

    def check(self) -> None:
        """Whoever leaves the work to somebody leaves it to one that can do it."""
        fleet = self._kernel.fleet
        if fleet.kinship.phase in {Phase.BESIDE, Phase.HANDING}:
            assert self.successor is not None
            assert self.successor.ready
            assert not self.successor.reaped

    def check_end(self, *, asked: bool) -> None:
        """Nobody ends for a successor that does not serve, and none that does not is left."""
        other = self.successor
        serves = other is not None and other.ready and not other.reaped
        assert asked or serves, "the server has ended, and nobody wanted that"
        assert other is None or not other.alive or other.ready, "it leaves a successor that is not ready"
