# SPDX-License-Identifier: MIT
"""What in a process does not survive a fork, or survives it where it must not.

It decides what is found and how it is called: threads, which no child has, and sockets, which all
children share. What is said of it, and to whom, is the caller's.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path
from typing import Final, NamedTuple

_TASKS: Final = Path("/proc/self/task")


class Socket(NamedTuple):
    """An open socket."""

    number: int
    """Its descriptor, which another one can get when this one is closed."""
    inode: int


def sockets() -> frozenset[Socket]:
    """Return all open sockets; none where the platform does not tell."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return frozenset()
    return frozenset(found for number in numbers if (found := _socket(number)) is not None)


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


def describe(found: Socket) -> str:
    """Return what a socket is connected or bound to.

    Args:
        found: the socket.
    """
    number = found.number
    try:
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


def _socket(number: int) -> Socket | None:
    try:
        status = os.fstat(number)
    except OSError:
        return None  # closed since, as the one that the listing needed
    return Socket(number, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _kernels_name(task: int) -> str:
    try:
        return (_TASKS / str(task) / "comm").read_text().strip()
    except OSError:
        return str(task)
