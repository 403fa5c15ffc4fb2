# SPDX-License-Identifier: MIT
"""Two arbiters beside one another: one that is to go, and one that is to take its place.

It decides how far an upgrade is, and what may follow from each thing that happens to either. What
that means for the workers is `machine`. How the other arbiter is started and told is not known here.

An arbiter sees one other at most: its successor, which it has started itself, or its predecessor. As
long as the successor is not ready there is one server, and to stop that ends both. From then on
there are two, and each can be stopped: whichever stays is the server.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.messages import (
    KillSuccessor,
    Level,
    Say,
    StartSuccessor,
    StopSuccessor,
    TakeOver,
    TellReady,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.supervisor.messages import Action

BOOTS: Final = 3
"""So many times boot_timeout a successor may take: for itself, its template, and its workers."""
STOP_GRACE: Final = 5.0
"""Seconds, on top of graceful_timeout, that a successor gets to end."""
REAP_GRACE: Final = 5.0
"""Seconds from SIGKILL until nobody waits for it any longer (a process stuck in the kernel)."""
PROOF: Final = 1.0
"""Seconds that the first worker of a successor must stay alive before that one counts as ready."""


class Phase(Enum):
    """How this arbiter stands to another one."""

    ALONE = "alone"
    STARTING = "starting"
    """A successor has been started, and is not ready."""
    BESIDE = "beside"
    """A successor is ready. The operator says who goes."""
    HANDING = "handing over"
    """A successor is ready, and this arbiter goes when its workers have gone."""
    ENDING = "ending"
    """A successor is on its way out."""
    KILLED = "killed"
    """A successor was sent SIGKILL; only to be reaped."""
    SUCCEEDING = "succeeding"
    """This is the successor, and the predecessor may stay yet."""
    INHERITING = "inheriting"
    """This is the successor, and the predecessor is on its way out."""


TRANSITIONS: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.ALONE: frozenset({Phase.STARTING}),
    Phase.STARTING: frozenset({Phase.BESIDE, Phase.HANDING, Phase.ENDING, Phase.ALONE}),
    Phase.BESIDE: frozenset({Phase.ENDING, Phase.ALONE}),
    Phase.HANDING: frozenset({Phase.ENDING, Phase.ALONE}),
    Phase.ENDING: frozenset({Phase.KILLED, Phase.ALONE}),
    Phase.KILLED: frozenset({Phase.ALONE}),
    Phase.SUCCEEDING: frozenset({Phase.INHERITING, Phase.ALONE}),
    Phase.INHERITING: frozenset({Phase.ALONE}),
}

READY: Final = frozenset({Phase.BESIDE, Phase.HANDING})
"""A successor is ready, and is to stay."""
_AFTER: Final = frozenset({Phase.SUCCEEDING, Phase.INHERITING})
_OUT: Final = frozenset({Phase.ENDING, Phase.KILLED})


class Kinship:
    """How this arbiter stands to another one.

    Args:
        do: takes an action down.
        predecessor: pid of the arbiter that this one is to succeed; 0 when an operator has started it.
    """

    def __init__(self, do: Callable[[Action], None], predecessor: int = 0) -> None:
        self._do = do
        self.phase = Phase.SUCCEEDING if predecessor else Phase.ALONE
        self.other = predecessor
        """Pid of the other arbiter, or of the last one; 0 while it is not known."""
        self.failure = ""
        """Why the last upgrade failed; empty when it did not."""
        self._began = 0.0
        self._deadline = inf
        """When the present phase has lasted too long."""
        self._hands_over = False
        self._stops = False
        self._is_ours_to_end = False
        self._proven_at = inf
        self._has_told = False

    @property
    def refusal(self) -> str:
        """Why there can be no upgrade now; empty when there can."""
        if self.phase in _AFTER:
            return f"the arbiter before this one ({self.other}) has not gone yet"
        if self.phase in _OUT:
            return f"the arbiter of the last upgrade ({self.other}) has not ended yet"
        if self.phase is not Phase.ALONE:
            state = "ready" if self.phase in READY else "starting"
            return f"an upgrade is under way: arbiter {self.other} is {state}"
        return ""

    @property
    def has_ready(self) -> bool:
        """Whether a successor is ready, and is to stay."""
        return self.phase in READY

    def other_speaks(self, *, starting: bool, stopping: bool) -> bool:
        """Return whether only the other arbiter is to say how the server is.

        Both are asked at the same addresses, so a balancer would take one that is not ready yet, or any more,
        for the server.

        Args:
            starting: whether no worker of this one has been ready.
            stopping: whether this one has been told to stop.
        """
        if self.phase in _AFTER:
            return starting or stopping
        return self.phase is Phase.HANDING or (self.phase is Phase.BESIDE and stopping)

    @property
    def awaits_end(self) -> bool:
        """Whether a successor was told to end, and is worth waiting for."""
        return self.phase in _OUT and self._is_ours_to_end

    def __str__(self) -> str:
        match self.phase:
            case Phase.ALONE:
                return f"failed: {self.failure}" if self.failure else ""
            case Phase.HANDING:
                return f"handing over to arbiter {self.other}"
            case Phase.SUCCEEDING:
                return f"arbiter {self.other}, before this one, has not gone yet"
            case Phase.INHERITING:
                return f"arbiter {self.other}, before this one, is stopping"
        state = {Phase.STARTING: "starting", Phase.BESIDE: "ready"}.get(self.phase, "ending")
        return f"arbiter {self.other} is {state} beside this one"

    def next_deadline(self) -> float:
        """Return when a phase has lasted too long, or readiness is proven; infinity for never."""
        proven_at = inf if self._has_told or self.phase not in _AFTER else self._proven_at
        return min(self._deadline, proven_at)

    # ------------------------------------------------------------ as the one that is to go

    def begin(self, now: float, boot_timeout: float, *, hand_over: bool) -> None:
        """Start a successor.

        Args:
            now: the time.
            boot_timeout: how long a boot may take, in seconds; infinity for no limit.
            hand_over: whether this arbiter goes as soon as the other one is ready.
        """
        self._enter(Phase.STARTING, now + BOOTS * boot_timeout + PROOF)
        self._began = now
        self._hands_over = hand_over
        self._is_ours_to_end = False
        self.failure = ""
        self.other = 0
        self._do(StartSuccessor())

    def forked(self, pid: int) -> None:
        """Note that there is a process that will be the successor."""
        self.other = pid
        self._say(Level.INFO, f"upgrade: arbiter {pid} starts beside this one")

    def not_forked(self, why: str) -> None:
        """Note that there is none."""
        if self.phase is Phase.STARTING:
            self._enter(Phase.ALONE)
            self._fail(why)

    def ready(self, now: float) -> bool:
        """Note that the successor has all its workers ready; return whether to hand over now."""
        if self.phase is not Phase.STARTING:
            return False
        self._enter(Phase.HANDING if self._hands_over else Phase.BESIDE)
        what_next = "handing over" if self._hands_over else "stop this one to finish, or that one to go back"
        self._say(
            Level.INFO, f"upgrade: arbiter {self.other} ready after {now - self._began:.1f} s: {what_next}"
        )
        return self._hands_over

    def ended(self, how: str) -> bool:
        """Note that the successor has been reaped.

        Args:
            how: in words.

        Returns:
            Whether what it served comes back to this arbiter.
        """
        was = self.phase
        if was is Phase.ALONE or was in _AFTER:
            return False
        self._enter(Phase.ALONE)
        if was in _OUT:
            self._say(Level.INFO, f"arbiter {self.other} ended ({how})")
        else:
            self._fail(f"arbiter {self.other} ended ({how})")
        return was in READY

    def stop(self, now: float, grace: float) -> None:
        """Note that this arbiter stops: a successor that is not ready ends with it.

        Args:
            now: the time.
            grace: how long its workers may take to finish what they have, in seconds; 0 to drop that.
        """
        self._stops = True
        if self.phase is Phase.STARTING:
            self._say(Level.WARNING, "upgrade given up: stopping")
            self._enter(Phase.ENDING)
            self._end(now, grace)
        elif self.phase is Phase.ENDING and self._is_ours_to_end and grace == 0:
            self._end(now, grace)

    def _end(self, now: float, grace: float) -> None:
        self._is_ours_to_end = True
        self._deadline = min(self._deadline, now + STOP_GRACE + grace)
        self._do(StopSuccessor(quick=grace == 0))

    # ------------------------------------------------------------ as the one that is to stay

    def note_ready(self, now: float) -> None:
        """Note that a worker of this arbiter is ready."""
        self._proven_at = min(self._proven_at, now + PROOF)

    def offer(self, now: float) -> None:
        """Note that all workers of this arbiter are ready; tell the predecessor when they have proven it."""
        if self.phase in _AFTER and not self._has_told and now >= self._proven_at:
            self._has_told = True
            self._do(TellReady())

    def predecessor_gone(self) -> None:
        """Note that the other one has ended, or does so at this moment."""
        if self.phase in _AFTER:
            self._enter(Phase.ALONE)
            self._say(Level.INFO, f"arbiter {self.other} has gone: this one has taken over")
            self._do(TakeOver())

    # ------------------------------------------------------------ as either

    def leaves(self) -> bool:
        """Note that the other one has begun to stop.

        Returns:
            Whether what it served comes back to this arbiter.
        """
        was = self.phase
        if was is Phase.SUCCEEDING:
            self._enter(Phase.INHERITING)
        elif was is Phase.BESIDE:
            self._enter(Phase.ENDING)
            self._say(Level.INFO, f"upgrade: arbiter {self.other} stops{self._serves_on}")
        elif was is Phase.HANDING:
            self._enter(Phase.ENDING)
            self._fail(f"arbiter {self.other} stops")
        # One that starts is about to say why.
        return was in READY

    def expire(self, now: float) -> None:
        """End a phase that has lasted too long.

        Args:
            now: the time.
        """
        if now < self._deadline:
            return
        if self.phase is Phase.STARTING:
            took = f"{now - self._began:.1f} s"
            self._fail(f"arbiter {self.other} not ready after {took} ({BOOTS} x boot_timeout)")
            self._enter(Phase.ENDING)
            self._end(now, STOP_GRACE)
        elif self.phase is Phase.ENDING:
            self._enter(Phase.KILLED, now + REAP_GRACE)
            self._say(Level.ERROR, f"arbiter {self.other} did not stop in time: sending SIGKILL")
            self._do(KillSuccessor())
        else:
            self._enter(Phase.ALONE)
            self._say(Level.ERROR, f"arbiter {self.other} does not end on SIGKILL: stuck in the kernel")

    def _enter(self, phase: Phase, deadline: float = inf) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"no way from {self.phase.value} to {phase.value}")
        self.phase = phase
        self._deadline = deadline

    def _fail(self, why: str) -> None:
        self.failure = why
        self._say(Level.ERROR, f"upgrade failed: {why}{self._serves_on}")

    @property
    def _serves_on(self) -> str:
        return "" if self._stops else "; this one serves on"

    def _say(self, level: Level, text: str) -> None:
        self._do(Say(level, text))
