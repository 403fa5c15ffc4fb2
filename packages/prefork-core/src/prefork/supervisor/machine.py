# SPDX-License-Identifier: MIT
"""Every decision about workers: how many, which generation, when one goes and what follows.

`Machine.step` is told what happened and answers with what to do. It knows nothing of
processes, signals, sockets or clocks, and never waits; `next_deadline` says when it wants to
be asked again though nothing happened.

A step takes the event in, then brings what is nearer to what should be (`_reconcile`, with
the numbers of `staffing`) and ends states that have lasted too long (`force`), until
nothing changes. So a message that is lost or late delays things, but cannot leave them wrong.

Each kind of decision has a module, and all work on one `Fleet`: `sizing`, `reloading`, `reforking`,
`ending`, `failures`, `force`, `upgrading`. Here is who is asked about which event, and what a step is
made of.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor import messages as on
from prefork.supervisor import recycling, staffing
from prefork.supervisor.children import State
from prefork.supervisor.ending import Ending
from prefork.supervisor.failures import Failures
from prefork.supervisor.fleet import Fleet, Mode, seconds
from prefork.supervisor.force import Force
from prefork.supervisor.messages import Level, Report, Resized, Serving, Spawn
from prefork.supervisor.reforking import Reforking
from prefork.supervisor.reloading import Reloading
from prefork.supervisor.sizing import Sizing
from prefork.supervisor.upgrading import Upgrading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from prefork.supervisor.children import Child
    from prefork.supervisor.messages import Action, Event, Policy

MOST_ASKED: Final = 64
"""Forks that a template is asked for at once: more would not fit into the buffer of a socket."""


class Machine:
    """The supervisor of one server.

    Args:
        policy: of the first generation.
        generation: its number; each `Reload` brings a higher one.
        slots: how many children there can be.
        predecessor: pid of the arbiter that this one is to succeed; 0 when there is none.
    """

    def __init__(
        self, policy: Policy, *, generation: int = 1, slots: int = 1024, predecessor: int = 0
    ) -> None:
        fleet = Fleet(policy, generation, slots, predecessor)
        self.fleet = fleet
        self._sizing = Sizing(fleet)
        self._reloading = Reloading(fleet, self._sizing)
        self._ending = Ending(fleet)
        self._reforking = Reforking(fleet)
        self._failures = Failures(fleet, self._reloading, self._ending, self._reforking)
        self._force = Force(fleet, self._failures, self._reloading)
        self._upgrading = Upgrading(fleet, self._sizing, self._ending)
        self._handlers = self._table()

    def _table(self) -> Mapping[type[Event], Callable[[Any], None]]:
        """Say who is told of which event."""
        return {
            on.Start: self._start,
            on.Tick: lambda _: None,  # what is due is done in every step
            on.Forked: self._forked,
            on.Reported: self._reported,
            on.TemplateForked: self._template_forked,
            on.TemplateReady: self._template_ready,
            on.ForkFailed: self._failures.fork_failed,
            on.Reaped: self._failures.reaped,
            on.TemplateFailed: self._failures.template_not_forked,
            on.TemplateEnded: self._failures.template_ended,
            on.StatusForked: self.fleet.statuses.forked,
            on.StatusFailed: self.fleet.statuses.failed,
            on.StatusSilent: self.fleet.statuses.silent,
            on.StatusEnded: self.fleet.statuses.ended,
            on.HungUp: self._force.hung_up,
            on.Overdue: self._force.overdue,
            on.Weighed: self._force.weighed,
            on.Discard: self._force.discard,
            on.Resize: self._sizing.resize,
            on.Sampled: self._sizing.sample,
            on.Park: self._sizing.park,
            on.Reload: self._reloading.begin,
            on.Stop: self._ending.stop,
            on.Upgrade: self._upgrading.begin,
            on.SuccessorForked: self._upgrading.forked,
            on.SuccessorFailed: self._upgrading.not_forked,
            on.SuccessorReady: self._upgrading.ready,
            on.SuccessorEnded: self._upgrading.ended,
            on.OtherLeaves: self._upgrading.other_leaves,
            on.PredecessorGone: self._upgrading.predecessor_gone,
        }

    def step(self, event: Event, now: float) -> list[Action]:
        """Take in what happened, and decide.

        Args:
            event: what happened.
            now: monotonic seconds, never less than in the step before.

        Returns:
            What to do, in this order.
        """
        fleet = self.fleet
        fleet.begin(now)
        if fleet.mode is Mode.ENDED:
            return []
        self._handlers[type(event)](event)
        self._reconcile()
        fleet.do_last()
        while late := [one for one in (*fleet.children, *fleet.templates) if one.deadline <= now]:
            for one in late:
                if one.deadline <= now:  # the one before may have changed it
                    self._force.expire(one)
            self._reconcile()
        return fleet.actions

    @property
    def no_upgrade(self) -> str:
        """Why there can be no upgrade now; empty when there can."""
        return self._upgrading.refusal

    @property
    def moved(self) -> int:
        """By how much an operator has moved the number of workers, or the bounds of it."""
        return self._sizing.moved

    def next_deadline(self) -> float | None:
        """Return when to call `step` with `Tick` at the latest, or None when only an event can matter."""
        fleet = self.fleet
        times = [child.deadline for child in fleet.children]
        times.append(self._ending.drains_at)
        times += [child.expires for child in fleet.children.among(State.READY)]
        times.append(fleet.templates.next_deadline(self._preloaded))
        times.append(fleet.kinship.next_deadline())
        times.append(fleet.statuses.next_deadline())
        if not fleet.is_stopping and staffing.missing(fleet.children, fleet.target) > 0:
            times.append(fleet.backoff.next_at)
        if fleet.rollout is not None:
            times.append(fleet.rollout.proven_at)
        # What was due at the last step has been dealt with, or waits for something else.
        return min((time for time in times if fleet.now < time < inf), default=None)

    # ------------------------------------------------------------ what goes as it should

    def _start(self, _: on.Start) -> None:
        self.fleet.do(Resized(self.fleet.target, None))

    def _forked(self, event: on.Forked) -> None:
        child = self.fleet.children.get(event.serial)
        if child is not None:
            child.pid = event.pid
            self.fleet.say(Level.DEBUG, f"{child} started")

    def _reported(self, event: on.Reported) -> None:
        fleet = self.fleet
        child = fleet.children.get(event.serial)
        if child is None:
            return
        if event.report is Report.RETIRE:
            child.wants_successor = "has served its share"
        elif event.report is Report.WARM:
            self._reforking.warm(child)
        elif event.report is Report.TEMPLATE:
            self._reforking.promote(child)
        elif child.state is State.BOOTING:
            self._welcome(child)
        elif child.state is State.STOPPING and child.ready_at is None:
            # It became ready as it was told to stop, so it may have a request after all.
            child.ready_at = fleet.now
            if fleet.mode is not Mode.QUITTING:
                child.deadline = fleet.now + fleet.graceful_timeout

    def _welcome(self, child: Child) -> None:
        """Count a child as ready."""
        fleet = self.fleet
        child.enter(State.READY)
        child.ready_at = fleet.now
        child.expires = fleet.now + recycling.lifetime(child.serial, fleet.policy)
        fleet.backoff.succeeded()
        fleet.say(Level.INFO, f"{child} ready after {seconds(fleet.now - child.born)}")
        self._reloading.prove()
        fleet.kinship.note_ready(fleet.now)
        if fleet.mode is Mode.STARTING:
            fleet.mode = Mode.RUNNING
            fleet.do(Serving())

    def _template_forked(self, event: on.TemplateForked) -> None:
        template = self.fleet.templates.get(event.number)
        if template is not None:
            template.pid = event.pid
            self.fleet.say(Level.DEBUG, f"{template} started")

    def _template_ready(self, event: on.TemplateReady) -> None:
        fleet = self.fleet
        template = fleet.templates.ready(event.number, fleet.now)
        if template is not None:
            fleet.say(Level.INFO, f"{template} ready after {seconds(fleet.now - template.born)}")

    # ------------------------------------------------------------ what is against what should be

    def _reconcile(self) -> None:
        if not self.fleet.is_stopping:
            self._reloading.finish()
            self._dismiss_surplus()
            self._admit_retirements()
            self._spawn_missing()
        self._upgrading.go_on()
        self._ending.go_on()
        self._tend_templates()
        self.fleet.statuses.tend()
        self._ending.finish()
        self._reloading.say_gone()

    def _dismiss_surplus(self) -> None:
        fleet = self.fleet
        for child in staffing.surplus(fleet.children, fleet.target):
            fleet.dismiss(child, self._reforking.dismissal(child))
        for child in staffing.spare(fleet.children, fleet.target, fleet.rollout, fleet.now):
            fleet.dismiss(child, self._reforking.dismissal(child))

    def _admit_retirements(self) -> None:
        fleet = self.fleet
        recycling.note_age(fleet.children, fleet.policy, fleet.now)
        self._reforking.choose()
        for child in staffing.retirements(fleet.children, fleet.target, fleet.rollout):
            child.enter(State.RETIRING, child.deadline)
            fleet.say(Level.INFO, f"{child} {child.wants_successor}: starting its successor")

    @property
    def _preloaded(self) -> int | None:
        """The generation whose workers are forked by a template; None while there is to be no template."""
        fleet = self.fleet
        goes = fleet.is_stopping or self._upgrading.has_left
        return fleet.generation if fleet.policy.preload and not goes else None

    def _tend_templates(self) -> None:
        fleet = self.fleet
        kept = None if fleet.rollout is None or fleet.is_stopping else fleet.rollout.old_generation
        busy = {child.template for child in fleet.children if not child.pid}
        fleet.templates.tend(self._preloaded, kept, busy, fleet.now, fleet.policy.boot_timeout or inf)

    def _spawn_missing(self) -> None:
        fleet = self.fleet
        vacancies = staffing.vacancies(fleet.children, fleet.target, fleet.rollout, fleet.policy)
        template = fleet.templates.forking(fleet.generation)
        if fleet.policy.preload:
            if template is None:
                return
            asked = sum(not child.pid for child in fleet.children.among(State.BOOTING))
            vacancies = min(vacancies, MOST_ASKED - asked)
        booting = len(fleet.children.among(State.BOOTING))
        for _ in range(fleet.backoff.allowance(vacancies, booting, fleet.now)):
            timeout = fleet.policy.boot_timeout or inf
            child = fleet.children.add(fleet.generation, fleet.now, fleet.now + timeout)
            if template is not None:
                child.template = template.number
            fleet.do(Spawn(child.serial, child.slot, child.generation, child.template))
