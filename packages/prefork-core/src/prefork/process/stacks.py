# SPDX-License-Identifier: MIT
"""The stacks of a worker's threads: written by C code in the worker, read by the arbiter.

It decides how they travel. When a worker is asked for them, and what is said about them, is
`prefork.arbiter.inquest`.

A worker is asked twice. On the first signal Python code writes the stacks, with the interpreter's lock
held: that harms nobody. On the second, when no answer has come, `faulthandler` does so in a signal
handler in C, without that lock, so it works while C code holds it. To do so at once would end one worker in
some dozens by a crash, because the frames of other threads change while they are read.

They go through a pipe made before the fork, one for each worker: two
that are stuck together do not write into each other's stacks, and the arbiter can put them into
one record of its log. Nothing marks their end, so it is taken for that when nothing has come for
a moment, or when the worker has died.

The end of the worker does not block: whatever state the arbiter is in, a worker that shows its
stacks and has to live on never waits for it. What finds no room, 64 KiB on Linux, is lost.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_write: Final = os.write
"""Looked up before a library of greenlets takes it out of the module."""

SIGNAL: Final = signal.SIGURG
"""Asks a worker for its stacks. The default action is to ignore it, so it harms nobody who has no handler
yet; the kernel sends it only to who has asked for it with F_SETOWN."""

INSIST: Final = signal.SIGXFSZ
"""Asks one for them that does not answer. CPython ignores it: a file that is too large is an OSError."""

QUIET: Final = 0.1
"""Seconds without another byte after which the stacks are taken to be complete."""

MOST: Final = 256 * 1024
"""Bytes of stacks that are kept; faulthandler shows 100 threads and 100 frames of each at most."""

_PIECE: Final = 64 * 1024


class StackEnd:
    """The arbiter's end of the pipe of one worker, and what has come through it.

    Args:
        descriptor: the end to read from, not blocking; closed by `close`.

    Attributes:
        heard_at: when the last bytes came, in monotonic seconds.
    """

    __slots__ = ("_descriptor", "_found", "heard_at")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._found = bytearray()
        self.heard_at = 0.0

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._descriptor

    def receive(self, now: float) -> bool:
        """Take what has come; return False when nothing more can come.

        Args:
            now: monotonic seconds.
        """
        try:
            while piece := os.read(self._descriptor, _PIECE):
                self._found += piece[: MOST - len(self._found)]
                self.heard_at = now
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def has_some(self) -> bool:
        """Whether there is something to `take`."""
        return bool(self._found)

    def is_complete(self, now: float) -> bool:
        """Say whether stacks are here, and nothing has come for a while.

        Args:
            now: monotonic seconds.
        """
        return bool(self._found) and now >= self.heard_at + QUIET

    def take(self) -> str:
        """Return what has come, and forget it; empty for nothing."""
        text = self._found.decode("ascii", "backslashreplace").rstrip("\n")
        self._found.clear()
        return text

    def close(self) -> None:
        """Close this end."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def make() -> tuple[StackEnd, int]:
    """Make a pipe before a fork.

    Returns:
        The arbiter's end, and the descriptor that the worker writes to.

    Raises:
        OSError: no descriptors are left.
    """
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    return StackEnd(ours), theirs


def show_on_signals(descriptor: int, *, main_calls: bool, more: Callable[[], str]) -> None:
    """Have this process, a worker, show all its stacks when it is asked to, is aborted or crashes.

    To be called after handlers in Python are installed: that of SIGABRT is called after its stacks are shown.

    Args:
        descriptor: where to write them.
        main_calls: whether the application is called in the main thread. Then that one alone is shown
            when it does not answer: other threads may run. Where it is not, it always answers unless
            somebody has the interpreter's lock, and then no other thread runs.
        more: returns what is to be shown behind the stacks of threads, when it is asked.
    """

    def answer(_number: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(file=descriptor, all_threads=True)
        show(descriptor, more())

    signal.signal(SIGNAL, answer)
    faulthandler.enable(file=descriptor, all_threads=True)
    faulthandler.register(INSIST, file=descriptor, all_threads=not main_calls)


def show(descriptor: int, text: str) -> None:
    """Show something behind the stacks of threads, as far as there is room.

    Args:
        descriptor: as of `show_on_signals`.
        text: what.
    """
    if text:
        with suppress(OSError):
            _write(descriptor, text.encode("ascii", "backslashreplace"))


def show_no_more() -> None:
    """Undo `show_on_signals`, before the descriptor is closed."""
    signal.signal(SIGNAL, signal.SIG_DFL)
    faulthandler.unregister(INSIST)
    faulthandler.disable()
