# SPDX-License-Identifier: MIT
"""Random lifetimes of a server against a simulated kernel.

`PREFORK_LIFETIMES=20000 pytest -o faulthandler_timeout=0 …` runs so many lifetimes instead of CI's number.
"""

from __future__ import annotations

import heapq
import itertools
import os
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from prefork.supervisor.children import SERVING, State
from prefork.supervisor.machine import MOST_ASKED, Machine, Mode
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
    KillTemplate,
    Order,
    Overdue,
    Park,
    Plight,
    Policy,
    Reaped,
    Reason,
    Reload,
    Report,
    Reported,
    Resize,
    Sampled,
    Send,
    Serving,
    Spawn,
    Start,
    StartTemplate,
    Stop,
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

LIFETIMES = int(os.environ.get("PREFORK_LIFETIMES", "500"))
SLOTS = 40
BOOT_TIMEOUT = 20.0
GRACEFUL_TIMEOUT = 10.0
LOOKS_EVERY = 1.0
"""Seconds between two looks at a worker with a stuck request."""
KILLED = Death(signal=9, signal_name="SIGKILL")
MOST_FORKS = 300
"""In one second, in which 25 rules can each ask for 12 workers."""
LATE = BOOT_TIMEOUT + GRACEFUL_TIMEOUT
"""Seconds that one worker which is about to fail can keep the others from being recycled."""
LONGEST_END = 60.0
"""More than drain_delay, graceful_timeout and every grace of the machine together."""


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


GOOD = Fate()
FATES = st.one_of(
    st.just(GOOD),
    st.builds(
        Fate,
        boots_after=st.sampled_from([0.0, 0.5, 6.0, 19.0, None]),
        fails_with=st.sampled_from([None, None, None, 3, 4, 1]),
        crashes_after=st.sampled_from([None, None, 0.0, 0.3, 2.0, 7.0, 30.0]),
        leaves_after=st.sampled_from([0.0, 0.2, 3.0, 9.0, None]),
        word_takes=st.sampled_from([0.0, 0.01, 0.5]),
        mute=st.sampled_from([False, False, False, True]),
    ),
)


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
    owed: Death | None = None
    """What it gets as soon as its pid is known."""


@dataclass
class Template:
    """One template of the simulated kernel."""

    generation: int
    fate: Fate
    alive: bool = True
    ready: bool = False
    stuck: bool = False
    """It reads no orders."""


@dataclass(order=True)
class Scheduled:
    at: float
    number: int
    what: Callable[[], None] = field(compare=False)


class Kernel:
    """Runs a machine against processes, with time that only moves when nothing is left to do."""

    def __init__(self, policy: Policy, fate: Fate) -> None:
        self.machine = Machine(policy, slots=SLOTS)
        self.fates = {1: fate}
        self.preloads = {1: policy.preload}
        self.templates: dict[int, Template] = {}
        self.templates_started_at: list[float] = []
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
            case Spawn(serial, _, generation):
                return self._fork(serial, generation)
            case Send(serial, order):
                self._hear(serial, order)
            case Explain(serial):
                self._explain(serial)
            case Abort(serial, explained=explained):
                assert explained == (serial in self.explained), "said twice, or never"
                self._die(serial, Death(signal=6, signal_name="SIGABRT"), unless_hanging=True)
            case Kill(serial):
                self._die(serial, KILLED)
            case StartTemplate(generation):
                return self._start_template(generation)
            case StopTemplate(generation):
                self._stop_template(generation)
            case AbortTemplate(generation):
                if self.templates[generation].fate.leaves_after is not None:
                    self.end_template(generation, Death(signal=6, signal_name="SIGABRT"))
            case KillTemplate(generation):
                self.end_template(generation, KILLED)
            case Exit(code):
                self.exit_code = code
            case Serving():
                assert not self.served, "ready was announced twice"
                self.served = True
            case Gone(generation):
                assert generation not in self.gone
                assert generation != self.machine.generation
                self.gone.add(generation)
        return None

    def _explain(self, serial: int) -> None:
        assert serial not in self.explained, "explained twice"
        self.explained.add(serial)

    def _fork(self, serial: int, generation: int) -> Event | None:
        assert generation not in self.gone, "its settings are dropped already"
        if self.preloads[generation]:
            self._order(serial, generation)
            return None
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return ForkFailed(serial, "Resource temporarily unavailable")
        assert self.machine.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        self.spawned_at.append(self.now)
        recent = [at for at in self.spawned_at[-MOST_FORKS:] if at > self.now - 1.0]
        assert len(recent) < MOST_FORKS, "a fork storm"
        fate = self.fates[generation]
        self.processes[serial] = Process(serial, fate)
        if fate.boots_after is not None:
            self.later(fate.boots_after, lambda: self._boot(serial))
        return Forked(serial, next(self._pids))

    # -------------------------------------------------- templates

    def _start_template(self, generation: int) -> Event:
        assert generation not in self.gone, "its settings are dropped already"
        assert generation not in self.templates, "a generation has one template"
        assert self.machine.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        if self.forks_that_fail:
            self.forks_that_fail -= 1
            return TemplateFailed(generation, "Resource temporarily unavailable")
        self.templates_started_at.append(self.now)
        template = self.templates[generation] = Template(generation, self.fates[generation])
        if template.fate.boots_after is not None:
            self.later(template.fate.boots_after, lambda: self._load(template))
        return TemplateForked(generation, next(self._pids))

    def _load(self, template: Template) -> None:
        if not template.alive:
            return
        if template.fate.fails_with is not None:
            self.end_template(template.generation, Death(code=template.fate.fails_with))
            return
        template.ready = True
        if not template.fate.mute:
            self.later(template.fate.word_takes, lambda: self._say_ready(template))

    def _say_ready(self, template: Template) -> None:
        if template.alive:
            self.tell(TemplateReady(template.generation))

    def _order(self, serial: int, generation: int) -> None:
        assert self.machine.mode in {Mode.STARTING, Mode.RUNNING}, "a stopping server starts nobody"
        template = self.templates[generation]
        assert template.ready, "a template forks before it has loaded the application"
        self.spawned_at.append(self.now)
        self.processes[serial] = Process(serial, self.fates[generation], unborn=True)
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

    def _stop_template(self, generation: int) -> None:
        template = self.templates[generation]
        leaves_after = template.fate.leaves_after
        if leaves_after is not None and not template.stuck:
            self.later(leaves_after, lambda: self.end_template(generation, Death(code=0)))

    def end_template(self, generation: int, death: Death) -> None:
        template = self.templates.get(generation)
        if template is None or not template.alive:
            return
        template.alive = False
        for child in self.machine.children:
            if child.generation == generation:
                self.later(template.fate.word_takes, partial(self._drop, child.serial))
        self.later(template.fate.word_takes, lambda: self._reap_template(template, death))

    def _reap_template(self, template: Template, death: Death) -> None:
        del self.templates[template.generation]
        self.tell(TemplateEnded(template.generation, death))

    # -------------------------------------------------- orders

    def _hear(self, serial: int, order: Order) -> None:
        process = self.processes.get(serial)
        if process is None or not process.alive:
            return
        process.told = True
        leaves_after = process.fate.leaves_after
        if process.booted and leaves_after is not None:
            wait = 0.0 if order is Order.QUICK else leaves_after
            self.later(wait, lambda: self._leave(serial))

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
        del self.processes[serial]
        self.tell(Reaped(serial, death))

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
            serving = len(self.machine.children.among(*SERVING))
            self.tell(Sampled(serving, serving * 2, min(requests, serving * 2), waiting))
            machine = self.machine
            if machine.policy.max_workers and machine.rollout is None and machine.target and serving:
                assert machine.mode is not Mode.RUNNING or machine.target in self.bounds()
            self.advance(0.25)

    def bounds(self) -> range:
        """Return what the settings allow; an operator may move them by up to all slots."""
        policy = self.machine.policy
        by = self.moved
        return range(max(1, policy.min_workers - by), policy.max_workers + by + 1)

    def weigh(self, serial: int, weight: int) -> None:
        if 0 < self.machine.policy.memory_hard < weight:
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
        if self.machine.rollout is None:
            self.floor = self.count_serving()
        self.tell(Reload(generation, policy))

    def everyone_behaves_from_now_on(self) -> None:
        self.fates = dict.fromkeys(self.fates, GOOD)
        for process in self.processes.values():
            process.fate = GOOD  # but a crash that is due will come, and a word that is lost stays lost
        for template in self.templates.values():
            template.fate = GOOD
        self.forks_that_fail = 0

    # -------------------------------------------------- what must hold

    def count_serving(self) -> int:
        """Count the workers that serve, as far as the machine can know, and that nobody has harmed."""
        return sum(
            child.state in SERVING and not process.doomed and process.alive
            for child in self.machine.children
            if (process := self.processes.get(child.serial)) is not None
        )

    def _check_dismissals(self, actions: list[Action], serving_before: int) -> None:
        """A worker that serves is only told to leave when enough others serve."""
        if not any(isinstance(action, Send) and action.order is Order.LEAVE for action in actions):
            return
        known = len(self.machine.children.among(*SERVING))
        assert known >= min(self.machine.target, serving_before)

    def _check(self) -> None:
        machine = self.machine
        deadline = machine.next_deadline()
        assert deadline is None or deadline > self.now, "it would be asked again without end"
        if self.exit_code is None:
            known = {child.serial for child in machine.children}
            assert set(self.processes) <= known, "a worker is forgotten"
            assert set(self.templates) <= machine.templates.generations(), "a template is forgotten"
        slots = [child.slot for child in machine.children]
        assert len(slots) == len(set(slots)), "two workers share a slot"
        if machine.rollout is not None:
            self.floor = min(self.floor, machine.target)
            assert self.count_serving() >= self.floor, "a reload has lowered the capacity"
        asked = [child for child in machine.children.among(State.RETIRING) if child.wants_successor]
        if machine.rollout is None and all(c.generation == machine.generation for c in asked):
            assert len(asked) <= max(1, max(machine.target, 1) // 10) or machine.target == 0


POLICIES = st.builds(
    Policy,
    workers=st.integers(1, 12),
    reload_batch=st.integers(0, 4),
    boot_timeout=st.just(BOOT_TIMEOUT),
    graceful_timeout=st.sampled_from([0.0, 1.0, GRACEFUL_TIMEOUT]),
    drain_delay=st.sampled_from([0.0, 0.0, 3.0]),
    lifetime=st.sampled_from([0.0, 0.0, 2.0, 60.0]),
    lifetime_jitter=st.sampled_from([0.0, 5.0]),
    watched=st.sampled_from([False, False, True]),
    min_workers=st.integers(1, 4),
    max_workers=st.sampled_from([0, 0, 4, 12]),
    memory=st.sampled_from([0, 0, 100]),
    memory_hard=st.sampled_from([0, 0, 500]),
    memory_total=st.sampled_from([0, 0, 600]),
    preload=st.booleans(),
)


class Lifetimes(RuleBasedStateMachine):
    """An operator, and bad luck."""

    kernel: Kernel
    ends_calmly = False

    @initialize(policy=POLICIES, fate=FATES, ends_calmly=st.booleans())
    def start(self, policy: Policy, fate: Fate, *, ends_calmly: bool) -> None:
        self.kernel = Kernel(policy, fate)
        self.ends_calmly = ends_calmly

    def runs(self) -> bool:
        return self.kernel.exit_code is None

    def pick(self, number: int) -> int | None:
        """Choose one of the living workers."""
        processes = self.kernel.processes.values()
        alive = [process.serial for process in processes if process.alive and not process.unborn]
        return alive[number % len(alive)] if alive else None

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 1.0, 5.0, 25.0, 120.0]))
    def wait(self, seconds: float) -> None:
        self.kernel.advance(seconds)

    @precondition(runs)
    @rule(policy=POLICIES, fate=FATES)
    def reload(self, policy: Policy, fate: Fate) -> None:
        self.kernel.reload(policy, fate)

    @precondition(runs)
    @rule(fate=FATES)
    def reload_with_the_same_number_of_workers(self, fate: Fate) -> None:
        self.kernel.reload(self.kernel.machine.policy, fate)

    @precondition(runs)
    @rule(by=st.sampled_from([1, 1, -1, -1, 5, -5]))
    def resize(self, by: int) -> None:
        self.kernel.moved += abs(by)
        self.kernel.tell(Resize(by))

    @precondition(runs)
    @rule(
        requests=st.integers(0, 30),
        waiting=st.sampled_from([0, 0, 3, 200]),
        seconds=st.sampled_from([0.25, 1.0, 1.0, 5.0, 33.0]),
    )
    def load(self, requests: int, waiting: int, seconds: float) -> None:
        self.kernel.load(requests, waiting, seconds)

    @precondition(runs)
    @rule()
    def park(self) -> None:
        self.kernel.tell(Park())

    @rule(number=st.integers(0, 50))
    def kill_a_worker(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None:
            self.kernel.kill(serial)

    @rule(death=st.sampled_from([KILLED, Death(code=0), Death(code=3)]))
    def a_template_ends(self, death: Death) -> None:
        for generation in list(self.kernel.templates)[-1:]:
            self.kernel.end_template(generation, death)

    @rule()
    def a_template_is_stopped_by_a_signal(self) -> None:
        """It forks no more until somebody ends it."""
        for template in list(self.kernel.templates.values())[-1:]:
            template.stuck = True

    @precondition(runs)
    @rule(generation=st.integers(0, 9))
    def a_word_of_a_template_comes_too_late(self, generation: int) -> None:
        if generation not in self.kernel.templates:
            self.kernel.tell(TemplateReady(generation))

    @rule(number=st.integers(0, 50))
    def a_worker_makes_no_progress(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None and self.kernel.processes[serial].booted:
            self.kernel.stall(serial)

    @rule(number=st.integers(0, 50), heeds=st.sampled_from([True, True, False]))
    def one_of_several_requests_is_stuck(self, number: int, *, heeds: bool) -> None:
        serial = self.pick(number)
        if serial is not None and self.kernel.processes[serial].booted and self.runs():
            self.kernel.get_stuck(serial, heeds=heeds)

    @rule(number=st.integers(0, 50))
    def a_stuck_request_ends_after_all(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None and self.kernel.processes[serial].stuck:
            self.kernel.recover(serial)

    @rule(number=st.integers(0, 50))
    def the_operator_gives_a_worker_up(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None:
            self.kernel.discard(serial)

    @rule(number=st.integers(0, 50))
    def a_worker_has_served_its_share(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None and self.kernel.processes[serial].booted:
            self.kernel.send(serial, Reported(serial, Report.RETIRE))

    @precondition(runs)
    @rule(number=st.integers(0, 50), weight=st.sampled_from([20, 60, 90, 110, 200, 450, 600]))
    def a_worker_is_weighed(self, number: int, weight: int) -> None:
        serial = self.pick(number)
        if serial is not None:
            self.kernel.weigh(serial, weight)

    @rule(number=st.integers(0, 50), report=st.sampled_from(Report))
    def a_word_comes_at_the_wrong_time(self, number: int, report: Report) -> None:
        """A dead, unknown or unready child cannot confuse the machine. READY is only faked for the dead."""
        if self.runs() and (report is Report.RETIRE or number not in self.kernel.processes):
            self.kernel.tell(Reported(number, report))

    @rule(forks=st.integers(1, 10))
    def no_memory_for_forks(self, forks: int) -> None:
        self.kernel.forks_that_fail = forks

    def calm(self) -> None:
        """When boots succeed, the target is reached, all in one generation."""
        kernel = self.kernel
        kernel.everyone_behaves_from_now_on()
        if kernel.machine.policy.watched:  # it may wait for a change
            kernel.reload(kernel.machine.policy, GOOD)
        kernel.advance(200.0)
        if kernel.exit_code is None and kernel.machine.mode in {Mode.STARTING, Mode.RUNNING}:
            machine = kernel.machine
            assert machine.rollout is None
            self.nobody_is_too_old()
            ready = machine.children.among(State.READY)
            # Those who were told to leave without a limit, and never do.
            endless = [child for child in machine.children.among(State.STOPPING) if child.deadline == inf]
            # A worker that is recycled, its successor, and those before that leave.
            passing = len(machine.children) - len(ready) - len(endless)
            assert len(ready) == machine.target or passing
            assert not passing or machine.policy.lifetime
            assert {child.generation for child in ready} <= {machine.generation}
            wanted = {machine.generation} if machine.policy.preload else set()
            assert set(kernel.templates) == wanted
            assert machine.templates.generations() == wanted
            kept = {machine.generation, *(child.generation for child in endless)}
            assert kernel.gone == set(kernel.fates) - kept

    def nobody_is_too_old(self) -> None:
        """Every worker that has its age is replaced, though only one in ten at once."""
        machine = self.kernel.machine
        policy = machine.policy
        leaving = machine.children.among(State.STOPPING)
        if policy.lifetime and not any(child.deadline == inf for child in leaving):
            ready = machine.children.among(State.READY)
            oldest = max((child.served(self.kernel.now) for child in ready), default=0.0)
            # A successor takes 0.7 s when all goes well, and they come one after the other.
            assert oldest <= policy.lifetime + policy.lifetime_jitter + 1.0 * machine.target + LATE

    @precondition(runs)
    @rule(quick=st.booleans())
    def stop(self, quick: bool) -> None:
        self.kernel.tell(Stop(quick))

    def teardown(self) -> None:
        """A stop always ends, and leaves nobody behind."""
        if not hasattr(self, "kernel"):
            return
        kernel = self.kernel
        if kernel.exit_code is None and self.ends_calmly:
            self.calm()
        if kernel.exit_code is None:
            kernel.tell(Stop())
            kernel.advance(LONGEST_END)
        if kernel.exit_code is None:
            assert kernel.machine.policy.graceful_timeout == 0.0, "no limit was asked for"
            kernel.tell(Stop())
            kernel.advance(LONGEST_END)
        assert kernel.exit_code is not None, "the server does not end"
        assert not kernel.processes, "a worker outlives the server"
        assert not kernel.templates, "a template outlives the server"
        assert (kernel.exit_code == 0) or not kernel.served


Lifetimes.TestCase.settings = settings(
    max_examples=LIFETIMES,
    stateful_step_count=25,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
        Phase.shrink,
    ],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_lifetimes = Lifetimes.TestCase


HOPELESS = st.builds(
    Fate,
    boots_after=st.sampled_from([0.0, 0.01, 0.3, 2.0]),
    fails_with=st.sampled_from([None, 3, 1]),
    crashes_after=st.sampled_from([0.0, 0.01, 1.0, 4.0]),
    word_takes=st.sampled_from([0.0, 0.05]),
)


@given(workers=st.integers(1, 12), fate=HOPELESS)
@settings(max_examples=100, deadline=None)
def test_workers_that_all_fail_are_started_ever_more_slowly(workers: int, fate: Fate) -> None:
    """In the second five minutes there are few attempts, and the arbiter is still there."""
    kernel = Kernel(Policy(workers), GOOD)
    kernel.advance(10.0)
    kernel.fates[1] = fate
    for serial in list(kernel.processes):
        kernel.kill(serial)
    kernel.advance(300.0)
    before = len(kernel.spawned_at)
    kernel.advance(300.0)
    assert kernel.exit_code is None
    assert len(kernel.spawned_at) - before <= (300 / 30 + 1) * workers
    assert len(kernel.spawned_at) > before, "it must go on trying"


@given(fate=HOPELESS)
@settings(max_examples=50, deadline=None)
def test_templates_that_all_fail_are_started_ever_more_slowly(fate: Fate) -> None:
    """While the workers serve on."""
    kernel = Kernel(Policy(3, preload=True), GOOD)
    kernel.advance(10.0)
    kernel.fates[1] = Fate(boots_after=fate.boots_after, fails_with=fate.fails_with or 3)
    kernel.end_template(1, KILLED)
    kernel.advance(300.0)
    before = len(kernel.templates_started_at)
    kernel.advance(300.0)
    assert kernel.count_serving() == 3
    assert 0 < len(kernel.templates_started_at) - before <= 300 / 30 + 1
