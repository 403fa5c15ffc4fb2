# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf

import pytest

from prefork.supervisor.kinship import BOOTS, PROOF, REAP_GRACE, STOP_GRACE, TRANSITIONS, Kinship, Phase
from prefork.supervisor.messages import (
    Action,
    KillSuccessor,
    Level,
    Say,
    StartSuccessor,
    StopSuccessor,
    TakeOver,
    TellReady,
)

LIMIT = BOOTS * 10.0 + PROOF


class Side:
    """A kinship, and what it wants done; what it says apart."""

    def __init__(self, predecessor: int = 0) -> None:
        self._all: list[Action] = []
        self.kinship = Kinship(self._all.append, predecessor)

    def starting(self, *, hand_over: bool = False, boot_timeout: float = 10.0) -> Side:
        self.kinship.begin(0.0, boot_timeout, hand_over=hand_over)
        self.kinship.forked(4712)
        self._all.clear()
        return self

    def beside(self, *, hand_over: bool = False) -> Side:
        self.starting(hand_over=hand_over).kinship.ready(2.0)
        self._all.clear()
        return self

    @property
    def done(self) -> list[Action]:
        return [action for action in self._all if not isinstance(action, Say)]

    @property
    def said(self) -> list[Say]:
        return [action for action in self._all if isinstance(action, Say)]


def test_every_phase_is_left_for_others_and_at_last_for_being_alone() -> None:
    assert set(TRANSITIONS) == set(Phase)
    for phase, following in TRANSITIONS.items():
        assert phase not in following
        assert phase is Phase.ALONE or Phase.ALONE in following


def test_a_phase_that_cannot_follow_is_an_error() -> None:
    side = Side().starting()
    with pytest.raises(ValueError, match="no way from starting to starting"):
        side.kinship.begin(1.0, 10.0, hand_over=False)


def test_a_successor_is_started_and_has_its_time() -> None:
    side = Side()
    side.kinship.begin(5.0, 10.0, hand_over=False)
    assert side.done == [StartSuccessor()]
    assert side.kinship.next_deadline() == 5.0 + LIMIT
    assert str(side.kinship) == "arbiter 0 is starting beside this one"


def test_without_boot_timeout_it_has_all_the_time() -> None:
    assert Side().starting(boot_timeout=inf).kinship.next_deadline() == inf


@pytest.mark.parametrize(
    ("hand_over", "phase", "what_next"),
    [
        (False, Phase.BESIDE, "stop this one to finish, or that one to go back"),
        (True, Phase.HANDING, "handing over"),
    ],
)
def test_what_follows_when_it_is_ready_was_said_at_its_start(
    hand_over: bool, phase: Phase, what_next: str
) -> None:
    side = Side().starting(hand_over=hand_over)
    assert side.kinship.ready(2.0) is hand_over
    assert side.kinship.phase is phase
    assert side.kinship.has_ready
    assert side.said == [Say(Level.INFO, f"upgrade: arbiter 4712 ready after 2.0 s: {what_next}")]
    assert side.kinship.next_deadline() == inf


def test_a_second_word_of_readiness_changes_nothing() -> None:
    side = Side().beside(hand_over=True)
    assert not side.kinship.ready(3.0)
    assert side.said == []


def test_one_that_could_not_be_started_is_a_failure() -> None:
    side = Side()
    side.kinship.begin(0.0, 10.0, hand_over=True)
    side.kinship.not_forked("no memory")
    assert side.said == [Say(Level.ERROR, "upgrade failed: no memory; this one serves on")]
    assert (side.kinship.phase, side.kinship.failure) == (Phase.ALONE, "no memory")
    assert str(side.kinship) == "failed: no memory"


def test_the_next_upgrade_forgets_the_last_failure() -> None:
    side = Side().starting()
    side.kinship.ended("exit code 3")
    assert side.kinship.failure == "arbiter 4712 ended (exit code 3)"
    assert side.starting().kinship.failure == ""


def test_one_that_is_not_ready_in_time_is_stopped_then_killed_then_forgotten() -> None:
    side = Side().starting()
    side.kinship.expire(LIMIT)
    assert side.done == [StopSuccessor(quick=False)]
    assert side.kinship.failure == f"arbiter 4712 not ready after {LIMIT:.1f} s (3 x boot_timeout)"
    now = side.kinship.next_deadline()
    assert now == LIMIT + 2 * STOP_GRACE
    side.kinship.expire(now)
    assert side.done[1:] == [KillSuccessor()]
    assert side.kinship.awaits_end
    side.kinship.expire(now + REAP_GRACE)
    assert side.kinship.phase is Phase.ALONE
    assert side.said[-1].text == "arbiter 4712 does not end on SIGKILL: stuck in the kernel"


def test_nothing_expires_before_its_time() -> None:
    side = Side().starting()
    side.kinship.expire(LIMIT - 0.1)
    assert side.done == []


@pytest.mark.parametrize("hand_over", [False, True])
def test_the_work_comes_back_from_one_that_ends_after_it_was_ready(hand_over: bool) -> None:
    side = Side().beside(hand_over=hand_over)
    assert side.kinship.ended("killed by SIGKILL")
    text = "upgrade failed: arbiter 4712 ended (killed by SIGKILL); this one serves on"
    assert side.said == [Say(Level.ERROR, text)]


def test_no_work_comes_back_from_one_that_was_never_ready() -> None:
    assert not Side().starting().kinship.ended("exit code 3")


@pytest.mark.parametrize("hand_over", [False, True])
def test_the_work_comes_back_from_one_that_begins_to_stop_and_only_once(hand_over: bool) -> None:
    side = Side().beside(hand_over=hand_over)
    assert side.kinship.leaves()
    assert bool(side.kinship.failure) == hand_over, "it was the operator who went back"
    assert not side.kinship.awaits_end, "its operator said how long it may take"
    assert not side.kinship.ended("exit code 0")
    assert side.said[-1] == Say(Level.INFO, "arbiter 4712 ended (exit code 0)")


def test_one_that_stops_before_it_is_ready_is_waited_for_because_it_will_say_why() -> None:
    side = Side().starting()
    assert not side.kinship.leaves()
    assert side.kinship.phase is Phase.STARTING
    side.kinship.ended("exit code 3: no worker could boot")
    assert "no worker could boot" in side.kinship.failure


@pytest.mark.parametrize(("grace", "quick"), [(30.0, False), (0.0, True)])
def test_a_stop_ends_one_that_is_not_ready(grace: float, quick: bool) -> None:
    side = Side().starting()
    side.kinship.stop(1.0, grace)
    assert side.done == [StopSuccessor(quick)]
    assert side.kinship.awaits_end
    assert side.kinship.next_deadline() == 1.0 + STOP_GRACE + grace
    assert side.said == [Say(Level.WARNING, "upgrade given up: stopping")]


def test_a_second_stop_makes_it_quick() -> None:
    side = Side().starting()
    side.kinship.stop(1.0, inf)
    side.kinship.stop(3.0, 0.0)
    assert side.done == [StopSuccessor(quick=False), StopSuccessor(quick=True)]
    assert side.kinship.next_deadline() == 3.0 + STOP_GRACE


def test_a_stop_leaves_one_alone_that_is_ready() -> None:
    side = Side().beside()
    side.kinship.stop(3.0, 30.0)
    assert side.done == []
    assert side.kinship.has_ready
    side.kinship.ended("exit code 3")
    assert side.said[-1].text == "upgrade failed: arbiter 4712 ended (exit code 3)", "nobody serves on"


# The other side


def test_readiness_is_told_once_when_the_first_worker_has_lived_for_a_while() -> None:
    side = Side(predecessor=4711)
    side.kinship.offer(0.0)
    side.kinship.note_ready(1.0)
    side.kinship.note_ready(1.5)
    assert side.kinship.next_deadline() == 1.0 + PROOF
    side.kinship.offer(1.0)
    assert side.done == []
    side.kinship.offer(1.0 + PROOF)
    side.kinship.offer(9.0)
    assert side.done == [TellReady()]
    assert side.kinship.next_deadline() == inf


def test_without_a_predecessor_nobody_is_told() -> None:
    side = Side()
    side.kinship.note_ready(1.0)
    side.kinship.offer(9.0)
    side.kinship.predecessor_gone()
    assert side.done == []
    assert side.kinship.next_deadline() == inf


def test_the_place_of_a_predecessor_is_taken_once() -> None:
    side = Side(predecessor=4711)
    assert str(side.kinship) == "arbiter 4711, before this one, has not gone yet"
    assert not side.kinship.leaves()
    assert str(side.kinship) == "arbiter 4711, before this one, is stopping"
    side.kinship.predecessor_gone()
    side.kinship.predecessor_gone()
    assert side.done == [TakeOver()]
    assert side.said == [Say(Level.INFO, "arbiter 4711 has gone: this one has taken over")]
    assert str(side.kinship) == ""


@pytest.mark.parametrize(
    ("side", "refusal"),
    [
        (Side(), ""),
        (Side(predecessor=4711), "the arbiter before this one (4711) has not gone yet"),
        (Side().starting(), "an upgrade is under way: arbiter 4712 is starting"),
        (Side().beside(), "an upgrade is under way: arbiter 4712 is ready"),
    ],
)
def test_there_is_one_upgrade_at_a_time(side: Side, refusal: str) -> None:
    assert side.kinship.refusal == refusal


def test_there_is_no_upgrade_while_the_last_successor_ends() -> None:
    side = Side().beside()
    side.kinship.leaves()
    assert side.kinship.refusal == "the arbiter of the last upgrade (4712) has not ended yet"
    assert str(side.kinship) == "arbiter 4712 is ending beside this one"
    side.kinship.ended("exit code 0")
    assert side.kinship.refusal == ""
