# SPDX-License-Identifier: MIT
"""What the arbiter looks at without being told: requests that take long, memory, load.

It decides when there is a look and at whom. What is too long, too much or too busy is decided in
`lateness`, `supervisor.weight` and `supervisor.scaling`; what follows in `supervisor.machine`.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.arbiter.gauge import Gauge
from prefork.arbiter.lateness import look, next_look
from prefork.arbiter.weighing import Weighing
from prefork.supervisor.children import SERVING, State
from prefork.supervisor.messages import Overdue, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork.arbiter.brood import Brood, Worker
    from prefork.arbiter.inquest import Inquests
    from prefork.net.listener import Listener
    from prefork.process.kernel import Kernel
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Event

FROZEN: Final = 1.0
"""Seconds that the arbiter may wake up too late. After more, everybody was stopped (a frozen
container, swap), and workers get so long to move their deadlines."""


class Rounds:
    """The looks at the workers.

    Args:
        kernel: the operating system.
        fleet: which workers there should be.
        brood: which there are.
        inquests: has slow requests explained.
    """

    def __init__(self, kernel: Kernel, fleet: Fleet, brood: Brood, inquests: Inquests) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._brood = brood
        self._inquests = inquests
        self._weighing = Weighing(kernel)
        self._gauge = Gauge()
        self._look_at = 0.0

    def next_at(self, now: float) -> float:
        """Return when the next look is due, infinity for never.

        Args:
            now: the time.
        """
        looks = [
            next_look(worker.slot, worker.limits, worker.suspicion, now) for worker in self._with_deadlines()
        ]
        return min(max(min(looks, default=inf), self._look_at), self._weighing.next_at, self._gauge.next_at)

    def wake(self, planned: float, now: float) -> None:
        """Be lenient with everybody if the arbiter itself has been stopped.

        Args:
            planned: when it wanted to wake up.
            now: when it did.
        """
        if now - planned > FROZEN:
            self._look_at = now + FROZEN

    def look(self, listeners: Sequence[Listener]) -> Iterator[Event]:
        """Look at what is due; what is found is to be dealt with before the next look.

        Args:
            listeners: of the present generation.
        """
        yield from self._look_at_deadlines()
        yield from self._look_at_memory()
        yield from self._look_at_load(listeners)

    def _with_deadlines(self) -> list[Worker]:
        states = (*SERVING, State.STOPPING)
        return self._brood.among(child.serial for child in self._fleet.children.among(*states))

    def _look_at_deadlines(self) -> Iterator[Event]:
        now = self._kernel.now()
        if now < self._look_at:
            return
        for worker in self._with_deadlines():
            found = look(worker.slot, worker.limits, worker.suspicion, now)
            if found is None:
                continue
            if found.stuck or found.is_lost:
                worker.late = [late.current for late in found.stuck]
                reason = found.stuck[0].reason if found.stuck else Reason.TIMEOUT
                yield Overdue(worker.serial, reason, found.plight)
            elif found.is_blocked:
                why = "has a loop that does not turn: a call blocks all its requests"
                self._inquests.ask(worker, why, "blocked_loop", level=logging.WARNING)
            elif found.slow:
                why = "has a slow request"
                self._inquests.ask(worker, why, "slow_request", late=found.slow, level=logging.WARNING)

    def _look_at_memory(self) -> Iterator[Event]:
        workers = self._with_deadlines() if self._fleet.policy.weighs else ()
        weighed = self._weighing.look({worker.serial: worker.pid for worker in workers})
        if weighed is not None:
            yield weighed

    def _look_at_load(self, listeners: Sequence[Listener]) -> Iterator[Event]:
        if not self._fleet.policy.max_workers:
            self._gauge.rest()
            return
        serving = self._brood.among(child.serial for child in self._fleet.children.among(*SERVING))
        sampled = self._gauge.look([worker.slot for worker in serving], listeners, self._kernel.now())
        if sampled is not None:
            yield sampled
