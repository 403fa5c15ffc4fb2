# SPDX-License-Identifier: MIT
"""An upgrade: when there may be another arbiter, and what its coming and going means for the workers.

It decides when this server leaves its work to a successor, and when it takes it back. How far the
upgrade is, is `kinship`.

Handing over is parking first: the workers leave, and this arbiter stays as long as one of them has
something in hand, or the template that has forked them lives. Up to that moment it can start others, if
the successor fails after all.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from prefork.supervisor.children import State
from prefork.supervisor.fleet import Mode
from prefork.supervisor.kinship import Phase
from prefork.supervisor.messages import Level, Park, Stop, StopQueueing

if TYPE_CHECKING:
    from prefork.supervisor.ending import Ending
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import SuccessorEnded, SuccessorFailed, SuccessorForked, Upgrade
    from prefork.supervisor.sizing import Sizing


class Upgrading:
    """The change from one arbiter to another.

    Args:
        fleet: what is handed over, or taken over.
        sizing: how many workers there are.
        ending: how this server ends.
    """

    def __init__(self, fleet: Fleet, sizing: Sizing, ending: Ending) -> None:
        self._fleet = fleet
        self._kinship = fleet.kinship
        self._sizing = sizing
        self._ending = ending

    @property
    def refusal(self) -> str:
        """Why there can be no upgrade now; empty when there can."""
        fleet = self._fleet
        if fleet.is_stopping:
            return "the server is stopping"
        if fleet.mode is Mode.STARTING:
            return "no worker has been ready yet"
        if fleet.rollout is not None:
            return "a reload is under way"
        return self._kinship.refusal

    def begin(self, event: Upgrade) -> None:
        """Do as the operator says, if that can be."""
        fleet = self._fleet
        if refusal := self.refusal:
            fleet.say(Level.WARNING, f"upgrade refused: {refusal}")
            return
        timeout = fleet.policy.boot_timeout or inf
        self._kinship.begin(fleet.now, timeout, hand_over=event.hand_over)

    def forked(self, event: SuccessorForked) -> None:
        """Take in that there is a process."""
        self._kinship.forked(event.pid)

    def not_forked(self, event: SuccessorFailed) -> None:
        """Take in that there is none."""
        self._kinship.not_forked(event.why)

    def ready(self, _: object) -> None:
        """Take in that the successor serves; leave the work to it, if that was asked for."""
        if self._kinship.ready(self._fleet.now):
            self._fleet.do(StopQueueing())  # where the successor does not listen
            self._sizing.park(Park())

    def ended(self, event: SuccessorEnded) -> None:
        """Take in that there is no successor any more."""
        self._alone(comes_back=self._kinship.ended(event.how))

    def other_leaves(self, _: object) -> None:
        """Take in that the other arbiter will not serve on."""
        self._alone(comes_back=self._kinship.leaves())

    def predecessor_gone(self, _: object) -> None:
        """Take in that this arbiter has nobody before it any more."""
        self._kinship.predecessor_gone()
        self._alone(comes_back=False)

    def _alone(self, *, comes_back: bool) -> None:
        """Do what nobody else does from now on."""
        if comes_back:
            self._sizing.take_back()
        if self._fleet.mode is Mode.DRAINING:
            self._fleet.do(StopQueueing())

    @property
    def has_left(self) -> bool:
        """Whether all workers have gone that left their work to a successor: no template is needed either."""
        return self._kinship.phase is Phase.HANDING and not len(self._fleet.children)

    def go_on(self) -> None:
        """Do what is due."""
        fleet, kinship = self._fleet, self._kinship
        kinship.expire(fleet.now)
        if fleet.is_stopping:
            return
        if fleet.target and len(fleet.children.among(State.READY)) >= fleet.target:
            kinship.offer(fleet.now)
        if self.has_left and fleet.is_empty and not len(fleet.statuses):
            fleet.say(Level.INFO, f"upgrade: all is left to arbiter {kinship.other}")
            self._ending.stop(Stop())
