# SPDX-License-Identifier: MIT
"""The table of children: who is in which slot, in which state, until when.

It decides which changes of state are possible. When they happen, and why, is `machine`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Protocol

    from prefork.supervisor.messages import Reason


class State(Enum):
    """Where a child is in its life."""

    BOOTING = "booting"
    """Forked, and not ready yet."""
    READY = "ready"
    """Serving, and to stay."""
    RETIRING = "retiring"
    """Serving until its successor is ready."""
    STOPPING = "stopping"
    """Told to stop, finishing what it has in hand."""
    ABORTED = "aborted"
    """Sent SIGABRT, so that it shows its stack; killed next."""
    KILLED = "killed"
    """Sent SIGKILL; only to be reaped."""


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.BOOTING: frozenset({State.READY, State.STOPPING, State.ABORTED, State.KILLED}),
    State.READY: frozenset({State.RETIRING, State.STOPPING, State.ABORTED, State.KILLED}),
    # A reload that is rolled back makes READY of RETIRING.
    State.RETIRING: frozenset({State.READY, State.STOPPING, State.ABORTED, State.KILLED}),
    # A stop in several orders: leave, then drain, then quick.
    State.STOPPING: frozenset({State.STOPPING, State.ABORTED, State.KILLED}),
    State.ABORTED: frozenset({State.KILLED}),
    State.KILLED: frozenset(),
}

MEMBERS: Final = frozenset({State.BOOTING, State.READY})
"""Counted as workers of the server: no other is started in their place."""
SERVING: Final = frozenset({State.READY, State.RETIRING})
"""Able to take a connection."""

ABORT_GRACE: Final = 1.0
"""Seconds from SIGABRT to SIGKILL: time to write a stack."""
REAP_GRACE: Final = 5.0
"""Seconds from SIGKILL until a stopping server waits no longer (a process stuck in the kernel)."""


class Warmth(Enum):
    """How far a worker is on its way to be the next template."""

    COLD = "cold"
    WARM = "warm"
    """It has served enough requests."""
    CHOSEN = "chosen"
    """It waits for its successor, as one that is recycled does."""
    TOLD = "told"
    """It drains, and is a template when nothing is in its way."""


if TYPE_CHECKING:

    class _Living(Protocol):
        """What has a state and its deadline: a worker, or a template."""

        state: State
        deadline: float


def change_state(self: _Living, state: State, deadline: float = inf) -> None:
    """Change the state.

    Args:
        self: who changes.
        state: the next one.
        deadline: when that one has lasted too long, in monotonic seconds.

    Raises:
        ValueError: there is no way from here to there.
    """
    if state not in TRANSITIONS[self.state]:
        raise ValueError(f"{self} cannot go from {self.state.value} to {state.value}")
    self.state = state
    self.deadline = deadline


@dataclass(slots=True)
class Child:
    """One child process. Times are monotonic seconds."""

    serial: int
    """Never used twice; gunicorn's worker.age."""
    slot: int
    generation: int
    born: float
    deadline: float
    """When the present state has lasted too long."""
    state: State = State.BOOTING
    pid: int = 0
    """0 until it is known: a template forks it, and then it says so itself."""
    template: int = 0
    """The number of the template that forks it; 0 for the arbiter."""
    ready_at: float | None = None
    expires: float = inf
    """When it has served for max_worker_lifetime."""
    wants_successor: str = ""
    """Why it is to be replaced, in words that go on after its name; empty while it is not."""
    weighings: int = 0
    first_weight: int = 0
    weight: int = 0
    """Bytes of memory that it shares with no other process, when last weighed."""
    stuck: Reason | None = None
    """Why a request of it is stuck."""
    ended_for: Reason | None = None
    """Why it is ended by force."""
    told_at: float = inf
    """When it was told to stop."""
    warmth: Warmth = Warmth.COLD

    enter = change_state

    def weigh(self, weight: int) -> None:
        """Note how many bytes of memory it shares with no other process."""
        self.weighings += 1
        self.weight = weight
        self.first_weight = self.first_weight or weight

    def served(self, now: float) -> float:
        """Return for how many seconds it has been ready; 0.0 when it never was."""
        return 0.0 if self.ready_at is None else now - self.ready_at

    def __str__(self) -> str:
        return name(self.pid, self.slot, self.generation)


def name(pid: int, slot: int, generation: int) -> str:
    """Return what a worker is called in the log.

    Args:
        pid: of its process.
        slot: where it is on the scoreboard.
        generation: what it runs.
    """
    return f"worker {pid} (slot {slot}, generation {generation})"


class Children:
    """Every child that is not reaped yet, oldest first.

    Args:
        slots: how many there can be.
    """

    def __init__(self, slots: int) -> None:
        self._by_serial: dict[int, Child] = {}
        self._free = list(range(slots))  # a heap: the lowest slot first, so that few pages are touched
        self._last_serial = 0
        self.size = slots

    def add(self, generation: int, now: float, deadline: float) -> Child:
        """Enter a child that is about to be forked.

        Args:
            generation: what it runs.
            now: the time.
            deadline: until when it may boot.

        Raises:
            IndexError: no slot is free.
        """
        slot = heapq.heappop(self._free)
        self._last_serial += 1
        child = Child(self._last_serial, slot, generation, now, deadline)
        self._by_serial[child.serial] = child
        return child

    def remove(self, serial: int) -> Child | None:
        """Take a child out and free its slot; None when it is not here."""
        child = self._by_serial.pop(serial, None)
        if child is not None:
            heapq.heappush(self._free, child.slot)
        return child

    def get(self, serial: int) -> Child | None:
        """Return a child, or None when it is not here."""
        return self._by_serial.get(serial)

    def among(self, *states: State) -> list[Child]:
        """Return the children in any of the states, oldest first."""
        return [child for child in self._by_serial.values() if child.state in states]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def generations(self) -> set[int]:
        """Return the generations that have a child."""
        return {child.generation for child in self._by_serial.values()}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_serial.values()))

    def __len__(self) -> int:
        return len(self._by_serial)
