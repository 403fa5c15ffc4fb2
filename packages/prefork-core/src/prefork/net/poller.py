# SPDX-License-Identifier: MIT
"""The poll set: which descriptors are ready. One interface over epoll and kqueue.

Everything is registered level-triggered and stays registered. A descriptor is watched for `READ`, for `WRITE`
or not at all; who owns a connection is decided elsewhere. Any thread may change the set while one waits.
"""

from __future__ import annotations

import select
import sys
from math import inf
from typing import Any, Final, Protocol

_MOST_EVENTS: Final = 64
"""Returned at once; the others are next."""


class Poll(Protocol):
    """A set of descriptors to wait on."""

    def watch(self, fd: int, events: int) -> None:
        """Begin to watch a descriptor for `READ` or `WRITE`."""

    def share(self, fd: int) -> None:
        """Begin to watch a descriptor that other processes watch too."""

    def change(self, fd: int, events: int) -> None:
        """Watch a descriptor that is watched already for the other of the two."""

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor. One that is closed is forgotten by the kernel."""

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return what is ready, as pairs of descriptor and events.

        Args:
            timeout: seconds to wait at most; infinity for as long as it takes.
        """

    def close(self) -> None:
        """Close the set itself."""


if sys.platform == "linux":
    READ: Final = select.EPOLLIN | select.EPOLLRDHUP
    WRITE: Final = select.EPOLLOUT

    _epoll = select.epoll  # libraries of greenlets take it out of the module later

    class Epoll:
        """A set of descriptors to wait on: epoll(7), of Linux.

        Raises:
            OSError: no descriptors are left.
        """

        __slots__ = ("_epoll",)

        def __init__(self) -> None:
            self._epoll = _epoll()

        def watch(self, fd: int, events: int) -> None:
            """Begin to watch a descriptor for `READ` or `WRITE`."""
            self._epoll.register(fd, events)

        def share(self, fd: int) -> None:
            """Begin to watch a descriptor that other processes watch too: few are woken for one event."""
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

        def change(self, fd: int, events: int) -> None:
            """Watch a descriptor that is watched already for the other of the two."""
            self._epoll.modify(fd, events)

        def forget(self, fd: int) -> None:
            """Stop watching a descriptor. One that is closed is forgotten by the kernel."""
            self._epoll.unregister(fd)

        def wait(self, timeout: float) -> list[tuple[int, int]]:
            """Return what is ready, as pairs of descriptor and events; what was ready first comes first.

            Args:
                timeout: seconds to wait at most; infinity for as long as it takes.
            """
            # poll() rounds up to whole milliseconds, so a deadline has passed when it returns.
            return self._epoll.poll(-1 if timeout == inf else max(timeout, 0.0), _MOST_EVENTS)

        def fileno(self) -> int:
            """Return a descriptor that is readable while something is ready."""
            return self._epoll.fileno()

        def close(self) -> None:
            """Close the set itself."""
            self._epoll.close()

else:
    READ: Final = 1
    WRITE: Final = 2


class Kqueue:
    """The same over kqueue(2), of macOS and the BSDs. It is not inherited by fork.

    Args:
        system: what has `kqueue`, `kevent` and their constants, as the module `select` there.

    Raises:
        OSError: no descriptors are left.
    """

    __slots__ = ("_add", "_delete", "_events", "_filters", "_kevent", "_kqueue")

    def __init__(self, system: Any = select) -> None:
        self._kevent = system.kevent
        self._add = system.KQ_EV_ADD
        self._delete = system.KQ_EV_DELETE
        self._filters = {READ: system.KQ_FILTER_READ, WRITE: system.KQ_FILTER_WRITE}
        self._events = {number: events for events, number in self._filters.items()}
        self._kqueue = system.kqueue()

    def _change(self, fd: int, events: int, action: int) -> Any:
        return self._kevent(fd, self._filters[events], action)

    def watch(self, fd: int, events: int) -> None:
        """Begin to watch a descriptor for `READ` or `WRITE`."""
        self._kqueue.control([self._change(fd, events, self._add)], 0, 0)

    def share(self, fd: int) -> None:
        """Begin to watch a descriptor that other processes watch too. All of them are woken for one event."""
        self.watch(fd, READ)

    def change(self, fd: int, events: int) -> None:
        """Watch a descriptor that is watched already for the other of the two."""
        other = WRITE if events == READ else READ
        # In this order: a thread that waits meanwhile must not find the descriptor twice.
        changes = [self._change(fd, other, self._delete), self._change(fd, events, self._add)]
        self._kqueue.control(changes, 0, 0)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor. One that is closed is forgotten by the kernel."""
        try:
            self._kqueue.control([self._change(fd, READ, self._delete)], 0, 0)
        except FileNotFoundError:
            self._kqueue.control([self._change(fd, WRITE, self._delete)], 0, 0)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return what is ready, as `Epoll.wait`; the end of a connection is readable here too (EV_EOF)."""
        found = self._kqueue.control(None, _MOST_EVENTS, None if timeout == inf else max(timeout, 0.0))
        events = self._events
        return [(event.ident, events[event.filter]) for event in found]

    def fileno(self) -> int:
        """Return a descriptor that is readable while something is ready."""
        return int(self._kqueue.fileno())

    def close(self) -> None:
        """Close the set itself."""
        self._kqueue.close()


if sys.platform == "linux":
    Poller = Epoll
else:
    Poller = Kqueue
