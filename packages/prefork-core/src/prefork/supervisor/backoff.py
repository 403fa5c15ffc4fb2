# SPDX-License-Identifier: MIT
"""How long to wait before a worker is started after one that failed.

It decides the pace of attempts. What counts as a failure is `failures`.

The wait doubles with each failure. Workers that were started together and fail together
are one failure, because they tell the same thing. After a failure one worker at a time is
tried; when it is ready, the others follow at once.

Who has been ready has shown that a start succeeds, so the wait after its end stays short. Else a
request that crashes whoever takes it, sent a few times a second, would leave nobody to answer all others.
"""

from __future__ import annotations

from math import inf
from typing import Final

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 30.0
LONGEST_AFTER_READY: Final = 1.0
CALM: Final = 60.0
"""Seconds without a failure after which the next one counts as the first."""


class Backoff:
    """The pace at which the workers of one generation are started.

    Args:
        probing: whether one is tried before the others from the beginning.
    """

    def __init__(self, *, probing: bool = False) -> None:
        self._failures = 0
        self._last_failure = -inf
        self._probing = probing
        self.next_at = -inf
        """When the next worker may be started."""

    def failed(self, born: float, now: float, *, was_ready: bool = False) -> None:
        """Note that a worker failed.

        Args:
            born: when it was started.
            now: the time.
            was_ready: whether it had been ready before.
        """
        if born <= self._last_failure:
            return  # started before the last failure: the same one
        if now - self.next_at > CALM:
            self._failures = 0
        wait = FIRST_WAIT * 2.0 ** min(self._failures, 20)
        longest = LONGEST_AFTER_READY if was_ready else LONGEST_WAIT
        if wait <= longest:
            self._failures += 1
        self._last_failure = now
        self._probing = True
        self.next_at = now + min(wait, longest)

    def hold(self) -> None:
        """Start nobody more, for ever: what comes next has a pace of its own."""
        self.next_at = inf

    def succeeded(self) -> None:
        """Note that a worker is ready: the others may follow. The count of failures stays."""
        self._probing = False

    def forget(self) -> None:
        """Note that a worker has lived long enough to call the trouble over."""
        self._failures = 0
        self._probing = False
        self.next_at = -inf

    def allowance(self, wanted: int, booting: int, now: float) -> int:
        """Return how many workers may be started now.

        Args:
            wanted: how many are missing.
            booting: how many are being tried.
            now: the time.
        """
        if now < self.next_at:
            return 0
        if self._probing:
            return max(0, min(wanted, 1 - booting))
        return wanted
