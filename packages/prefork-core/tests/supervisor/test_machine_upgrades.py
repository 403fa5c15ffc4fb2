# SPDX-License-Identifier: MIT
"""Random upgrades of a running server. `test_machine_lifetimes` has them among all else that can happen."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from simulated_arbiter import Course
from simulated_kernel import GOOD, Fate, Kernel

from prefork.supervisor.fleet import Mode
from prefork.supervisor.kinship import Phase as Kin
from prefork.supervisor.messages import Park, Policy, Resize, Stop, Upgrade

LONGEST_END = 60.0
COURSES = st.builds(
    Course,
    boots_after=st.sampled_from([0.0, 1.0, 1.0, None]),
    fails=st.sampled_from([False, False, False, True]),
    leaves_after=st.sampled_from([0.0, 0.5, 8.0, None]),
)


class Upgrades(RuleBasedStateMachine):
    """An operator who upgrades, and bad luck."""

    kernel: Kernel

    @initialize(
        workers=st.integers(1, 4),
        preload=st.booleans(),
        leaves_after=st.sampled_from([0.2, 3.0, 9.0]),
        graceful_timeout=st.sampled_from([0.0, 5.0, 10.0]),
    )
    def start(self, workers: int, preload: bool, leaves_after: float, graceful_timeout: float) -> None:
        policy = Policy(workers, preload=preload, graceful_timeout=graceful_timeout)
        self.kernel = Kernel(policy, Fate(leaves_after=leaves_after))
        self.kernel.advance(5.0)

    def runs(self) -> bool:
        return self.kernel.exit_code is None

    @rule(seconds=st.sampled_from([0.05, 1.0, 2.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.kernel.advance(seconds)

    @precondition(runs)
    @rule(course=COURSES, hand_over=st.sampled_from([True, True, False]), waits=st.sampled_from([0.0, 1.5]))
    def upgrade(self, course: Course, *, hand_over: bool, waits: float) -> None:
        self.kernel.kindred.course = course
        self.kernel.tell(Upgrade(hand_over))
        self.kernel.advance(waits)

    @precondition(runs)
    @rule()
    def the_successor_dies(self) -> None:
        self.kernel.kindred.end()

    @precondition(runs)
    @rule()
    def the_successor_is_stopped(self) -> None:
        self.kernel.kindred.leave()

    @precondition(lambda self: self.runs() and self.kernel.fleet.kinship.phase is Kin.BESIDE)
    @rule()
    def park(self) -> None:
        self.kernel.kindred.lent = self.kernel.fleet.target or self.kernel.kindred.lent
        self.kernel.tell(Park())

    @precondition(runs)
    @rule()
    def reload(self) -> None:
        self.kernel.reload(self.kernel.fleet.policy, GOOD)

    @precondition(runs)
    @rule(by=st.sampled_from([1, -1]))
    def resize(self, by: int) -> None:
        self.kernel.tell(Resize(by))

    @precondition(runs)
    @rule(quick=st.sampled_from([False, False, True]))
    def stop(self, quick: bool) -> None:
        self.kernel.tell(Stop(quick))

    def teardown(self) -> None:
        """Who is alone serves, a stop ends all, and nobody is left who is not to stay."""
        if not hasattr(self, "kernel"):
            return
        kernel = self.kernel
        kernel.advance(150.0)
        if kernel.exit_code is None and kernel.fleet.mode is Mode.RUNNING:
            if kernel.fleet.kinship.phase is Kin.ALONE:
                assert kernel.fleet.target
            assert len(kernel.ready()) == kernel.fleet.target
        for _ in range(2):
            if kernel.exit_code is None:
                kernel.tell(Stop())
                kernel.advance(LONGEST_END)
        assert kernel.exit_code == 0
        assert not kernel.processes
        assert not kernel.templates


Upgrades.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_upgrades = Upgrades.TestCase
