# SPDX-License-Identifier: MIT
"""Generations: how a new one takes over, and when the old one comes back.

It decides which generation is the present one. A reload makes the new one that, and the old workers
RETIRING. Rolling it back is the same the other way round, so it cannot lower the capacity either.
How fast workers are exchanged is `staffing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.supervisor import scaling, staffing
from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import MEMBERS, State
from prefork.supervisor.fleet import Mode, seconds
from prefork.supervisor.messages import Gone, Level, Order, Reloaded, RolledBack
from prefork.supervisor.staffing import Rollout

if TYPE_CHECKING:
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Policy, Reload
    from prefork.supervisor.sizing import Sizing

PROOF: Final = 1.0
"""Seconds that the first new worker of a reload must stay alive before an old one goes."""


class Reloading:
    """The change from one generation to another.

    Args:
        fleet: whose generations they are.
        sizing: how many workers each has.
    """

    def __init__(self, fleet: Fleet, sizing: Sizing) -> None:
        self._fleet = fleet
        self._sizing = sizing
        self._unfinished = {fleet.generation}
        """Generations for which `Gone` has not been said."""

    def begin(self, event: Reload) -> None:
        """Make a new generation the present one."""
        fleet = self._fleet
        self._unfinished.add(event.generation)
        fleet.rolled_back = ""
        if fleet.is_going:
            fleet.say(Level.WARNING, "reload ignored: the server is stopping")
            fleet.do(RolledBack(event.generation, fleet.generation))
            return
        if fleet.rollout is not None:
            fleet.say(Level.WARNING, f"reload to generation {fleet.generation} given up for a newer one")
        if fleet.mode is Mode.RUNNING:
            fleet.rollout = self._rollout()
        target = self._sizing.of_reload(event.policy)
        self._adopt(event.generation, event.policy)
        fleet.say(Level.INFO, f"reload: starting generation {event.generation}")
        self._sizing.aim_at(self._sizing.bounds.clamp(target))

    def _rollout(self) -> Rollout:
        """Return what to return to: the last generation that was complete."""
        fleet, old = self._fleet, self._fleet.rollout
        return Rollout(
            began=fleet.now,
            old_generation=old.old_generation if old else fleet.generation,
            old_policy=old.old_policy if old else fleet.policy,
            old_target=old.old_target if old else fleet.target,
            old_shift=old.old_shift if old else self._sizing.shift,
        )

    def prove(self) -> None:
        """Note that a worker is ready, with which the new generation has to prove itself."""
        fleet = self._fleet
        if fleet.rollout is not None:
            proof = 0.0 if fleet.policy.watched else PROOF
            fleet.rollout.proven_at = min(fleet.rollout.proven_at, fleet.now + proof)

    def finish(self) -> None:
        """End a reload that has all the workers it needs."""
        fleet, rollout = self._fleet, self._fleet.rollout
        if rollout is None or not staffing.is_complete(fleet.children, fleet.target, rollout, fleet.now):
            return
        fleet.rollout = None
        took = seconds(fleet.now - rollout.began)
        replaced = f"{fleet.target} of {fleet.target} replaced"
        fleet.say(Level.INFO, f"reload: generation {fleet.generation} ready, {replaced}, took {took}")
        fleet.do(Reloaded(fleet.generation))

    def roll_back(self, reason: str) -> None:
        """Return to the generation from before the reload, without lowering the capacity.

        Args:
            reason: for the log and whoever asks later.
        """
        fleet = self._fleet
        rollout, fleet.rollout = fleet.rollout, None
        if rollout is None:
            return
        fleet.rolled_back = reason
        given_up = fleet.generation
        old_policy = rollout.old_policy
        same = fleet.policy.workers == old_policy.workers and scaling.same(fleet.policy, old_policy)
        target, shift = rollout.old_target, rollout.old_shift
        if same:  # what the operator asked for meanwhile stays
            target, shift = fleet.target, self._sizing.shift
        # First, so that the line below is in the log that the server had before the reload.
        fleet.do(RolledBack(given_up, rollout.old_generation))
        old = f"generation {rollout.old_generation} serves on"
        if rollout.old_policy.watched:
            old = f"serving the old code on (generation {rollout.old_generation}); waiting for a change"
        fleet.say(Level.ERROR, f"reload rolled back: {reason}; {old}")
        self._adopt(rollout.old_generation, old_policy)
        self._sizing.shift = shift
        self._sizing.aim_at(target)

    def _adopt(self, generation: int, policy: Policy) -> None:
        """Make a generation the present one, and every other worker one to be replaced."""
        fleet = self._fleet
        fleet.generation = generation
        self._sizing.adopt(policy)
        fleet.policy = policy
        fleet.backoff = Backoff(probing=policy.watched)
        fleet.templates.backoff = Backoff()
        for child in fleet.children.among(*MEMBERS, State.RETIRING):
            present = child.generation == generation
            if present and child.state is State.RETIRING:
                child.enter(State.READY, child.deadline)
            elif not present and child.state is State.READY:
                child.enter(State.RETIRING, child.deadline)
            elif not present and child.state is State.BOOTING:
                fleet.dismiss(child, Order.LEAVE)

    def say_gone(self) -> None:
        """Name the generations that nothing is left of, and that none will return to."""
        fleet = self._fleet
        wanted = fleet.children.generations() | fleet.templates.generations() | fleet.statuses.generations()
        wanted.add(fleet.generation)
        if fleet.rollout is not None:
            wanted.add(fleet.rollout.old_generation)
        for generation in sorted(self._unfinished - wanted):
            self._unfinished.remove(generation)
            fleet.do(Gone(generation))
