# SPDX-License-Identifier: MIT
"""Every decision about workers: how many, which generation, when one goes and what follows.

`Machine.step` is told what happened and answers with what to do. It knows nothing of
processes, signals, sockets or clocks, and never waits; `next_deadline` says when it wants to
be asked again though nothing happened.

A step takes the event in, then brings what is nearer to what should be (`_reconcile`, with
the numbers of `staffing`) and ends states that have lasted too long (`_expire`), until
nothing changes. So a message that is lost or late delays things, but cannot leave them wrong.

A reload makes the new generation the present one and the old workers RETIRING. Rolling it
back is the same the other way round, so it cannot lower the capacity either.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from prefork.errors import ExitCode
from prefork.supervisor import recycling, scaling, staffing, weight
from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import MEMBERS, SERVING, Children, State
from prefork.supervisor.messages import (
    Abort,
    Discard,
    Exit,
    Explain,
    Forked,
    ForkFailed,
    Gone,
    HungUp,
    Kill,
    Level,
    Order,
    Overdue,
    Park,
    Plight,
    Reaped,
    Reason,
    Reload,
    Reloaded,
    Report,
    Reported,
    Resize,
    Resized,
    RolledBack,
    Sampled,
    Say,
    Send,
    Serving,
    Spawn,
    Start,
    Stop,
    Stopping,
    StopQueueing,
    TemplateEnded,
    TemplateFailed,
    TemplateForked,
    TemplateReady,
    Tick,
    Weighed,
)
from prefork.supervisor.staffing import Rollout
from prefork.supervisor.templates import Template, Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from prefork.supervisor.children import Child
    from prefork.supervisor.messages import (
        Action,
        Death,
        Event,
        Policy,
    )

LIVED: Final = 5.0
"""Seconds that a worker must have been ready for its end not to be a failure to start."""
PROOF: Final = 1.0
"""Seconds that the first new worker of a reload must stay alive before an old one goes."""
BOOT_GRACE: Final = 1.0
"""Seconds that a worker which is loading the application gets to stop. It has no request."""
ABORT_GRACE: Final = 1.0
"""Seconds from SIGABRT to SIGKILL: time to write a stack."""
HEED: Final = 2.0
"""Seconds in which a worker with a stuck request must begin to leave when it is told. One that does not runs
no Python code any more: it is stopped, or C code holds the interpreter's lock."""
QUICK_GRACE: Final = 2.0
"""Seconds for a quick stop."""
HANGUP_GRACE: Final = 2.0
"""Seconds at least from the end of the channel to the end of the process: time to write a core."""
ECHO: Final = 1.0
"""Seconds in which a second TERM is the first one's echo: timeout(1), shells and supervisors send it to the
process and then to its group, and that must not cut requests off."""
REAP_GRACE: Final = 5.0
"""Seconds from SIGKILL until a stopping server waits no longer (a process stuck in the kernel)."""
MOST_ASKED: Final = 64
"""Forks that a template is asked for at once: more would not fit into the buffer of a socket."""


class Mode(Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    """No worker has ever been ready."""
    RUNNING = "running"
    DELAYING = "delaying"
    """Told to stop, serving on for drain_delay."""
    DRAINING = "draining"
    """The workers finish what they have in hand."""
    QUITTING = "quitting"
    """The workers drop everything."""
    ENDED = "ended"


_STUCK: Final = {
    Reason.TIMEOUT: "made no progress within timeout",
    Reason.REQUEST_TIMEOUT: "has a request that takes longer than request_timeout",
}

_ENDING: Final = frozenset({Mode.DRAINING, Mode.QUITTING})


class Machine:
    """The supervisor of one server.

    Args:
        policy: of the first generation.
        generation: its number; each `Reload` brings a higher one.
        slots: how many children there can be.
    """

    def __init__(self, policy: Policy, *, generation: int = 1, slots: int = 1024) -> None:
        self.children = Children(slots)
        self.templates = Templates(self._do)
        self.policy = policy
        self.generation = generation
        self.target = min(policy.workers, slots)
        self.mode = Mode.STARTING
        self.rollout: Rollout | None = None
        self.rolled_back = ""
        """Why the last reload was rolled back; empty when it was not."""
        self._backoff = Backoff(probing=policy.watched)
        self._scales = weight.Scales()
        self._scaling = scaling.Scaling()
        self._shift = 0
        """By how much the operator has moved min_workers and max_workers."""
        self._stop_at = inf
        self._stopped_at = inf
        self._exit_code = int(ExitCode.OK)
        self._unfinished = {generation}
        """Generations for which `Gone` has not been said."""
        self._now = 0.0
        self._actions: list[Action] = []

    def step(self, event: Event, now: float) -> list[Action]:
        """Take in what happened, and decide.

        Args:
            event: what happened.
            now: monotonic seconds, never less than in the step before.

        Returns:
            What to do, in this order.
        """
        self._now = now
        self._actions = []
        if self.mode is Mode.ENDED:
            return []
        self._HANDLERS[type(event)](self, event)
        self._reconcile()
        while late := [one for one in (*self.children, *self.templates) if one.deadline <= now]:
            for one in late:
                if one.deadline <= now:  # the one before may have changed it
                    self._expire(one)
            self._reconcile()
        return self._actions

    def next_deadline(self) -> float | None:
        """Return when to call `step` with `Tick` at the latest, or None when only an event can matter."""
        times = [child.deadline for child in self.children]
        times.append(self._stop_at)
        times += [child.expires for child in self.children.among(State.READY)]
        times.append(self.templates.next_deadline(self._preloaded))
        if not self._is_stopping and staffing.missing(self.children, self.target) > 0:
            times.append(self._backoff.next_at)
        if self.rollout is not None:
            times.append(self.rollout.proven_at)
        # What was due at the last step has been dealt with, or waits for something else.
        return min((time for time in times if self._now < time < inf), default=None)

    # ------------------------------------------------------------ events about the server

    def _on_start(self, _: Start) -> None:
        self._do(Resized(self.target, None))

    def _on_tick(self, _: Tick) -> None:
        pass  # what is due is done in every step

    def _on_resize(self, event: Resize) -> None:
        if self._is_stopping:
            self._say(Level.INFO, "the number of workers stays: the server is stopping")
            return
        if self.target:
            self._shift = scaling.moved(self.policy, self._shift + event.by, self.children.size)
        bounds = self._bounds
        if self.policy.max_workers:
            self._say(Level.INFO, f"workers: {bounds.least} to {bounds.most} as the load asks for")
        least = min(self.target, bounds.least)  # a parked server stays parked
        self._aim_at(max(least, min(self.target + event.by, bounds.most)))

    def _on_sampled(self, event: Sampled) -> None:
        if self.mode is not Mode.RUNNING or self.rollout is not None or not self.target:
            self._scaling.forget()  # what is on its way out serves too
        elif self.policy.max_workers:
            change = self._scaling.decide(event, self.target, self._bounds, self._now)
            if change is not None:
                self._aim_at(change.target, change.why)

    def _on_park(self, _: Park) -> None:
        if not self._is_stopping:
            self._aim_at(0)

    def _on_stop(self, event: Stop) -> None:
        if not event.quick and self._now < self._stopped_at + ECHO < inf:
            return
        if self._is_stopping or event.quick:
            self._quit()
            return
        self._stopped_at = self._now
        self._announce_stop()
        for child in self.children.among(State.BOOTING):
            self._dismiss(child, Order.DRAIN)
        if self.policy.drain_delay > 0 and self.children.among(*SERVING):
            self.mode = Mode.DELAYING
            self._stop_at = self._now + self.policy.drain_delay
            self._say(Level.INFO, f"stopping in {_seconds(self.policy.drain_delay)} (drain_delay)")
        else:
            self._drain()

    def _on_reload(self, event: Reload) -> None:
        self._unfinished.add(event.generation)
        self.rolled_back = ""
        if self._is_stopping:
            self._say(Level.WARNING, "reload ignored: the server is stopping")
            self._do(RolledBack(event.generation, self.generation))
            return
        old = self.rollout
        if old is not None:
            self._say(Level.WARNING, f"reload to generation {self.generation} given up for a newer one")
        if self.mode is Mode.RUNNING:
            # What counts as old is the last generation that was complete.
            self.rollout = Rollout(
                began=self._now,
                old_generation=old.old_generation if old else self.generation,
                old_policy=old.old_policy if old else self.policy,
                old_target=old.old_target if old else self.target,
                old_shift=old.old_shift if old else self._shift,
            )
        target = self.target
        is_fixed_now = self.policy.max_workers and not event.policy.max_workers
        if event.policy.workers != self.policy.workers or is_fixed_now or self.target == 0:
            target = event.policy.workers
        self._adopt(event.generation, event.policy)
        self._say(Level.INFO, f"reload: starting generation {event.generation}")
        self._aim_at(self._bounds.clamp(target))

    # ------------------------------------------------------------ events about one child

    def _on_forked(self, event: Forked) -> None:
        child = self.children.get(event.serial)
        if child is not None:
            child.pid = event.pid
            self._say(Level.DEBUG, f"{child} started")

    def _on_fork_failed(self, event: ForkFailed) -> None:
        child = self.children.remove(event.serial)
        if child is None:
            return
        if child.state is not State.BOOTING:
            self._say(Level.DEBUG, f"{child} was given up before it was forked")
            return
        self._say(Level.ERROR, f"cannot start a worker: {event.why}")
        if self._is_new(child):
            self._roll_back(f"a worker could not be started: {event.why}")
        elif child.generation == self.generation:
            self._backoff.failed(child.born, self._now)

    def _on_reported(self, event: Reported) -> None:
        child = self.children.get(event.serial)
        if child is None:
            return
        if event.report is Report.RETIRE:
            child.wants_successor = "has served its share"
        elif child.state is State.BOOTING:
            self._welcome(child)
        elif child.state is State.STOPPING and child.ready_at is None:
            # It became ready as it was told to stop, so it may have a request after all.
            child.ready_at = self._now
            if self.mode is not Mode.QUITTING:
                child.deadline = self._now + self._graceful_timeout

    def _on_hung_up(self, event: HungUp) -> None:
        child = self.children.get(event.serial)
        if child is not None and child.state in MEMBERS | SERVING:
            # It cannot be told anything any more. Nearly always it is about to be reaped.
            grace = max(self.policy.graceful_timeout, HANGUP_GRACE)
            child.deadline = min(child.deadline, self._now + grace)

    def _on_overdue(self, event: Overdue) -> None:
        child = self.children.get(event.serial)
        if child is None or child.state not in SERVING | {State.STOPPING}:
            return
        why = _STUCK[event.reason]
        if event.plight is Plight.LOST:
            self._abort_one_that_served(child, why, event.reason)
        elif child.stuck is None:
            child.stuck = event.reason
            child.wants_successor = "has a stuck request"
            self._do(Explain(child.serial, why, event.reason))
            if child.state is State.READY and self._is_new(child) and child.served(self._now) < LIVED:
                self._roll_back(f"{child}: {why}")
        elif child.state is State.STOPPING:
            if event.plight is Plight.EMPTY:
                self._abort_one_that_served(child, "has nothing left but what is stuck", event.reason)
            elif event.plight is Plight.SERVES and self._now >= child.told_at + HEED:
                self._abort_one_that_served(child, "does not begin to leave", event.reason)

    def _on_weighed(self, event: Weighed) -> None:
        child = self.children.get(event.serial)
        if child is None or child.state not in SERVING | {State.STOPPING}:
            return
        child.weigh(event.weight)
        if reason := weight.fatal(child, self.policy):
            self._abort_one_that_served(child, reason, Reason.MEMORY)
            return
        for warning in self._scales.judge(self.children, child, self.policy):
            self._say(Level.WARNING, warning)

    def _on_discard(self, event: Discard) -> None:
        child = self.children.get(event.serial)
        if child is not None and child.state not in {State.ABORTED, State.KILLED}:
            self._abort(child, "was given up by the operator", Reason.OPERATOR)

    def _on_reaped(self, event: Reaped) -> None:
        child = self.children.remove(event.serial)
        if child is None:
            return
        reason = _reason(child, event.death)
        if child.state not in SERVING | MEMBERS:
            clean = event.death.code == 0 or child.state is not State.STOPPING
            self._say(Level.INFO if clean else Level.WARNING, f"{child} ended ({reason})")
            return
        served = child.served(self._now)
        since = (
            f"after {_seconds(served)} of service" if child.ready_at is not None else "before it was ready"
        )
        self._say(Level.ERROR, f"{child} ended unexpectedly {since}: {reason}")
        if child.state in MEMBERS:
            self._failed(child, reason, event.death.code)

    # ------------------------------------------------------------ events about a template

    def _on_template_forked(self, event: TemplateForked) -> None:
        template = self.templates.get(event.generation)
        if template is not None:
            template.pid = event.pid
            self._say(Level.DEBUG, f"{template} started")

    def _on_template_failed(self, event: TemplateFailed) -> None:
        template = self.templates.remove(event.generation)
        if template is not None:
            self._say(Level.ERROR, f"cannot start a template: {event.why}")
            self._template_failed(template, f"it could not be started: {event.why}", hopeless=False)

    def _on_template_ready(self, event: TemplateReady) -> None:
        template = self.templates.ready(event.generation, self._now)
        if template is not None:
            self._say(Level.INFO, f"{template} ready after {_seconds(self._now - template.born)}")

    def _on_template_ended(self, event: TemplateEnded) -> None:
        template = self.templates.remove(event.generation)
        if template is None:
            return
        reason = _reason(template, event.death)
        if template.state not in MEMBERS:
            self._say(Level.INFO, f"{template} ended ({reason})")
            return
        when = "before it was ready" if template.ready_at is None else "while it was needed"
        self._say(Level.ERROR, f"{template} ended unexpectedly {when}: {reason}")
        self._template_failed(template, reason, event.death.code)

    def _template_failed(
        self, template: Template, reason: str, code: int | None = None, *, hopeless: bool = True
    ) -> None:
        """Decide what follows when a template cannot fork, or not any more."""
        if self._is_stopping or template.generation != self.generation:
            return
        if self.mode is Mode.STARTING and hopeless:
            self._give_up(code)
        elif self.rollout is not None:
            self._roll_back(f"{template}: {reason}")
        else:
            backoff = self.templates.backoff
            backoff.failed(template.born, self._now)
            wait = _seconds(backoff.next_at - self._now)
            self._say(Level.WARNING, f"the next template starts in {wait}")

    # ------------------------------------------------------------ what an event means

    def _welcome(self, child: Child) -> None:
        """Count a child as ready."""
        child.enter(State.READY)
        child.ready_at = self._now
        child.expires = self._now + recycling.lifetime(child.serial, self.policy)
        self._backoff.succeeded()
        self._say(Level.INFO, f"{child} ready after {_seconds(self._now - child.born)}")
        if self.rollout is not None:
            proof = 0.0 if self.policy.watched else PROOF
            self.rollout.proven_at = min(self.rollout.proven_at, self._now + proof)
        if self.mode is Mode.STARTING:
            self.mode = Mode.RUNNING
            self._do(Serving())

    def _failed(self, child: Child, reason: str, code: int | None = None) -> None:
        """Decide what follows from the unexpected end of a member."""
        if self.mode is Mode.STARTING and not self.policy.watched:
            self._give_up(code)
        elif child.served(self._now) >= LIVED:
            self._backoff.forget()
        elif self._is_new(child):
            self._roll_back(f"{child}: {reason}")
        elif self.policy.watched and child.ready_at is None:
            self._await_change()
        else:
            self._backoff.failed(child.born, self._now)
            wait = self._backoff.next_at - self._now
            if wait > 0 and not self._is_stopping:
                self._say(Level.WARNING, f"the next worker starts in {_seconds(wait)}")

    def _give_up(self, code: int | None) -> None:
        """End a server whose first workers cannot boot."""
        self._exit_code = code if code in (ExitCode.BOOT, ExitCode.APP) else int(ExitCode.BOOT)
        self._say(Level.ERROR, f"the first worker could not boot: giving up (exit code {self._exit_code})")
        self._quit()

    def _await_change(self) -> None:
        """Start nobody more until a reload: the same code would only fail again."""
        self._backoff.hold()
        if not self._is_stopping:
            serving = len(self.children.among(*SERVING))
            left = f"{serving} of {self.target} workers serve on" if serving else "nobody serves"
            self._say(Level.ERROR, f"{left}; waiting for a change")

    def _expire(self, one: Child | Template) -> None:
        """End a state that has lasted too long."""
        if isinstance(one, Template):
            self._expire_template(one)
        else:
            self._expire_worker(one)

    def _expire_template(self, template: Template) -> None:
        if template.state is State.BOOTING:
            reason = f"not ready after {_seconds(self._now - template.born)} (boot_timeout)"
            self.templates.abort(template, f"is {reason}", self._now)
            self._template_failed(template, reason)
        elif template.state is State.STOPPING:
            self.templates.kill(template, "did not stop in time", self._now)
        elif template.state is State.ABORTED:
            self.templates.kill(template, "did not end on SIGABRT", self._now)
        else:
            self._lose(template)

    def _expire_worker(self, child: Child) -> None:
        template = None if child.pid else self.templates.get(child.generation)
        if template is not None and template.state is State.READY:
            # Stopped by a signal, or stuck in a hook of os.register_at_fork.
            self.templates.kill(template, "has not forked a worker in time", self._now)
        if child.state is State.BOOTING:
            reason = f"not ready after {_seconds(self._now - child.born)} (boot_timeout)"
            self._abort(child, f"is {reason}", Reason.BOOT_TIMEOUT)
            self._failed(child, reason)
        elif child.state is State.STOPPING and child.stuck is not None:
            self._abort(child, "did not stop in time", child.stuck)
        elif child.state is State.STOPPING:
            why = "did not stop in time" if child.ready_at is not None else "was still booting"
            self._kill(child, why, Reason.GRACEFUL_TIMEOUT)
        elif child.state is State.ABORTED:
            assert child.ended_for is not None
            self._kill(child, "did not end on SIGABRT", child.ended_for)
        elif child.state in SERVING:
            self._kill(child, "has closed its channel and does not end", Reason.HANGUP)
        else:
            self._lose(child)

    def _lose(self, one: Child | Template) -> None:
        """Deal with a process that not even SIGKILL ends: only a stopping server forgets it."""
        self._say(Level.ERROR, f"{one} does not end on SIGKILL: stuck in the kernel")
        one.deadline = inf
        if self.mode not in _ENDING:
            return
        if isinstance(one, Template):
            self.templates.remove(one.generation)
        else:
            self.children.remove(one.serial)

    def _roll_back(self, reason: str) -> None:
        """Return to the generation from before the reload, without lowering the capacity."""
        rollout, self.rollout = self.rollout, None
        if rollout is None:
            return
        self.rolled_back = reason
        given_up = self.generation
        old_policy = rollout.old_policy
        same = self.policy.workers == old_policy.workers and scaling.same(self.policy, old_policy)
        target, shift = (self.target, self._shift) if same else (rollout.old_target, rollout.old_shift)
        # First, so that the line below is in the log that the server had before the reload.
        self._do(RolledBack(given_up, rollout.old_generation))
        old = f"generation {rollout.old_generation} serves on"
        if rollout.old_policy.watched:
            old = f"serving the old code on (generation {rollout.old_generation}); waiting for a change"
        self._say(Level.ERROR, f"reload rolled back: {reason}; {old}")
        self._adopt(rollout.old_generation, old_policy)
        self._shift = shift
        self._aim_at(target)

    def _adopt(self, generation: int, policy: Policy) -> None:
        """Make a generation the present one, and every other worker one to be replaced."""
        self.generation = generation
        if not scaling.same(self.policy, policy):
            self._shift = 0
        self.policy = policy
        self._backoff = Backoff(probing=policy.watched)
        self.templates.backoff = Backoff()
        for child in self.children.among(*MEMBERS, State.RETIRING):
            present = child.generation == generation
            if present and child.state is State.RETIRING:
                child.enter(State.READY, child.deadline)
            elif not present and child.state is State.READY:
                child.enter(State.RETIRING, child.deadline)
            elif not present and child.state is State.BOOTING:
                self._dismiss(child, Order.LEAVE)

    @property
    def _bounds(self) -> scaling.Range:
        return scaling.span(self.policy, self._shift, self.children.size)

    def _aim_at(self, target: int, why: str = "") -> None:
        """Change the number of workers."""
        old, self.target = self.target, target
        if old != target:
            self._say(Level.INFO, f"workers: {target} (were {old}){': ' if why else ''}{why}")
            self._do(Resized(target, old))

    # ------------------------------------------------------------ what is against what should be

    def _reconcile(self) -> None:
        if self.mode in {Mode.STARTING, Mode.RUNNING}:
            self._finish_rollout()
            self._dismiss_surplus()
            self._admit_retirements()
            self._spawn_missing()
        elif self.mode is Mode.DELAYING and (self._stop_at <= self._now or not len(self.children)):
            self._drain()
        self._tend_templates()
        if self.mode in _ENDING and not len(self.children) and not len(self.templates):
            self.mode = Mode.ENDED
            self._do(Exit(self._exit_code))
        self._say_gone()

    def _finish_rollout(self) -> None:
        rollout = self.rollout
        if rollout is None or not staffing.is_complete(self.children, self.target, rollout, self._now):
            return
        self.rollout = None
        took = _seconds(self._now - rollout.began)
        replaced = f"{self.target} of {self.target} replaced"
        self._say(Level.INFO, f"reload: generation {self.generation} ready, {replaced}, took {took}")
        self._do(Reloaded(self.generation))

    def _dismiss_surplus(self) -> None:
        for child in staffing.surplus(self.children, self.target):
            self._dismiss(child, Order.LEAVE)
        for child in staffing.spare(self.children, self.target, self.rollout, self._now):
            self._dismiss(child, Order.LEAVE)

    def _admit_retirements(self) -> None:
        recycling.note_age(self.children, self.policy, self._now)
        for child in staffing.retirements(self.children, self.target, self.rollout):
            child.enter(State.RETIRING, child.deadline)
            self._say(Level.INFO, f"{child} {child.wants_successor}: starting its successor")

    @property
    def _preloaded(self) -> int | None:
        """The generation whose workers are forked by a template; None while there is to be no template."""
        return self.generation if self.policy.preload and not self._is_stopping else None

    def _tend_templates(self) -> None:
        kept = None if self.rollout is None or self._is_stopping else self.rollout.old_generation
        self.templates.tend(self._preloaded, kept, self._now, self.policy.boot_timeout or inf)

    def _spawn_missing(self) -> None:
        vacancies = staffing.vacancies(self.children, self.target, self.rollout, self.policy)
        if self.policy.preload:
            if not self.templates.can_fork(self.generation):
                return
            asked = sum(not child.pid for child in self.children.among(State.BOOTING))
            vacancies = min(vacancies, MOST_ASKED - asked)
        booting = len(self.children.among(State.BOOTING))
        for _ in range(self._backoff.allowance(vacancies, booting, self._now)):
            timeout = self.policy.boot_timeout or inf
            child = self.children.add(self.generation, self._now, self._now + timeout)
            self._do(Spawn(child.serial, child.slot, child.generation))

    def _say_gone(self) -> None:
        wanted = self.children.generations() | self.templates.generations() | {self.generation}
        if self.rollout is not None:
            wanted.add(self.rollout.old_generation)
        for generation in sorted(self._unfinished - wanted):
            self._unfinished.remove(generation)
            self._do(Gone(generation))

    # ------------------------------------------------------------ the end

    @property
    def _is_stopping(self) -> bool:
        return self.mode not in {Mode.STARTING, Mode.RUNNING}

    def _announce_stop(self) -> None:
        if self.rollout is not None:
            self._say(Level.WARNING, f"reload to generation {self.generation} given up: stopping")
            self.rollout = None
        if not self._is_stopping:
            self._do(Stopping())

    def _say_what_is_left(self, task: str) -> None:
        """Say how many workers have yet to end, and by when."""
        count = len(self.children)
        self._say(Level.INFO, f"stopping: {count} worker{'' if count == 1 else 's'} to {task}")

    def _drain(self) -> None:
        self.mode = Mode.DRAINING
        self._stop_at = inf
        self._say_what_is_left("finish what is in hand" + _within(self._graceful_timeout))
        self._do(StopQueueing())
        for child in self.children.among(State.STOPPING):  # told by an earlier policy, perhaps without limit
            child.deadline = min(child.deadline, self._now + self._graceful_timeout)
        for child in self.children.among(*MEMBERS, *SERVING):
            self._dismiss(child, Order.DRAIN)

    def _quit(self) -> None:
        self._announce_stop()
        self.mode = Mode.QUITTING
        self._stop_at = inf
        self._say_what_is_left("drop everything" + _within(QUICK_GRACE))
        for child in self.children.among(*MEMBERS, *SERVING, State.STOPPING):
            self._dismiss(child, Order.QUICK)

    # ------------------------------------------------------------ one child

    @property
    def _graceful_timeout(self) -> float:
        return self.policy.graceful_timeout or inf

    def _is_new(self, child: Child) -> bool:
        return self.rollout is not None and child.generation == self.generation

    def _dismiss(self, child: Child, order: Order) -> None:
        """Tell a child to stop, and note by when."""
        grace = QUICK_GRACE if order is Order.QUICK else self._graceful_timeout
        if child.ready_at is None:
            grace = min(grace, BOOT_GRACE)
        deadline = self._now + grace
        if child.state is State.STOPPING:
            deadline = min(deadline, child.deadline)
        child.enter(State.STOPPING, deadline)
        child.told_at = min(child.told_at, self._now)
        self._do(Send(child.serial, order))

    def _abort(self, child: Child, why: str, reason: Reason) -> None:
        child.enter(State.ABORTED, self._now + ABORT_GRACE)
        child.ended_for = reason
        self._do(Abort(child.serial, why, reason, explained=child.stuck is not None))

    def _abort_one_that_served(self, child: Child, why: str, reason: Reason) -> None:
        """Abort a worker, after its successor is started."""
        was = child.state
        child.enter(State.ABORTED, self._now + ABORT_GRACE)
        child.ended_for = reason
        if was is State.READY:
            self._failed(child, why)
        self._reconcile()
        self._do(Abort(child.serial, why, reason, explained=child.stuck is not None))

    def _kill(self, child: Child, why: str, reason: Reason) -> None:
        child.enter(State.KILLED, self._now + REAP_GRACE)
        self._do(Kill(child.serial, why, reason))

    def _do(self, action: Action) -> None:
        self._actions.append(action)

    def _say(self, level: Level, text: str) -> None:
        self._actions.append(Say(level, text))

    _HANDLERS: ClassVar[Mapping[type[Event], Callable[[Machine, Any], None]]] = {
        Start: _on_start,
        Tick: _on_tick,
        Forked: _on_forked,
        ForkFailed: _on_fork_failed,
        Reported: _on_reported,
        HungUp: _on_hung_up,
        Overdue: _on_overdue,
        Discard: _on_discard,
        Weighed: _on_weighed,
        Sampled: _on_sampled,
        Reaped: _on_reaped,
        TemplateForked: _on_template_forked,
        TemplateFailed: _on_template_failed,
        TemplateReady: _on_template_ready,
        TemplateEnded: _on_template_ended,
        Reload: _on_reload,
        Resize: _on_resize,
        Park: _on_park,
        Stop: _on_stop,
    }


def _reason(child: Child | Template, death: Death) -> str:
    """Say how a process ended, and what that usually means."""
    if death.signal_name == "SIGKILL" and child.state not in {State.KILLED, State.ABORTED}:
        return "killed by SIGKILL: perhaps out of memory"
    if child.ready_at is None and death.code == ExitCode.BOOT:
        return "exit code 3: it could not boot"
    if child.ready_at is None and death.code == ExitCode.APP:
        return "exit code 4: the application was not found"
    return str(death)


def _within(seconds: float) -> str:
    return "" if seconds == inf else f", within {_seconds(seconds)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
