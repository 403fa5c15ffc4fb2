# SPDX-License-Identifier: MIT
"""Who is ended by force, when and why: what is stuck, too heavy, too slow to leave, or given up.

It decides between leaving a process alone, replacing it first, SIGABRT and SIGKILL. What follows for the
server is `failures`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor import weight
from prefork.supervisor.children import MEMBERS, SERVING, State
from prefork.supervisor.ending import ENDING
from prefork.supervisor.failures import LIVED
from prefork.supervisor.fleet import seconds
from prefork.supervisor.messages import Explain, Level, Plight, Reason
from prefork.supervisor.templates import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.supervisor.children import Child
    from prefork.supervisor.failures import Failures
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Discard, HungUp, Overdue, Weighed
    from prefork.supervisor.reloading import Reloading

HEED: Final = 2.0
"""Seconds in which a worker with a stuck request must begin to leave when it is told. One that does not runs
no Python code any more: it is stopped, or C code holds the interpreter's lock."""
HANGUP_GRACE: Final = 2.0
"""Seconds at least from the end of the channel to the end of the process: time to write a core."""

_STUCK: Final[Mapping[Reason, str]] = {
    Reason.TIMEOUT: "made no progress within timeout",
    Reason.REQUEST_TIMEOUT: "has a request that takes longer than request_timeout",
}


class Force:
    """Ends processes that do not do what they should.

    Args:
        fleet: whose processes they are.
        failures: decides what follows.
        reloading: rolls back.
    """

    def __init__(self, fleet: Fleet, failures: Failures, reloading: Reloading) -> None:
        self._fleet = fleet
        self._failures = failures
        self._reloading = reloading
        self._scales = weight.Scales()

    # ------------------------------------------------------------ what is known of a worker

    def overdue(self, event: Overdue) -> None:
        """Take in that a worker has a request that takes too long."""
        fleet = self._fleet
        child = fleet.children.get(event.serial)
        if child is None or child.state not in SERVING | {State.STOPPING}:
            return
        why = _STUCK[event.reason]
        if event.plight is Plight.LOST:
            self._replace(child, why, event.reason)
        elif child.stuck is None:
            self._explain(child, why, event.reason)
        elif child.state is State.STOPPING:
            if event.plight is Plight.EMPTY:
                self._replace(child, "has nothing left but what is stuck", event.reason)
            elif event.plight is Plight.SERVES and fleet.now >= child.told_at + HEED:
                self._replace(child, "does not begin to leave", event.reason)

    def _explain(self, child: Child, why: str, reason: Reason) -> None:
        """Have a stuck request shown once, and let its worker be replaced without a hurry."""
        fleet = self._fleet
        child.stuck = reason
        child.wants_successor = "has a stuck request"
        fleet.do(Explain(child.serial, why, reason))
        if child.state is State.READY and fleet.is_new(child) and child.served(fleet.now) < LIVED:
            self._reloading.roll_back(f"{child}: {why}")

    def weighed(self, event: Weighed) -> None:
        """Take in how much memory a worker has."""
        fleet = self._fleet
        child = fleet.children.get(event.serial)
        if child is None or child.state not in SERVING | {State.STOPPING}:
            return
        child.weigh(event.weight)
        if reason := weight.fatal(child, fleet.policy):
            self._replace(child, reason, Reason.MEMORY)
            return
        for warning in self._scales.judge(fleet.children, child, fleet.policy):
            fleet.say(Level.WARNING, warning)

    def discard(self, event: Discard) -> None:
        """Do as the operator says."""
        child = self._fleet.children.get(event.serial)
        if child is not None and child.state not in {State.ABORTED, State.KILLED}:
            self._fleet.abort(child, "was given up by the operator", Reason.OPERATOR)

    def hung_up(self, event: HungUp) -> None:
        """Take in that a worker cannot be told anything any more. Nearly always it is about to be reaped."""
        fleet = self._fleet
        child = fleet.children.get(event.serial)
        if child is not None and child.state in MEMBERS | SERVING:
            grace = max(fleet.policy.graceful_timeout, HANGUP_GRACE)
            child.deadline = min(child.deadline, fleet.now + grace)

    def _replace(self, child: Child, why: str, reason: Reason) -> None:
        """Abort a worker that has served, after its successor is started."""
        was = child.state
        self._fleet.abort(child, why, reason, after_successor=True)
        if was is State.READY:
            self._failures.failed(child, why)

    # ------------------------------------------------------------ a state that has lasted too long

    def expire(self, one: Child | Template) -> None:
        """End a state that has lasted too long."""
        if isinstance(one, Template):
            self._expire_template(one)
        else:
            self._expire_worker(one)

    def _expire_template(self, template: Template) -> None:
        fleet = self._fleet
        if template.state is State.BOOTING:
            reason = f"not ready after {seconds(fleet.now - template.born)} (boot_timeout)"
            fleet.templates.abort(template, f"is {reason}", fleet.now)
            self._failures.template_failed(template, reason)
        elif template.state is State.STOPPING:
            fleet.templates.kill(template, "did not stop in time", fleet.now)
        elif template.state is State.ABORTED:
            fleet.templates.kill(template, "did not end on SIGABRT", fleet.now)
        else:
            self._lose(template)

    def _expire_worker(self, child: Child) -> None:
        fleet = self._fleet
        template = None if child.pid else fleet.templates.get(child.template)
        if template is not None and template.state is State.READY:
            # Stopped by a signal, or stuck in a hook of os.register_at_fork.
            fleet.templates.kill(template, "has not forked a worker in time", fleet.now)
        if child.state is State.BOOTING:
            reason = f"not ready after {seconds(fleet.now - child.born)} (boot_timeout)"
            fleet.abort(child, f"is {reason}", Reason.BOOT_TIMEOUT)
            self._failures.failed(child, reason)
        elif child.state is State.STOPPING and child.stuck is not None:
            fleet.abort(child, "did not stop in time", child.stuck)
        elif child.state is State.STOPPING:
            why = "did not stop in time" if child.ready_at is not None else "was still booting"
            fleet.kill(child, why, Reason.GRACEFUL_TIMEOUT)
        elif child.state is State.ABORTED:
            assert child.ended_for is not None
            fleet.kill(child, "did not end on SIGABRT", child.ended_for)
        elif child.state in SERVING:
            fleet.kill(child, "has closed its channel and does not end", Reason.HANGUP)
        else:
            self._lose(child)

    def _lose(self, one: Child | Template) -> None:
        """Deal with a process that not even SIGKILL ends: only a stopping server forgets it."""
        fleet = self._fleet
        fleet.say(Level.ERROR, f"{one} does not end on SIGKILL: stuck in the kernel")
        one.deadline = inf
        if fleet.mode not in ENDING:
            return
        if isinstance(one, Template):
            fleet.templates.remove(one.number)
        else:
            fleet.children.remove(one.serial)
