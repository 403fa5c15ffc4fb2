# SPDX-License-Identifier: MIT
"""When the arbiter looks how much memory which worker has.

It decides the pace. The kernel walks all pages of a process for that, which takes milliseconds of
a large one, and the arbiter has one thread. So it looks at one worker at a time, and rests after
that for many times as long as it took. What follows from a weight is not known here.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.messages import Weighed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.process.kernel import Kernel

FIRST: Final = 1.0
"""Seconds from ready to the first look, which shows what a new worker has."""
INTERVAL: Final = 10.0
"""Seconds from one look at a worker to the next."""
REST: Final = 20
"""So many times as long as a look took nobody is looked at: a twentieth of one CPU at most."""


class Weighing:
    """The round of looks at the workers of one arbiter.

    Args:
        kernel: weighs, and has the clock.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._due: dict[int, float] = {}
        self._rests_until = -inf
        self.next_at = inf
        """When `look` is to be called again."""

    def look(self, pids: Mapping[int, int]) -> Weighed | None:
        """Weigh the worker whose turn it is.

        Args:
            pids: of all that are to be weighed, by serial number.

        Returns:
            What it weighs; None when it is nobody's turn.
        """
        began = self._kernel.now()
        due = self._due = {serial: self._due.get(serial, began + FIRST) for serial in pids}
        found = None
        if due and began >= self._rests_until:
            serial = min(due, key=due.__getitem__)
            if due[serial] <= began:
                found = self._weigh(serial, pids[serial], began)
        self.next_at = max(min(due.values(), default=inf), self._rests_until)
        return found

    def _weigh(self, serial: int, pid: int, began: float) -> Weighed | None:
        weight = self._kernel.private_memory(pid)
        self._due[serial] = began + INTERVAL
        now = self._kernel.now()
        self._rests_until = now + REST * (now - began)
        return None if weight is None else Weighed(serial, weight)
