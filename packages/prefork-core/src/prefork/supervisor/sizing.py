# SPDX-License-Identifier: MIT
"""How many workers there should be: what the settings, the operator and the load say together.

It decides the target. Who comes and goes for it is `staffing`; what the load asks for is `scaling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.supervisor import scaling
from prefork.supervisor.fleet import Mode
from prefork.supervisor.messages import Level, Resized

if TYPE_CHECKING:
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Park, Policy, Resize, Sampled


class Sizing:
    """The number of workers that is aimed at.

    Args:
        fleet: what it is aimed at in.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._scaling = scaling.Scaling()
        self.shift = 0
        """By how much the operator has moved min_workers and max_workers."""
        self._lent = 0
        """How many workers there were when the work was left to a successor."""

    @property
    def bounds(self) -> scaling.Range:
        """How few and how many workers there may be."""
        return scaling.span(self._fleet.policy, self.shift, self._fleet.children.size)

    def aim_at(self, target: int, why: str = "") -> None:
        """Change the number of workers.

        Args:
            target: how many there should be.
            why: for the log.
        """
        fleet = self._fleet
        old, fleet.target = fleet.target, target
        if old != target:
            fleet.say(Level.INFO, f"workers: {target} (were {old}){': ' if why else ''}{why}")
            fleet.do(Resized(target, old))

    def resize(self, event: Resize) -> None:
        """Do as the operator says: so many more or fewer."""
        fleet = self._fleet
        if fleet.is_going:
            fleet.say(Level.INFO, "the number of workers stays: the server is stopping")
            return
        if fleet.target:
            self.shift = scaling.moved(fleet.policy, self.shift + event.by, fleet.children.size)
        bounds = self.bounds
        if fleet.policy.max_workers:
            fleet.say(Level.INFO, f"workers: {bounds.least} to {bounds.most} as the load asks for")
        least = min(fleet.target, bounds.least)  # a parked server stays parked
        self.aim_at(max(least, min(fleet.target + event.by, bounds.most)))

    def sample(self, event: Sampled) -> None:
        """Do as the load says."""
        fleet = self._fleet
        if fleet.mode is not Mode.RUNNING or fleet.rollout is not None or not fleet.target:
            self._scaling.forget()  # what is on its way out serves too
        elif fleet.policy.max_workers:
            change = self._scaling.decide(event, fleet.target, self.bounds, fleet.now)
            if change is not None:
                self.aim_at(change.target, change.why)

    def park(self, _: Park) -> None:
        """Have no worker until there is a reload or a resize."""
        fleet = self._fleet
        if fleet.is_stopping or not fleet.target:
            return
        self._lent = fleet.target if fleet.kinship.has_ready else 0
        self.aim_at(0)

    def take_back(self) -> None:
        """Have the workers again that there were before a successor had the work."""
        fleet = self._fleet
        if self._lent and not fleet.target and not fleet.is_stopping:
            self.aim_at(self.bounds.clamp(self._lent), "the successor does not serve on")
        self._lent = 0

    @property
    def moved(self) -> int:
        """By how much the operator has moved the number of workers, or the bounds that the load has."""
        fleet = self._fleet
        if fleet.policy.max_workers:
            return self.shift
        return (fleet.target or self._lent or fleet.policy.workers) - fleet.policy.workers

    def of_reload(self, policy: Policy) -> int:
        """Return how many workers a reload starts from: what was asked for by hand stays, if it still can.

        Args:
            policy: of the generation that comes.
        """
        fleet = self._fleet
        is_fixed_now = fleet.policy.max_workers and not policy.max_workers
        if policy.workers != fleet.policy.workers or is_fixed_now or fleet.target == 0:
            return policy.workers
        return fleet.target

    def adopt(self, policy: Policy) -> None:
        """Forget by how much bounds were moved that another policy is about to replace."""
        if not scaling.same(self._fleet.policy, policy):
            self.shift = 0
