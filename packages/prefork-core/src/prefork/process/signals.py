# SPDX-License-Identifier: MIT
"""The arbiter's signals: which one means what, and how it becomes readable.

It decides what a signal asks for. What is done about it is `arbiter.loop`'s.

The handlers do nothing. C code of Python writes each signal's number into a pipe
(`signal.set_wakeup_fd`), whose other end is in the loop's selector; so no line of Python
runs at an unforeseen moment.
"""

from __future__ import annotations

import os
import signal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType


class Command(Enum):
    """What an operator, or the kernel, asks of the arbiter."""

    STOP = "stop: finish what is running; the second time at once"
    QUIT = "stop at once"
    RELOAD = "load the settings again and replace the workers"
    REOPEN = "open the log files again"
    MORE = "one worker more"
    FEWER = "one worker fewer, but at least one"
    PARK = "a daemon, or one whose successor is ready, stops its workers and waits; ignored otherwise"
    UPGRADE = "start another arbiter beside this one, which takes its place when this one is stopped"
    REAP = "a child has ended"


COMMANDS: Final[Mapping[signal.Signals, Command]] = {
    signal.SIGTERM: Command.STOP,
    signal.SIGINT: Command.QUIT,
    signal.SIGQUIT: Command.QUIT,
    signal.SIGHUP: Command.RELOAD,
    signal.SIGUSR1: Command.REOPEN,
    signal.SIGUSR2: Command.UPGRADE,
    signal.SIGTTIN: Command.MORE,
    signal.SIGTTOU: Command.FEWER,
    signal.SIGWINCH: Command.PARK,
    signal.SIGCHLD: Command.REAP,
}

_FATAL_IN_A_CHILD: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD})
"""Left at their default in a new child. All others are ignored until it has handlers of its
own: USR1 for the logs must not kill a worker that is a millisecond old."""

_unheard: Final[list[int]] = []
"""SIGUSR1 that came to this process before it had a handler of its own."""


class Inbox:
    """Signals of this process, as a descriptor. One for each process, in its main thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()  # not pipe2: macOS has none
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        for number in COMMANDS:
            signal.signal(number, _do_nothing)
        # A full pipe (64 KiB of signals) loses some; the loop reaps on every turn anyway.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._read

    def read(self) -> list[Command]:
        """Return what has been asked for since the last call, in order."""
        try:
            numbers = os.read(self._read, 65536)
        except BlockingIOError:
            return []
        return [_BY_NUMBER[number] for number in numbers if number in _BY_NUMBER]

    def close(self) -> None:
        """Ignore all signals from now on, and close the pipe: the process is about to end."""
        signal.set_wakeup_fd(-1)
        ignore()
        self._close_pipe()

    def leave_to_child(self, *, executes: bool = False) -> None:
        """Give the signals up in a child that was forked while they were `held`.

        Args:
            executes: whether the child is about to be another program. Else `take_unheard` tells it of a
                SIGUSR1 that has come before it could do something about it.
        """
        signal.set_wakeup_fd(-1)
        _unheard.clear()
        for number in COMMANDS:
            early: Any = signal.SIG_DFL if number in _FATAL_IN_A_CHILD else signal.SIG_IGN
            if number is signal.SIGUSR1 and not executes:
                early = _note
            signal.signal(number, early)
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._read)
        os.close(self._write)


def ignore() -> None:
    """Ignore all signals from now on, because the process is about to end.

    An interpreter that ends takes its handlers away. Then USR1 for the logs, sent to everybody, would kill a
    worker that has finished, and the arbiter would report that.
    """
    for number in COMMANDS:
        signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else signal.SIG_IGN)


def take_unheard() -> bool:
    """Return whether SIGUSR1 has come to this child too early; it has a handler of its own now."""
    came = bool(_unheard)
    _unheard.clear()
    return came


class held:  # noqa: N801 -- used as a verb: with held(): fork
    """Hold signals back around a fork.

    Without it, one that reaches the child before `Inbox.leave_to_child` would be written
    into the pipe, which is the parent's: it would take the child's SIGTERM for its own.
    """

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


_BY_NUMBER: Final = {int(number): command for number, command in COMMANDS.items()}


def _note(number: int, _frame: FrameType | None) -> None:
    _unheard.append(number)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
