# SPDX-License-Identifier: MIT
"""Where lines go: a descriptor that takes whole lines, or loses them, but never raises.

Decides how a file is opened and reopened, and what happens when it takes nothing. It knows
nothing of what the lines say; who is told of a loss is the caller's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prefork.errors import ConfigError

_poll: Final = select.poll
"""Looked up before a library of greenlets takes it out of the module."""

write_now: Final = os.write
"""Looked up before a library of greenlets puts a function there that waits while other greenlets run: a line
is written in the middle of what must not be interrupted, and two at once on a pipe are an error to it."""

MODE: Final = 0o640
"""Of new log files: they hold addresses and URLs, which are nobody else's business."""

PATIENCE: Final = 0.1
"""Seconds that a line waits for a full pipe. Only while no line is lost: a reader that is
busy for a moment loses nothing, and one that hangs costs one wait, not one per request."""

QUIET: Final = 10.0
"""Seconds after which a destination that fails on and off is complained of again."""

_STANDARD: Final = {1: "stdout", 2: "stderr"}

_HINTS: Final = {
    errno.ENOENT: "the folder must exist before the server starts",
    errno.EACCES: "the user that starts the server needs the right to write there",
    errno.EISDIR: "name a file in that folder",
    errno.ENXIO: 'nobody reads that pipe, or it is a socket; "-" means the standard stream',
}

Report = Callable[["Destination", str], None]


@dataclass(slots=True)
class _Loss:
    """Lines are being lost. `torn`: the file ends in the first part of a line."""

    pid: int
    said: bool
    lines: int = 0
    torn: bool = False


def identity(fd: int) -> tuple[int, int] | None:
    """Return what file a descriptor leads to, None if it is closed.

    Args:
        fd: a descriptor.
    """
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def writable(fd: int, patience: float) -> bool:
    """Return whether a descriptor takes bytes, or fails at once, within some time.

    Args:
        fd: a descriptor.
        patience: seconds to wait at most.
    """
    poll = _poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(patience * 1000))


def _open_standard(fd: int, setting: str) -> int:
    """Return a descriptor of its own for stdout or stderr.

    A pipe is opened anew: only so can it be non-blocking without changing the stream for
    all who share it (O_NONBLOCK belongs to the open file, not to the descriptor).
    """
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            try:
                return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # no /proc, or another user's pipe: then a full pipe blocks
                pass
        return os.dup(fd)
    except OSError as error:
        raise ConfigError(
            f'{setting} is "-", but {_STANDARD[fd]} is not open: {error.strerror}', hint="name a file instead"
        ) from error


def _open_file(path: str, owner: tuple[int, int] | None) -> int:
    # O_NONBLOCK means nothing to a file; a FIFO without a reader would hang the start for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(path, flags, MODE)
    status = os.fstat(fd)
    if owner is not None and stat.S_ISREG(status.st_mode) and (status.st_uid, status.st_gid) != owner:
        with contextlib.suppress(OSError):  # workers can write even so, and a failed reopen is reported
            os.fchown(fd, *owner)
    return fd


class Destination:
    """A file or a standard stream that takes lines.

    Threads may write at once, and so may processes that share it by fork: a line is one
    `write` on a file opened for appending. Counts of lost lines are of one process, and
    under threads near enough.

    Args:
        setting: the setting that named it, for messages.
        where: a path, or "-".
        standard: the descriptor that "-" means: 1 or 2.
        report: called with the destination and a message when lines begin to be lost, when
            that is over, and when a reopen failed. Must not raise.
        owner: (uid, gid) that must be able to reopen the file, None for the present ones.
        quiet: seconds between complaints.
        patience: seconds that a line waits for a full pipe at most.

    Raises:
        ConfigError: it cannot be opened.
    """

    __slots__ = (
        "_captured",
        "_complained",
        "_fd",
        "_loss",
        "_owner",
        "_patience",
        "_quiet",
        "_report",
        "_unsaid",
        "path",
        "setting",
    )

    def __init__(
        self,
        setting: str,
        where: str,
        *,
        standard: int,
        report: Report,
        owner: tuple[int, int] | None = None,
        quiet: float = QUIET,
        patience: float = PATIENCE,
    ) -> None:
        self.setting = setting
        # Not resolve(): a link is followed anew at each reopen, and /dev/stdout must stay that.
        self.path = None if where == "-" else os.path.abspath(where)
        self._owner = owner
        self._report = report
        self._quiet = quiet
        self._patience = patience
        self._loss: _Loss | None = None
        self._complained = -quiet
        self._unsaid = 0
        self._captured: tuple[int, ...] = ()
        self._fd = _open_standard(standard, setting) if self.path is None else self._open_first(self.path)

    def _open_first(self, path: str) -> int:
        try:
            return _open_file(path, self._owner)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            hint = _HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            raise ConfigError(f"{self.setting}: cannot open {path!r}: {reason}", hint=hint) from error

    @property
    def failing(self) -> bool:
        """Whether the last line was lost."""
        return self._loss is not None

    def identity(self) -> tuple[int, int] | None:
        """Return what file this leads to, None after `close`."""
        return identity(self._fd)

    def fileno(self) -> int:
        """Return the descriptor that lines are written to; it stays the same when the file is reopened."""
        return self._fd

    def write(self, line: bytes) -> None:
        """Write a line, or lose it. Never raises, waits `patience` at most.

        Args:
            line: the line with its newline.
        """
        loss = self._loss  # read once: another thread may be about to recover
        if loss is not None:
            self._write_again(line, loss)
            return
        try:
            written = write_now(self._fd, line)
        except BlockingIOError:
            written = 0
        except OSError as error:
            self._lose(error, torn=False)
            return
        if written != len(line):
            more, error_or_none = self._push(line[written:], self._patience)
            if error_or_none is not None:
                self._lose(error_or_none, torn=written + more > 0)

    def _push(self, data: bytes, patience: float) -> tuple[int, OSError | None]:
        """Write on until all is taken; return how many bytes were, and what stopped it."""
        done = 0
        deadline = time.monotonic() + patience
        while done < len(data):
            try:
                done += write_now(self._fd, data[done:])
            except BlockingIOError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not writable(self._fd, left):
                    return done, error
            except OSError as error:
                return done, error
        return done, None

    def _lose(self, error: OSError, *, torn: bool) -> None:
        now = time.monotonic()
        said = now - self._complained >= self._quiet
        self._loss = _Loss(os.getpid(), said, lines=1, torn=torn)
        if said:
            self._complained = now
            reason = "its reader is too slow" if isinstance(error, BlockingIOError) else error.strerror
            self._report(self, f"{self.setting}: cannot write to {self}: {reason}; lines are being lost")

    def _write_again(self, line: bytes, loss: _Loss) -> None:
        if loss.pid != os.getpid():  # what the parent lost before the fork, the parent tells
            loss.pid, loss.lines, loss.torn = os.getpid(), 0, False
        mend = b"\n" if loss.torn else b""
        done, error = self._push(mend + line, 0.0)
        if error is None:
            self._recover(loss)
            return
        loss.lines += 1
        if done:
            loss.torn = done > len(mend)

    def _recover(self, loss: _Loss) -> None:
        self._loss = None
        self._unsaid += loss.lines
        if loss.said:
            self._tell_lost("works again")

    def _tell_lost(self, state: str) -> None:
        lost, self._unsaid = self._unsaid, 0
        if lost:
            lines = "1 line was" if lost == 1 else f"{lost} lines were"
            self._report(self, f"{self.setting}: {self} {state}; {lines} lost")

    def reopen(self) -> None:
        """Open the path anew and put it in the place of the open file; "-" stays.

        Takes no lock and replaces the descriptor in one system call, so that it can run in
        a signal handler in the middle of a write. If the path cannot be opened the old file
        is kept and the reason is reported.
        """
        if self.path is None:
            return
        try:
            new = _open_file(self.path, self._owner)
        except OSError as error:
            self._report(self, f"{self.setting}: cannot reopen {self}: {error.strerror}; the old file stays")
            return
        os.dup2(new, self._fd, inheritable=False)
        os.close(new)
        loss = self._loss
        if loss is not None:
            loss.torn = False
        self._point_captured()

    def capture(self, fds: tuple[int, ...]) -> bool:
        """Make descriptors lead to this file, now and after each reopen.

        Args:
            fds: the descriptors, stdout and stderr.

        Returns:
            Whether it was done: only a regular file is given to programs that do not know
            how to lose a line.
        """
        if self.path is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return False
        self._captured = fds
        self._point_captured()
        return True

    def _point_captured(self) -> None:
        for fd in self._captured:
            os.dup2(self._fd, fd, inheritable=True)

    def close(self) -> None:
        """Close the descriptor; lines that come later are lost. Tells what was lost."""
        loss = self._loss
        if loss is not None and loss.pid == os.getpid():
            self._unsaid += loss.lines
        if self._fd >= 0:
            self._tell_lost("is closed")
            fd, self._fd = self._fd, -1  # never write to a number that somebody else got
            os.close(fd)

    def __str__(self) -> str:
        return repr(self.path) if self.path is not None else "the standard stream"
