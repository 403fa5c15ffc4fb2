# SPDX-License-Identifier: MIT
"""The poll set: which descriptors are ready. One interface over epoll.

Everything is registered level-triggered and stays registered. A descriptor is either watched or
not; who owns a connection is decided elsewhere.
"""

from __future__ import annotations

import select
from math import inf
from typing import Final

READ: Final = select.EPOLLIN | select.EPOLLRDHUP
WRITE: Final = select.EPOLLOUT
MOST_EVENTS: Final = 64


class Poller:
    """A set of descriptors to wait on, used by one thread."""

    __slots__ = ("_epoll",)

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def watch(self, fd: int, events: int) -> None:
        """Begin to watch a descriptor for `READ` or `WRITE`."""
        self._epoll.register(fd, events)

    def share(self, fd: int) -> None:
        """Begin to watch a descriptor that other processes watch too: few are woken for one event."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def change(self, fd: int, events: int) -> None:
        """Watch a descriptor that is watched already for something else."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor. One that is closed is forgotten by the kernel."""
        self._epoll.unregister(fd)

    def wait(self, timeout: float, most: int = MOST_EVENTS) -> list[tuple[int, int]]:
        """Return what is ready, as pairs of descriptor and events; what was ready first comes first.

        Args:
            timeout: seconds to wait at most; infinity for as long as it takes.
            most: how many to return. Those that are returned and still ready then go to the end of the
                kernel's queue, so who wants to serve but one must ask for one.
        """
        # poll() rounds up to whole milliseconds, so a deadline has passed when it returns.
        return self._epoll.poll(-1 if timeout == inf else max(timeout, 0.0), most)

    def close(self) -> None:
        """Close the set itself."""
        self._epoll.close()
