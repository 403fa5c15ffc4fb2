# SPDX-License-Identifier: MIT
"""How slow a peer may be: a wait has an end, and one byte per second is a stall too.

Only the time that we wait for the peer counts. The time in which the application does something
else is not the peer's fault.
"""

from __future__ import annotations

from math import inf


class Pace:
    """The progress of one body, or one response, on its way through a slow network.

    Args:
        timeout: longest wait for any byte, in seconds; 0 for no limit at all.
        rate: bytes per second that must come over each `timeout` seconds of waiting; 0 for no such limit.
        now: monotonic seconds.
    """

    __slots__ = ("_last", "_moved", "_needed", "_paused", "_start", "_timeout")

    def __init__(self, timeout: float, rate: int, now: float) -> None:
        self._timeout = timeout
        self._needed = int(rate * timeout)
        self._start = now  # of the window in which `_moved` bytes were counted
        self._last = now
        self._moved = 0
        self._paused = now

    def deadline(self) -> float:
        """Return when the peer is too late, in monotonic seconds, unless it moves before."""
        if not self._timeout:
            return inf
        since = self._last if self._moved >= self._needed else self._start
        return since + self._timeout

    def moved(self, count: int, now: float) -> None:
        """Note that the peer sent or took bytes."""
        self._moved += count
        self._last = now
        if now >= self._start + self._timeout and self._moved >= self._needed:
            # Whoever was too slow in this window stays late: deadlines are looked at now and then, and a byte
            # in between must not buy another window.
            self._start = now
            self._moved = 0
        self._paused = now

    def resume(self, now: float) -> None:
        """Note that we wait for the peer again, after having done something else."""
        away = now - self._paused
        self._start += away
        self._last += away
        self._paused = now
