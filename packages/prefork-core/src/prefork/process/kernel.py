# SPDX-License-Identifier: MIT
"""The operating system as far as the arbiter needs it for its children, and the clock.

It decides nothing: `arbiter.loop` does through it what `supervisor.machine` wants, so that
either can be run against something else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

from prefork.process import memory
from prefork.supervisor.messages import Death

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kernel(Protocol):
    """What an operating system does for an arbiter."""

    def now(self) -> float:
        """Return monotonic seconds, on the clock that workers write deadlines by."""

    def fork(self) -> int:
        """Fork; return the child's pid, or 0 in the child.

        Raises:
            OSError: no process or memory is to be had.
        """

    def kill(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a child that is not reaped yet."""

    def reap(self) -> Iterator[tuple[int, Death]]:
        """Yield the children that have ended, ours or not, without waiting."""

    def private_memory(self, pid: int) -> int | None:
        """Return how many bytes of memory a process shares with no other; None when that is not known."""


class Unix:
    """The operating system that we run on."""

    def now(self) -> float:
        """Return CLOCK_MONOTONIC: the same in all processes, and it stands still in suspend."""
        return time.monotonic()

    def fork(self) -> int:
        """Fork; return the child's pid, or 0 in the child.

        Raises:
            OSError: no process or memory is to be had.
        """
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                _flush(stream)  # or the child would write once more what a hook has printed
        return os.fork()

    def kill(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a child that is not reaped yet, so its pid cannot be another's."""
        assert pid > 0, "0 would be the whole process group"
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # a stranger's wait has reaped it (SIGCHLD ignored by a hook); ours will find nothing

    def reap(self) -> Iterator[tuple[int, Death]]:
        """Yield the children that have ended, ours or not, without waiting.

        As PID 1 of a container the arbiter inherits every orphan.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            yield pid, death_of(status)

    def private_memory(self, pid: int) -> int | None:
        """Return how many bytes of memory a process shares with no other; None when that is not known."""
        return memory.private(pid)


def death_of(status: int) -> Death:
    """Return how a process ended.

    Args:
        status: as wait(2) gives it.
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Death(code=code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"  # a real-time one
    return Death(signal=-code, signal_name=name)


def _flush(stream: object) -> None:
    try:
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return  # its reader is gone
