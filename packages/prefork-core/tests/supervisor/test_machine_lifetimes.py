# SPDX-License-Identifier: MIT
"""Random lifetimes of a server against a simulated kernel.

`PREFORK_LIFETIMES=20000 pytest -o faulthandler_timeout=0 …` runs so many lifetimes instead of CI's number.
"""

from __future__ import annotations

import os
from math import inf

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from simulated_arbiter import Course
from simulated_kernel import BOOT_TIMEOUT, GOOD, GRACEFUL_TIMEOUT, Fate, Kernel
from supervised import KILLED

from prefork.supervisor.backoff import LONGEST_AFTER_READY, LONGEST_WAIT
from prefork.supervisor.children import State, Warmth
from prefork.supervisor.fleet import Mode
from prefork.supervisor.kinship import Phase as Kin
from prefork.supervisor.messages import (
    Death,
    Park,
    Policy,
    Report,
    Reported,
    Resize,
    Stop,
    TemplateReady,
    Upgrade,
)

LIFETIMES = int(os.environ.get("PREFORK_LIFETIMES", "500"))
LATE = BOOT_TIMEOUT + GRACEFUL_TIMEOUT
"""Seconds that one worker which is about to fail can keep the others from being recycled."""
LONGEST_END = 60.0
"""More than drain_delay, graceful_timeout and every grace of the machine together."""

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
        fit=st.sampled_from([True, True, False]),
    ),
)
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
    status=st.booleans(),
    refork=st.sampled_from([0, 500]),
)


COURSES = st.builds(
    Course,
    boots_after=st.sampled_from([0.0, 1.0, 1.0, 10.0, None]),
    fails=st.sampled_from([False, False, True]),
    leaves_after=st.sampled_from([0.0, 0.5, 8.0, None]),
)


class Lifetimes(RuleBasedStateMachine):
    """An operator, and bad luck."""

    kernel: Kernel
    ends_calmly = False

    @initialize(
        policy=POLICIES, fate=FATES, predecessor=st.sampled_from([0, 0, 0, 77]), ends_calmly=st.booleans()
    )
    def start(self, policy: Policy, fate: Fate, predecessor: int, *, ends_calmly: bool) -> None:
        self.kernel = Kernel(policy, fate, predecessor=predecessor)
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
        self.kernel.reload(self.kernel.fleet.policy, fate)

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

    @precondition(runs)
    @rule(course=COURSES, hand_over=st.booleans())
    def upgrade(self, course: Course, *, hand_over: bool) -> None:
        self.kernel.kindred.course = course
        self.kernel.tell(Upgrade(hand_over))

    @precondition(runs)
    @rule()
    def the_successor_dies(self) -> None:
        self.kernel.kindred.end()

    @precondition(runs)
    @rule()
    def the_successor_is_stopped(self) -> None:
        self.kernel.kindred.leave()

    @precondition(runs)
    @rule()
    def the_predecessor_is_stopped(self) -> None:
        if self.kernel.fleet.kinship.phase is Kin.SUCCEEDING:
            self.kernel.kindred.predecessor_leaves()

    @precondition(runs)
    @rule()
    def the_predecessor_goes(self) -> None:
        self.kernel.kindred.predecessor_goes()

    @rule(number=st.integers(0, 50))
    def kill_a_worker(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None:
            self.kernel.kill(serial)

    @rule(death=st.sampled_from([KILLED, Death(code=0), Death(code=3)]))
    def a_template_ends(self, death: Death) -> None:
        for number in list(self.kernel.templates)[-1:]:
            self.kernel.end_template(number, death)

    @rule()
    def a_template_is_stopped_by_a_signal(self) -> None:
        """It forks no more until somebody ends it."""
        for template in list(self.kernel.templates.values())[-1:]:
            template.stuck = True

    @rule(death=st.sampled_from([KILLED, Death(code=70)]))
    def a_status_process_ends(self, death: Death) -> None:
        for generation in list(self.kernel.statuses)[-1:]:
            self.kernel.end_status(generation, death)

    @rule()
    def a_status_process_is_stopped_by_a_signal(self) -> None:
        for generation in list(self.kernel.statuses)[-1:]:
            self.kernel.stop_status(generation)

    @precondition(runs)
    @rule(number=st.integers(0, 9))
    def a_word_of_a_template_comes_too_late(self, number: int) -> None:
        if number not in self.kernel.templates:
            self.kernel.tell(TemplateReady(number))

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

    @rule(number=st.integers(0, 50))
    def a_worker_is_warm(self, number: int) -> None:
        serial = self.pick(number)
        if serial is not None and self.kernel.processes[serial].booted:
            self.kernel.send(serial, Reported(serial, Report.WARM))

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
        if kernel.fleet.policy.watched:  # it may wait for a change
            kernel.reload(kernel.fleet.policy, GOOD)
        kernel.advance(200.0)
        if kernel.exit_code is None and kernel.fleet.mode in {Mode.STARTING, Mode.RUNNING}:
            fleet = kernel.fleet
            assert fleet.rollout is None
            self.nobody_is_too_old()
            ready = fleet.children.among(State.READY)
            # Those who were told to leave without a limit, and never do.
            endless = [child for child in fleet.children.among(State.STOPPING) if child.deadline == inf]
            # A worker that is recycled, its successor, and those before that leave.
            passing = len(fleet.children) - len(ready) - len(endless)
            assert len(ready) == fleet.target or passing
            assert not passing or fleet.policy.lifetime
            assert {child.generation for child in ready} <= {fleet.generation}
            wanted = {fleet.generation} if fleet.policy.preload else set()
            answers = {fleet.generation} if fleet.policy.status and not fleet.other_speaks else set()
            assert set(kernel.statuses) == fleet.statuses.generations() == answers
            assert [one.generation for one in kernel.templates.values()] == sorted(wanted)
            assert [one.generation for one in fleet.templates] == sorted(wanted)
            if fleet.policy.refork and any(child.warmth is not Warmth.COLD for child in ready):
                assert all(one.is_warm for one in fleet.templates) or fleet.failed_reforks
            kept = {fleet.generation, *(child.generation for child in endless)}
            assert kernel.gone == set(kernel.fates) - kept

    def nobody_is_too_old(self) -> None:
        """Every worker that has its age is replaced, though only one in ten at once."""
        fleet = self.kernel.fleet
        policy = fleet.policy
        leaving = fleet.children.among(State.STOPPING)
        if policy.lifetime and not any(child.deadline == inf for child in leaving):
            ready = fleet.children.among(State.READY)
            oldest = max((child.served(self.kernel.now) for child in ready), default=0.0)
            # A successor takes 0.7 s when all goes well, and they come one after the other.
            assert oldest <= policy.lifetime + policy.lifetime_jitter + 1.0 * fleet.target + LATE

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
            assert kernel.fleet.policy.graceful_timeout == 0.0, "no limit was asked for"
            kernel.tell(Stop())
            kernel.advance(LONGEST_END)
        assert kernel.exit_code is not None, "the server does not end"
        assert not kernel.processes, "a worker outlives the server"
        assert not kernel.templates, "a template outlives the server"
        assert not kernel.statuses, "a status process outlives the server"
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
    fails_with=st.sampled_from([3, 1]),
    word_takes=st.sampled_from([0.0, 0.05]),
)
CRASHING = st.builds(
    Fate,
    boots_after=st.sampled_from([0.0, 0.01, 0.3, 2.0]),
    crashes_after=st.sampled_from([0.0, 0.01, 1.0, 4.0]),
    word_takes=st.sampled_from([0.0, 0.05]),
)


def starts_in_the_second_five_minutes(workers: int, fate: Fate) -> int:
    """Return how often workers of a fate are started when those that were good have been killed."""
    kernel = Kernel(Policy(workers), GOOD)
    kernel.advance(10.0)
    kernel.fates[1] = fate
    for serial in list(kernel.processes):
        kernel.kill(serial)
    kernel.advance(300.0)
    before = len(kernel.spawned_at)
    kernel.advance(300.0)
    assert kernel.exit_code is None, "the arbiter must still be there"
    return len(kernel.spawned_at) - before


@given(workers=st.integers(1, 12), fate=HOPELESS)
@settings(max_examples=100, deadline=None)
def test_workers_that_all_fail_to_start_are_started_ever_more_slowly(workers: int, fate: Fate) -> None:
    assert 0 < starts_in_the_second_five_minutes(workers, fate) <= (300 / LONGEST_WAIT + 1) * workers


@given(workers=st.integers(1, 3), fate=CRASHING)
@settings(max_examples=20, deadline=None)
def test_workers_that_start_and_then_crash_are_started_again_within_seconds(workers: int, fate: Fate) -> None:
    """So there is one to answer again and again; and one failure in a second brings no more of them."""
    starts = starts_in_the_second_five_minutes(workers, fate)
    assert starts <= (300 / LONGEST_AFTER_READY + 1) * workers
    assert starts >= 300 / (LONGEST_AFTER_READY + 2.0 + 4.0 + 0.1) - 1


@given(fate=HOPELESS)
@settings(max_examples=50, deadline=None)
def test_templates_that_all_fail_are_started_ever_more_slowly(fate: Fate) -> None:
    """While the workers serve on."""
    kernel = Kernel(Policy(3, preload=True), GOOD)
    kernel.advance(10.0)
    kernel.fates[1] = Fate(boots_after=fate.boots_after, fails_with=fate.fails_with)
    kernel.end_template(1, KILLED)
    kernel.advance(300.0)
    before = len(kernel.templates_started_at)
    kernel.advance(300.0)
    assert kernel.count_serving() == 3
    assert 0 < len(kernel.templates_started_at) - before <= 300 / 30 + 1


def test_status_processes_that_all_fail_are_started_ever_more_slowly() -> None:
    """While the workers serve on."""
    kernel = Kernel(Policy(3, status=True), GOOD)
    kernel.advance(10.0)
    for _ in range(6000):
        kernel.end_status(1, KILLED)
        kernel.advance(0.1)
    assert kernel.count_serving() == 3
    assert kernel.statuses_started_at[-1] > kernel.now - 31.0
    assert len(kernel.statuses_started_at) < 30
