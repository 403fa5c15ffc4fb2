# SPDX-License-Identifier: MIT
"""What a server has and what it should have, and how one of its workers is told to go.

It decides what an end means for the state of a worker and its deadlines. When and why one ends is
decided in the modules around `machine`, which all work on the one `Fleet`. To everybody else it is
for reading.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import ABORT_GRACE, REAP_GRACE, Children, State
from prefork.supervisor.kinship import Kinship, Phase
from prefork.supervisor.messages import Abort, Kill, Level, Order, Reason, Say, Send
from prefork.supervisor.statuses import Statuses
from prefork.supervisor.templates import Templates

if TYPE_CHECKING:
    from prefork.supervisor.children import Child
    from prefork.supervisor.messages import Action, Policy
    from prefork.supervisor.staffing import Rollout

BOOT_GRACE: Final = 1.0
"""Seconds that a worker which is loading the application gets to stop. It has no request."""
QUICK_GRACE: Final = 2.0
"""Seconds for a quick stop."""


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


class Fleet:
    """The processes of one server, and what is wanted of them.

    Args:
        policy: of the first generation.
        generation: its number.
        slots: how many children there can be.
        predecessor: pid of the arbiter before this one, 0 for none.
    """

    def __init__(self, policy: Policy, generation: int, slots: int, predecessor: int = 0) -> None:
        self.children = Children(slots)
        self.templates = Templates(self.do)
        self.kinship = Kinship(self.do, predecessor)
        self.statuses = Statuses(self)
        self.policy = policy
        self.generation = generation
        self.target = min(policy.workers, slots)
        """How many workers there should be."""
        self.mode = Mode.STARTING
        self.rollout: Rollout | None = None
        """The reload that is under way."""
        self.rolled_back = ""
        """Why the last reload was rolled back; empty when it was not."""
        self.backoff = Backoff(probing=policy.watched)
        """Of the present generation's workers."""
        self.reforks = 0
        """How many workers have become a template."""
        self.failed_reforks = 0
        """How many should have, and could not."""
        self.now = 0.0
        """Monotonic seconds of the present step."""
        self._actions: list[Action] = []
        self._last: list[Action] = []

    @property
    def is_stopping(self) -> bool:
        """Whether the server has been told to stop."""
        return self.mode not in {Mode.STARTING, Mode.RUNNING}

    @property
    def is_going(self) -> bool:
        """Whether the server has been told to stop, or leaves its work to a successor."""
        return self.is_stopping or self.kinship.phase is Phase.HANDING

    @property
    def other_speaks(self) -> bool:
        """Whether another arbiter alone is to say how the server is."""
        starting = self.mode is Mode.STARTING
        return self.kinship.other_speaks(starting=starting, stopping=self.is_stopping)

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody who serves, or could have somebody serve."""
        return not len(self.children) and not len(self.templates)

    @property
    def graceful_timeout(self) -> float:
        """Seconds that a worker may take to finish; infinity for ever."""
        return self.policy.graceful_timeout or inf

    def is_new(self, child: Child) -> bool:
        """Return whether a worker is one that the reload under way has started."""
        return self.rollout is not None and child.generation == self.generation

    # ------------------------------------------------------------ what is to be done

    def begin(self, now: float) -> None:
        """Begin a step: nothing is to be done yet."""
        self.now = now
        self._actions, self._last = [], []

    def do(self, action: Action) -> None:
        """Take an action down."""
        self._actions.append(action)

    def say(self, level: Level, text: str) -> None:
        """Take a line for the log down."""
        self._actions.append(Say(level, text))

    def do_last(self) -> None:
        """Take down what had to wait until successors are started."""
        self._actions += self._last
        self._last = []

    @property
    def actions(self) -> list[Action]:
        """What has been taken down in this step."""
        return self._actions

    # ------------------------------------------------------------ one worker

    def dismiss(self, child: Child, order: Order) -> None:
        """Tell a worker to stop, and note by when."""
        grace = QUICK_GRACE if order is Order.QUICK else self.graceful_timeout
        if child.ready_at is None:
            grace = min(grace, BOOT_GRACE)
        deadline = self.now + grace
        if child.state is State.STOPPING:
            deadline = min(deadline, child.deadline)
        child.enter(State.STOPPING, deadline)
        child.told_at = min(child.told_at, self.now)
        self.do(Send(child.serial, order))

    def abort(self, child: Child, why: str, reason: Reason, *, after_successor: bool = False) -> None:
        """Have a worker show where it is, and end.

        Args:
            child: the worker.
            why: in words that go on after its name.
            reason: the same, to be counted.
            after_successor: whether a worker in its place is started first.
        """
        child.enter(State.ABORTED, self.now + ABORT_GRACE)
        child.ended_for = reason
        action = Abort(child.serial, why, reason, explained=child.stuck is not None)
        (self._last if after_successor else self._actions).append(action)

    def kill(self, child: Child, why: str, reason: Reason) -> None:
        """End a worker that does not end otherwise."""
        child.enter(State.KILLED, self.now + REAP_GRACE)
        self.do(Kill(child.serial, why, reason))


def seconds(count: float) -> str:
    """Return a time as the log has it."""
    return f"{count:.1f} s"
