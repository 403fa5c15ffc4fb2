# SPDX-License-Identifier: MIT
"""Going into the background, with an answer for whoever started the server.

It decides how a daemon comes to be. The process that the shell waits for stays until the
daemon is ready, or has failed, and exits with that outcome, so that a script can rely on it.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from prefork.errors import ExitCode

_MOST: Final = 65536


class Starter:
    """The way from the daemon to the process that started it.

    Args:
        fd: the pipe's end for writing.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def fileno(self) -> int | None:
        """Return the descriptor, None when the outcome is told."""
        return self._fd

    def tell(self, code: int, message: str = "") -> None:
        """Tell the outcome, once; later calls do nothing.

        Args:
            code: what the starting process is to exit with.
            message: what it is to print on standard error.
        """
        if self._fd is None:
            return
        try:
            os.write(self._fd, bytes([code]) + message.encode()[: _MOST - 1])
        except OSError:
            pass  # nobody waits any more
        self.close()

    def close(self) -> None:
        """Close this process's copy without a word."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def daemonize() -> Starter:
    """Go into the background; only the daemon returns.

    Standard streams lead to /dev/null from then on. The folder and umask stay.

    Raises:
        OSError: no process or descriptor is to be had.
    """
    read, write = os.pipe()
    if os.fork() != 0:
        os.close(write)
        os._exit(_await(read))
    os.close(read)
    os.setsid()
    # Not a session leader any more, so no terminal that is opened can become its own.
    if os.fork() != 0:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        os.close(null)
    return Starter(write)


def _await(read: int) -> int:
    """Wait for the outcome, print its message, return its code."""
    outcome = b""
    while piece := os.read(read, _MOST):
        outcome += piece
    if not outcome:
        outcome = bytes([ExitCode.CRASH]) + b"prefork: the daemon ended before it was ready\n"
    sys.stderr.write(outcome[1:].decode())
    sys.stderr.flush()
    return outcome[0]
