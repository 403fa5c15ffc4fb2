# SPDX-License-Identifier: MIT
"""A simulated kernel, whose processes behave as their fate says, and which checks what must always hold."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from simulated_arbiter import Kindred
from supervised import KILLED

from prefork.supervisor.children import SERVING, State, Warmth
from prefork.supervisor.fleet import Mode
from prefork.supervisor.machine import MOST_ASKED, Machine
from prefork.supervisor.messages import (
    Abort,
    AbortTemplate,
    Action,
    Death,
    Discard,
    Event,
    Exit,
    Explain,
    Forked,
    ForkFailed,
    Gone,
    HungUp,
    Kill,
    KillStatus,
    KillTemplate,
    Order,
    Overdue,
    Plight,
    Policy,
    Promote,
    Reaped,
    Reason,
    Reload,
    Report,
    Reported,
    Sampled,
    Send,
    Serving,
    Spawn,
    Start,
    StartStatus,
    StartTemplate,
    StatusEnded,
    StatusFailed,
    StatusForked,
    StatusSilent,
    Stop,
    StopStatus,
    StopTemplate,
    TemplateEnded,
    TemplateFailed,
    TemplateForked,
    TemplateReady,
    Tick,
    Weighed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.supervisor.children import Child

SLOTS = 40
BOOT_TIMEOUT = 20.0
GRACEFUL_TIMEOUT = 10.0
LEAVES_AFTER = 0.05
"""Seconds from the order to the end of a status process."""
LOOKS_EVERY = 1.0
"""Seconds between two looks at a worker with a stuck request."""
_LEAVE = {Order.LEAVE, Order.REFORK}
MOST_FORKS = 300
"""In one second, in which 25 rules can each ask for 12 workers."""


@dataclass(frozen=True)
class Fate:
    """How the workers of a generation behave. Times are in seconds, None is never."""

    boots_after: float | None = 0.5
    fails_with: int | None = None
    """The exit code instead of ready."""
    crashes_after: float | None = None
    """From ready to a crash."""
    leaves_after: float | None = 0.2
    """From an order to the exit."""
    word_takes: float = 0.0
    """How late a message arrives."""
    mute: bool = False
    """Its messages are lost."""
    fit: bool = True
    """Nothing is left in a worker that has drained, so that it can be a template."""


GOOD = Fate()
"""All goes well."""


@dataclass
class Process:
    """One process of the simulated kernel."""

    serial: int
    fate: Fate
    alive: bool = True
    booted: bool = False
    told: bool = False
    doomed: bool = False
    """The simulation has killed it, or it has crashed, or hangs: not the machine's doing."""
    stuck: bool = False
    """One of its requests never ends."""
    heeds: bool = True
    """It begins to leave when it is told."""
    finished: bool = False
    """What is not stuck has been finished since it was told to leave."""
    unborn: bool = False
    """A template has been ordered to fork it."""
    generation: int = 0
    refork: bool = False
    """It has been told to be a template when it has drained."""
    owed: Death | None = None
    """What it gets as soon as its pid is known."""


@dataclass
class Template:
    """One template of the simulated kernel."""

    number: int
    generation: int
    fate: Fate
    alive: bool = True
    ready: bool = False
    stuck: bool = False
    """It reads no orders."""
    serial: int = 0
    """Of the worker that it was."""


@dataclass
class StatusProcess:
    """One status process of the simulated kernel."""

    alive: bool = True
    stuck: bool = False
    """It answers nobody, and hears nothing."""


@dataclass(order=True)
class Scheduled:
    at: float
    number: int
    what: Callable[[], None] = field(compare=False)


class Kernel:
    """Runs a machine against processes, with time that only moves when nothing is left to do."""

    def __init__(self, policy: Policy, fate: Fate, *, predecessor: int = 0) -> None:
        self.machine = Machine(policy, slots=SLOTS, predecessor=predecessor)
        self.fleet = self.machine.fleet
        self.fates = {1: fate}
        self.preloads = {1: policy.preload}
        self.templates: dict[int, Template] = {}
        self.templates_started_at: list[float] = []
        self.statuses: dict[int, StatusProcess] = {}
        self.statuses_started_at: list[float] = []
        self.now = 0.0
        self.processes: dict[int, Process] = {}
        self.forks_that_fail = 0
        self.spawned_at: list[float] = []
        self.exit_code: int | None = None
        self.served = False
        self.gone: set[int] = set()
        self.explained: set[int] = set()
        self.moved = 0
        """By how much all operators together may have moved the bounds."""
        self.floor = 0
        """So many must serve during a reload."""
        self.kindred = Kindred(self)
        self.asked_to_stop = False
        self._agenda: list[Scheduled] = []
        self._numbers = itertools.count()
        self._pids = itertools.count(1000)
        self.tell(Start())

    # -------------------------------------------------- time

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, Scheduled(self.now + seconds, next(self._numbers), what))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            deadline = self.machine.next_deadline()
            due = self._agenda[0].at if self._agenda else end
            self.now = max(self.now, min(end, due, end if deadline is None else deadline))
            if self._agenda and self._agenda[0].at <= self.now:
                heapq.heappop(self._agenda).what()
            elif deadline is not None and deadline <= self.now:
                self.tell(Tick())
            else:
                return
        raise AssertionError("time does not pass")

    # -------------------------------------------------- the machine's side

    def tell(self, event: Event) -> None:
        serving_before = self.count_serving()
        self.asked_to_stop |= isinstance(event, Stop)
        events = [event]
        while events:
            event = events.pop(0)
            actions = self.machine.step(event, self.now)
            for action in actions:
                answer = self._act(action)
                if answer is not None:
                    events.append(answer)
            self._check_dismissals(actions, serving_before)
        self._check()

    def _act(self, action: Action) -> Event | None:
        match action:
            case Spawn(serial, _, generation, template):
                return self._fork(serial, generation, template)
            case Send(serial, order):
                self._hear(serial, order)
            case Explain(serial):
                self._explain(serial)
            case Abort(serial, explained=explained):
                assert explained == (serial in self.explained), "said twice, or never"
                self._die(serial, Death(signal=6, signal_name="SIGABRT"), unless_hanging=True)
            case Kill(serial):
                self._die(serial, KILLED)
            case Promote() | StartTemplate() | StopTemplate() | AbortTemplate() | KillTemplate():
                return self._act_on_template(action)
            case StartStatus() | StopStatus() | KillStatus():
                return self._tend_status(action)
            case Exit(code):
                assert not self.statuses, "a status process outlives the server"
                self.exit_code = code
                self.kindred.check_end(asked=self.asked_to_stop or code != 0)
            case Serving():
                assert not self.served, "ready was announced twice"
                self.served = True
            case Gone(generation):
                assert generation not in self.gone
                assert generation != self.fleet.generation
                self.gone.add(generation)
            case _:
                return self.kindred.act(action)
        return None

    def _act_on_template(self, action: Action) -> Event | None:
        match action:
            case Promote(serial, number):
                self._promote(serial, number)
            case StartTemplate(number, generation):
                return self._start_template(number, generation)
            case StopTemplate(number):
                self._stop_template(number)
            case AbortTemplate(number):
                if self.templates[number].fate.leaves_after is not None:
                    self.end_template(number, Death(signal=6, signal_name="SIGABRT"))
            case KillTemplate(number):
                self.end_template(number, KILLED)
        return None

    def _explain(self, serial: int) -> None:
        assert serial not in self.explained, "explained twice"
        self.explained.add(serial)

    def _fork(self, serial: int, generation: int, template: int) -> Event | None:
        assert generation not in self.gone, "its settings are dropped already"
        if self.preloads[generation]:
            self._order(serial, generation, self.templates[template])
            return None
        assert not template
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return ForkFailed(serial, "Resource temporarily unavailable")
        assert self.fleet.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        self.spawned_at.append(self.now)
        recent = [at for at in self.spawned_at[-MOST_FORKS:] if at > self.now - 1.0]
        assert len(recent) < MOST_FORKS, "a fork storm"
        fate = self.fates[generation]
        self.processes[serial] = Process(serial, fate)
        if fate.boots_after is not None:
            self.later(fate.boots_after, lambda: self._boot(serial))
        return Forked(serial, next(self._pids))

    # -------------------------------------------------- templates

    def _start_template(self, number: int, generation: int) -> Event:
        assert generation not in self.gone, "its settings are dropped already"
        others = [template.generation for template in self.templates.values()]
        assert generation not in others, "a generation has one template, until there is a warm one"
        assert self.fleet.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return TemplateFailed(number, "Resource temporarily unavailable")
        self.templates_started_at.append(self.now)
        template = self.templates[number] = Template(number, generation, self.fates[generation])
        if template.fate.boots_after is not None:
            self.later(template.fate.boots_after, lambda: self._load(template))
        return TemplateForked(number, next(self._pids))

    def _load(self, template: Template) -> None:
        if not template.alive:
            return
        if template.fate.fails_with is not None:
            self.end_template(template.number, Death(code=template.fate.fails_with))
            return
        template.ready = True
        if not template.fate.mute:
            self.later(template.fate.word_takes, lambda: self._say_ready(template))

    def _say_ready(self, template: Template) -> None:
        if template.alive:
            self.tell(TemplateReady(template.number))

    def _order(self, serial: int, generation: int, template: Template) -> None:
        assert self.fleet.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        assert template.generation == generation, "other code"
        assert template.ready, "a template forks before it has loaded the application"
        self.spawned_at.append(self.now)
        self.processes[serial] = Process(serial, self.fates[generation], unborn=True, generation=generation)
        waiting = [process for process in self.processes.values() if process.unborn]
        assert len(waiting) <= MOST_ASKED, "more orders than a socket holds"
        if not template.alive:
            self.later(0.0, lambda: self._drop(serial))
        elif not template.stuck:
            self.later(template.fate.word_takes, lambda: self._bear(serial, template))

    def _bear(self, serial: int, template: Template) -> None:
        """Fork a worker in a template, unless nobody needs it any more."""
        process = self.processes.get(serial)
        if process is None or not process.unborn or not template.alive:
            return
        if process.told or self.forks_that_fail:
            self.forks_that_fail -= bool(self.forks_that_fail)
            self._drop(serial)
            return
        process.unborn = False
        self.tell(Forked(serial, next(self._pids)))
        if process.owed is not None:
            self._die(serial, process.owed, unless_hanging=process.owed.signal == 6)
        if process.fate.boots_after is not None:
            self.later(process.fate.boots_after, lambda: self._boot(serial))

    def _drop(self, serial: int) -> None:
        process = self.processes.get(serial)
        if process is not None and process.unborn:
            del self.processes[serial]
            self.tell(ForkFailed(serial, "the template has not forked it"))

    def _stop_template(self, number: int) -> None:
        template = self.templates[number]
        if self.fleet.templates.of(template.generation) is not None:
            waits = [child for child in self.fleet.children if child.template == number and not child.pid]
            assert not waits, "orders are lost with it"
        leaves_after = template.fate.leaves_after
        if leaves_after is not None and not template.stuck:
            self.later(leaves_after, lambda: self.end_template(number, Death(code=0)))

    def end_template(self, number: int, death: Death) -> None:
        template = self.templates.get(number)
        if template is None or not template.alive:
            return
        template.alive = False
        for child in self.fleet.children:
            if child.template == number:
                self.later(template.fate.word_takes, partial(self._drop, child.serial))
        self.later(template.fate.word_takes, lambda: self._reap_template(template, death))

    def _reap_template(self, template: Template, death: Death) -> None:
        del self.templates[template.number]
        self.tell(TemplateEnded(template.number, death))

    def _promote(self, serial: int, number: int) -> None:
        process = self.processes.pop(serial)
        self.templates[number] = Template(
            number, process.generation, process.fate, alive=process.alive, ready=True, serial=serial
        )

    def _offer(self, serial: int) -> None:
        """A worker that has drained is a template, if it is fit for that, or ends."""
        process = self.processes.get(serial)
        if process is None or not process.alive:
            return
        if not process.refork or process.stuck or not process.fate.fit:
            self._leave(serial)
        else:
            self.send(serial, Reported(serial, Report.TEMPLATE))

    # -------------------------------------------------- status processes

    def _tend_status(self, action: StartStatus | StopStatus | KillStatus) -> Event | None:
        generation = action.generation
        if isinstance(action, StartStatus):
            return self._start_status(generation)
        if isinstance(action, KillStatus):
            self.end_status(generation, KILLED)
        elif not self.statuses[generation].stuck:
            self.later(LEAVES_AFTER, partial(self.end_status, generation, Death(code=0)))
        return None

    def _start_status(self, generation: int) -> Event:
        assert generation not in self.gone, "its listeners are closed already"
        assert generation not in self.statuses, "a generation has one status process"
        assert self.exit_code is None
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return StatusFailed(generation, "Resource temporarily unavailable")
        self.statuses_started_at.append(self.now)
        self.statuses[generation] = StatusProcess()
        return StatusForked(generation, next(self._pids))

    def end_status(self, generation: int, death: Death) -> None:
        process = self.statuses.get(generation)
        if process is not None and process.alive:
            process.alive = False
            self.later(0.0, partial(self._reap_status, generation, death))

    def _reap_status(self, generation: int, death: Death) -> None:
        del self.statuses[generation]
        self.tell(StatusEnded(generation, death))

    def stop_status(self, generation: int) -> None:
        """Have a signal stop a status process, which the arbiter sees after a while."""
        self.statuses[generation].stuck = True
        self.later(5.0, partial(self._miss_status, generation))

    def _miss_status(self, generation: int) -> None:
        process = self.statuses.get(generation)
        if process is not None and process.alive and process.stuck:
            self.tell(StatusSilent(generation))
            self.later(1.0, partial(self._miss_status, generation))

    # -------------------------------------------------- orders

    def _hear(self, serial: int, order: Order) -> None:
        process = self.processes.get(serial)
        if process is None or not process.alive:
            return
        process.told = True
        process.refork = order is Order.REFORK
        leaves_after = process.fate.leaves_after
        if process.booted and leaves_after is not None:
            wait = 0.0 if order is Order.QUICK else leaves_after
            self.later(wait, lambda: self._offer(serial))

    def _leave(self, serial: int) -> None:
        process = self.processes.get(serial)
        if process is None:
            return
        process.finished = True
        if not process.stuck:
            self._die(serial, Death(code=0))

    # -------------------------------------------------- the processes' side

    def _boot(self, serial: int) -> None:
        process = self.processes.get(serial)
        if process is None or not process.alive:
            return
        fate = process.fate
        if fate.fails_with is not None:
            self._die(serial, Death(code=fate.fails_with))
            return
        process.booted = True
        self.send(serial, Reported(serial, Report.READY))
        if fate.crashes_after is not None:
            crash = Death(signal=11, signal_name="SIGSEGV")
            self.later(fate.crashes_after, lambda: self._die(serial, crash, doomed=True))
        if process.told:
            self._hear(serial, Order.LEAVE)

    def send(self, serial: int, event: Event) -> None:
        process = self.processes[serial]
        if process.alive and not process.fate.mute:
            self.later(process.fate.word_takes, lambda: self.tell(event))

    def _die(self, serial: int, death: Death, *, unless_hanging: bool = False, doomed: bool = False) -> None:
        process = self.processes.get(serial)
        if process is None or not process.alive:
            return
        if process.unborn:
            process.owed = death
            return
        if unless_hanging and process.fate.leaves_after is None:
            return
        process.alive = False
        if doomed:
            self._doom(process)
        self.later(process.fate.word_takes / 2, lambda: self.tell(HungUp(serial)))
        self.later(process.fate.word_takes, lambda: self._reap(serial, death))

    def _reap(self, serial: int, death: Death) -> None:
        if serial in self.processes:
            del self.processes[serial]
            self.tell(Reaped(serial, death))
            return
        for template in list(self.templates.values()):  # it has said that it is one before it died
            if not template.alive and template.serial == serial:
                self._reap_template(template, death)

    def _doom(self, process: Process) -> None:
        if not process.doomed and not process.told:
            process.doomed = True
            self.floor -= 1

    # -------------------------------------------------- the operator's side

    def kill(self, serial: int) -> None:
        self._die(serial, KILLED, doomed=True)

    def stall(self, serial: int) -> None:
        self._doom(self.processes[serial])
        self.tell(Overdue(serial))

    def discard(self, serial: int) -> None:
        self._doom(self.processes[serial])
        self.tell(Discard(serial))

    def load(self, requests: int, waiting: int, seconds: float) -> None:
        """Have the arbiter look at the load, four times a second."""
        for _ in range(int(seconds * 4)):
            serving = len(self.fleet.children.among(*SERVING))
            self.tell(Sampled(serving, serving * 2, min(requests, serving * 2), waiting))
            fleet = self.fleet
            if fleet.policy.max_workers and fleet.rollout is None and fleet.target and serving:
                assert fleet.mode is not Mode.RUNNING or fleet.target in self.bounds()
            self.advance(0.25)

    def bounds(self) -> range:
        """Return what the settings allow; an operator may move them by up to all slots."""
        policy = self.fleet.policy
        by = self.moved
        return range(max(1, policy.min_workers - by), policy.max_workers + by + 1)

    def weigh(self, serial: int, weight: int) -> None:
        if 0 < self.fleet.policy.memory_hard < weight:
            self._doom(self.processes[serial])
        self.tell(Weighed(serial, weight))

    def get_stuck(self, serial: int, *, heeds: bool) -> None:
        """Let one request of several never end; `heeds` is False when C code has the interpreter's lock."""
        process = self.processes[serial]
        process.stuck = True
        process.heeds = process.heeds and heeds
        self._look(serial)

    def recover(self, serial: int) -> None:
        """Let that request end after all."""
        process = self.processes[serial]
        process.stuck, process.heeds = False, True
        if process.finished:
            self._die(serial, Death(code=0))

    def _look(self, serial: int) -> None:
        process = self.processes.get(serial)
        if process is None or not process.alive or not process.stuck or self.exit_code is not None:
            return
        plight = Plight.SERVES
        if process.told and process.heeds:
            plight = Plight.EMPTY if process.finished else Plight.LEAVES
        self.tell(Overdue(serial, Reason.TIMEOUT, plight))
        self.later(LOOKS_EVERY, lambda: self._look(serial))

    def reload(self, policy: Policy, fate: Fate) -> None:
        generation = max(self.fates) + 1
        self.fates[generation] = fate
        self.preloads[generation] = policy.preload
        if self.fleet.rollout is None:
            self.floor = self.count_serving()
        self.tell(Reload(generation, policy))

    def everyone_behaves_from_now_on(self) -> None:
        self.fates = dict.fromkeys(self.fates, GOOD)
        for process in self.processes.values():
            process.fate = GOOD  # but a crash that is due will come, and a word that is lost stays lost
        for template in self.templates.values():
            template.fate = GOOD
        for status in self.statuses.values():
            status.stuck = False
        self.forks_that_fail = 0

    # -------------------------------------------------- what must hold

    def ready(self) -> list[Child]:
        return self.fleet.children.among(State.READY)

    def next_pid(self) -> int:
        return next(self._pids)

    def count_serving(self) -> int:
        """Count the workers that serve, as far as the machine can know, and that nobody has harmed."""
        return sum(
            child.state in SERVING and not process.doomed and process.alive
            for child in self.fleet.children
            if (process := self.processes.get(child.serial)) is not None
        )

    def _check_dismissals(self, actions: list[Action], serving_before: int) -> None:
        """A worker that serves is only told to leave when enough others serve."""
        if not any(isinstance(action, Send) and action.order in _LEAVE for action in actions):
            return
        known = len(self.fleet.children.among(*SERVING))
        assert known >= min(self.fleet.target, serving_before)

    def _check(self) -> None:
        fleet = self.fleet
        deadline = self.machine.next_deadline()
        assert deadline is None or deadline > self.now, "it would be asked again without end"
        if self.exit_code is None:
            known = {child.serial for child in fleet.children}
            assert set(self.processes) <= known, "a worker is forgotten"
            assert set(self.templates) <= {one.number for one in fleet.templates}, "a template is forgotten"
            told = [child for child in fleet.children if child.warmth in {Warmth.CHOSEN, Warmth.TOLD}]
            assert len(told) <= 1 or len({child.generation for child in told}) == len(told), "two at once"
        self.kindred.check()
        slots = [child.slot for child in fleet.children]
        assert len(slots) == len(set(slots)), "two workers share a slot"
        if fleet.rollout is not None:
            self.floor = min(self.floor, fleet.target)
            assert self.count_serving() >= self.floor, "a reload has lowered the capacity"
        asked = [child for child in fleet.children.among(State.RETIRING) if child.wants_successor]
        if fleet.rollout is None and all(c.generation == fleet.generation for c in asked):
            assert len(asked) <= max(1, max(fleet.target, 1) // 10) or fleet.target == 0
