# SPDX-License-Identifier: MIT
"""What in a process does not survive a fork, or survives it where it must not.

It decides what is found and how it is called: threads, which no child has, and what all children share with
its state: sockets, pipes, and files that are read and written, as those of SQLite are. A log that is only
appended to can be shared. What is said of it, and to whom, is the caller's.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Final, NamedTuple

_TASKS: Final = Path("/proc/self/task")


class Shared(NamedTuple):
    """Something open that children would share."""

    number: int
    """Its descriptor, which another one can get when this one is closed."""
    file: tuple[int, int]
    """Device and inode, which copies of the descriptor have too."""


def shared() -> frozenset[Shared]:
    """Return all that is open and would be shared; nothing where the platform does not tell."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return frozenset()
    return frozenset(found for number in numbers if (found := _shared(number)) is not None)


def shared_since(before: frozenset[Shared]) -> list[Shared]:
    """Return what has been opened since, and is open still.

    Args:
        before: what was open then.
    """
    known = {found.file for found in before}
    return sorted(found for found in shared() if found.file not in known)


def threads() -> list[str]:
    """Return the names of all threads but the calling one.

    Those that are not Python's, as of libraries in C, have the names that the kernel knows.
    """
    # The calling thread by itself, because in a forked process Python 3.11 still has the parent's id of it.
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    known = {threading.get_native_id(), *(thread.native_id for thread in others)}
    try:
        tasks = {int(task.name) for task in _TASKS.iterdir()}
    except OSError:
        tasks = set()
    foreign = [_kernels_name(task) for task in tasks - known]
    return sorted([*(thread.name for thread in others), *foreign])


def describe(found: Shared) -> str:
    """Return what a socket is connected or bound to, or the path of a file.

    Args:
        found: which one.
    """
    number = found.number
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return f"{os.readlink(f'/proc/self/fd/{number}')} (descriptor {number})"
        with socket.socket(fileno=os.dup(number)) as sock:
            return f"{_end(sock)} (descriptor {number})"
    except OSError:
        return f"descriptor {number}"  # closed since


def _end(sock: socket.socket) -> str:
    try:
        address = sock.getpeername()
    except OSError:  # not connected
        address = sock.getsockname()
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    text = os.fsdecode(address)
    return text.replace("\0", "@") or "a socket without a name"


def _shared(number: int) -> Shared | None:
    try:
        status = os.fstat(number)
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError:
        return None  # closed since, as the one that the listing needed
    mode = status.st_mode
    is_written = stat.S_ISREG(mode) and flags & os.O_ACCMODE == os.O_RDWR
    if not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or is_written):
        return None
    return Shared(number, (status.st_dev, status.st_ino))


def _kernels_name(task: int) -> str:
    try:
        return (_TASKS / str(task) / "comm").read_text().strip()
    except OSError:
        return str(task)
