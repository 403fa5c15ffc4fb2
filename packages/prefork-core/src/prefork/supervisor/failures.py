# SPDX-License-Identifier: MIT
"""What follows when a worker or a template is not there though it should be.

It decides what counts as a failure and what it leads to: another attempt now or later, the return to the
generation before, waiting for a change, or the end of the server. The pace of attempts is `backoff`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.errors import ExitCode
from prefork.supervisor.children import MEMBERS, SERVING, State
from prefork.supervisor.fleet import Mode, seconds
from prefork.supervisor.messages import Level

if TYPE_CHECKING:
    from prefork.supervisor.children import Child
    from prefork.supervisor.ending import Ending
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Death, ForkFailed, Reaped, TemplateEnded, TemplateFailed
    from prefork.supervisor.reforking import Reforking
    from prefork.supervisor.reloading import Reloading
    from prefork.supervisor.templates import Template

LIVED: Final = 5.0
"""Seconds that a worker must have been ready for its end not to be a failure to start."""


class Failures:
    """Everything that goes wrong with a process, and its consequences.

    Args:
        fleet: whose processes they are.
        reloading: rolls back.
        ending: ends a server that cannot start.
        reforking: tries another worker as the template.
    """

    def __init__(self, fleet: Fleet, reloading: Reloading, ending: Ending, reforking: Reforking) -> None:
        self._fleet = fleet
        self._reloading = reloading
        self._ending = ending
        self._reforking = reforking

    # ------------------------------------------------------------ a worker

    def fork_failed(self, event: ForkFailed) -> None:
        """Take in that a worker could not be forked, or was not."""
        fleet = self._fleet
        child = fleet.children.remove(event.serial)
        if child is None:
            return
        if child.state is not State.BOOTING:
            fleet.say(Level.DEBUG, f"{child} was given up before it was forked")
            return
        fleet.say(Level.ERROR, f"cannot start a worker: {event.why}")
        if fleet.is_new(child):
            self._reloading.roll_back(f"a worker could not be started: {event.why}")
        elif child.generation == fleet.generation:
            fleet.backoff.failed(child.born, fleet.now)

    def reaped(self, event: Reaped) -> None:
        """Take in that a worker has ended, asked or not."""
        fleet = self._fleet
        child = fleet.children.remove(event.serial)
        if child is None:
            return
        reason = _reason(child, event.death)
        if child.state not in SERVING | MEMBERS:
            clean = event.death.code == 0 or child.state is not State.STOPPING
            fleet.say(Level.INFO if clean else Level.WARNING, f"{child} ended ({reason})")
            self._reforking.failed(child)
            return
        served = child.served(fleet.now)
        since = f"after {seconds(served)} of service" if child.ready_at is not None else "before it was ready"
        fleet.say(Level.ERROR, f"{child} ended unexpectedly {since}: {reason}")
        if child.state in MEMBERS:
            self.failed(child, reason, event.death.code)

    def failed(self, child: Child, reason: str, code: int | None = None) -> None:
        """Decide what follows from the unexpected end of a member.

        Args:
            child: the worker.
            reason: for the log.
            code: with which it has exited, if it has.
        """
        fleet = self._fleet
        if fleet.mode is Mode.STARTING and not fleet.policy.watched:
            self._ending.give_up(code)
        elif child.served(fleet.now) >= LIVED:
            fleet.backoff.forget()
        elif fleet.is_new(child):
            self._reloading.roll_back(f"{child}: {reason}")
        elif fleet.policy.watched and child.ready_at is None:
            self._await_change()
        else:
            fleet.backoff.failed(child.born, fleet.now, was_ready=child.ready_at is not None)
            wait = fleet.backoff.next_at - fleet.now
            if wait > 0 and not fleet.is_stopping:
                fleet.say(Level.WARNING, f"the next worker starts in {seconds(wait)}")

    def _await_change(self) -> None:
        """Start nobody more until a reload: the same code would only fail again."""
        fleet = self._fleet
        fleet.backoff.hold()
        if not fleet.is_stopping:
            serving = len(fleet.children.among(*SERVING))
            left = f"{serving} of {fleet.target} workers serve on" if serving else "nobody serves"
            fleet.say(Level.ERROR, f"{left}; waiting for a change")

    # ------------------------------------------------------------ a template

    def template_not_forked(self, event: TemplateFailed) -> None:
        """Take in that a template could not be forked."""
        template = self._fleet.templates.remove(event.number)
        if template is not None:
            self._fleet.say(Level.ERROR, f"cannot start a template: {event.why}")
            self.template_failed(template, f"it could not be started: {event.why}", hopeless=False)

    def template_ended(self, event: TemplateEnded) -> None:
        """Take in that a template has ended, asked or not."""
        fleet = self._fleet
        template = fleet.templates.remove(event.number)
        if template is None:
            return
        reason = _reason(template, event.death)
        if template.state not in MEMBERS:
            fleet.say(Level.INFO, f"{template} ended ({reason})")
            return
        when = "before it was ready" if template.ready_at is None else "while it was needed"
        fleet.say(Level.ERROR, f"{template} ended unexpectedly {when}: {reason}")
        self.template_failed(template, reason, event.death.code)

    def template_failed(
        self, template: Template, reason: str, code: int | None = None, *, hopeless: bool = True
    ) -> None:
        """Decide what follows when a template cannot fork, or not any more.

        Args:
            template: which one.
            reason: for the log.
            code: with which it has exited, if it has.
            hopeless: whether another attempt would most likely end in the same way.
        """
        fleet = self._fleet
        if fleet.is_stopping or template.generation != fleet.generation:
            return
        if fleet.templates.of(template.generation) is not None:
            return  # the one that it has made way for
        if fleet.mode is Mode.STARTING and hopeless:
            self._ending.give_up(code)
        elif fleet.rollout is not None:
            self._reloading.roll_back(f"{template}: {reason}")
        else:
            backoff = fleet.templates.backoff
            backoff.failed(template.born, fleet.now, was_ready=template.ready_at is not None)
            wait = seconds(backoff.next_at - fleet.now)
            fleet.say(Level.WARNING, f"the next template starts in {wait}")


def _reason(child: Child | Template, death: Death) -> str:
    """Say how a process ended, and what that usually means."""
    if death.signal_name == "SIGKILL" and child.state not in {State.KILLED, State.ABORTED}:
        return "killed by SIGKILL: perhaps out of memory"
    if child.ready_at is None and death.code == ExitCode.BOOT:
        return "exit code 3: it could not boot"
    if child.ready_at is None and death.code == ExitCode.APP:
        return "exit code 4: the application was not found"
    return str(death)
