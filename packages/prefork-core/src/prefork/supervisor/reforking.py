# SPDX-License-Identifier: MIT
"""Reforks: when a worker that has answered many requests becomes the template, and which one.

It decides that once for each template that has only booted: one that was a worker is warm already, and
another refork would exchange all workers for little. The worker is replaced first, as one that is recycled.
It drains and takes the place of the old template; then all workers that the old one has forked are replaced,
at the pace of `staffing`. A worker that turns out not to be fit for it ends, and the old template stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.supervisor.children import MEMBERS, State, Warmth
from prefork.supervisor.fleet import Mode
from prefork.supervisor.messages import Level, Order, Promote

if TYPE_CHECKING:
    from prefork.supervisor.children import Child
    from prefork.supervisor.fleet import Fleet

MOST_TRIES: Final = 3
"""Workers of a generation that are tried. What makes one unfit is most often true of all of them."""


class Reforking:
    """The change from a template that has booted to one that has been a worker.

    Args:
        fleet: whose templates they are.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._tries = 0
        self._tried = fleet.generation
        """The generation that was tried so often."""

    def warm(self, child: Child) -> None:
        """Take in that a worker has served enough requests."""
        if child.warmth is Warmth.COLD:
            child.warmth = Warmth.WARM

    def choose(self) -> None:
        """Have a warm worker replaced, so that it can be the template."""
        if not self._is_wanted:
            return
        found = [child for child in self._fleet.children.among(State.READY) if self._is_fit(child)]
        if found:
            found[0].warmth = Warmth.CHOSEN
            found[0].wants_successor = "is warm and is to be the next template"

    @property
    def _is_wanted(self) -> bool:
        fleet = self._fleet
        template = fleet.templates.forking(fleet.generation)
        under_way = any(child.warmth in {Warmth.CHOSEN, Warmth.TOLD} for child in fleet.children)
        return bool(
            fleet.policy.refork
            and fleet.mode is Mode.RUNNING
            and fleet.rollout is None
            and template is not None
            and not template.is_warm
            and not under_way
            and (self._tries < MOST_TRIES or self._tried != fleet.generation)
        )

    def _is_fit(self, child: Child) -> bool:
        present = child.generation == self._fleet.generation
        return present and child.warmth is Warmth.WARM and not child.wants_successor

    def dismissal(self, child: Child) -> Order:
        """Return the order for a worker that is not needed any more.

        Args:
            child: the worker, which others can stand in for.
        """
        fleet = self._fleet
        if child.warmth is not Warmth.CHOSEN:
            return Order.LEAVE
        if fleet.rollout is None and child.generation == fleet.generation and child.stuck is None:
            child.warmth = Warmth.TOLD
            return Order.REFORK
        child.warmth = Warmth.WARM
        return Order.LEAVE

    def promote(self, child: Child) -> None:
        """Make a template of a worker that has drained, and have the others replaced."""
        fleet = self._fleet
        if child.warmth is not Warmth.TOLD or child.state is not State.STOPPING:
            return  # it has gone mad; or it is ended by force just now
        fleet.children.remove(child.serial)
        template = fleet.templates.promote(child.generation, child.pid, fleet.now)
        fleet.do(Promote(child.serial, template.number))
        fleet.reforks += 1
        self._tries = 0
        fleet.say(Level.INFO, f"refork: {child} is the template now; workers of the old one are replaced")
        for other in fleet.children.among(*MEMBERS):
            if other.generation == child.generation and not other.wants_successor:
                other.wants_successor = "is from the old template"

    def failed(self, child: Child) -> None:
        """Take in that a worker has ended, asked to; perhaps it should have become the template."""
        fleet = self._fleet
        if child.warmth is not Warmth.TOLD or fleet.is_stopping or child.generation != fleet.generation:
            return
        self._tries = self._tries + 1 if self._tried == child.generation else 1
        self._tried = child.generation
        fleet.failed_reforks += 1
        then = "another one is tried" if self._tries < MOST_TRIES else "no other one is tried before a reload"
        fleet.say(Level.WARNING, f"refork: {child} is no template, the old one stays; {then}")
