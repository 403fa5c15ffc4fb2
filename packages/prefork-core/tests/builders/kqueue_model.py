# SPDX-License-Identifier: MIT
"""A kqueue for machines that have none: as much of kqueue(2), with the names of `select`, as is used of it.

Written after the manual pages of macOS and FreeBSD, and after what the module `select` does there. It knows
descriptors that are sockets or pipes, and the filters READ and WRITE. What is ready is asked of epoll, so a
descriptor that is closed is forgotten and what was ready first comes first, as with a kqueue. It is no proof
that a real one does the same.
"""

from __future__ import annotations

import errno
import os
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, epoll
from typing import Final, NamedTuple

KQ_FILTER_READ: Final = -1
KQ_FILTER_WRITE: Final = -2
KQ_EV_ADD: Final = 0x1
KQ_EV_DELETE: Final = 0x2
KQ_EV_EOF: Final = 0x8000

_MASKS: Final = {KQ_FILTER_READ: EPOLLIN | EPOLLRDHUP, KQ_FILTER_WRITE: EPOLLOUT}
_ENDS: Final = EPOLLHUP | EPOLLERR
_EOF: Final = {KQ_FILTER_READ: EPOLLRDHUP | _ENDS, KQ_FILTER_WRITE: _ENDS}


class kevent(NamedTuple):  # noqa: N801 (the name in select)
    """One change that is asked for, or one event that is reported."""

    ident: int
    filter: int = KQ_FILTER_READ
    flags: int = KQ_EV_ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0


class kqueue:  # noqa: N801 (the name in select)
    """A queue of kernel events."""

    def __init__(self) -> None:
        self._epoll = epoll()
        self._masks: dict[int, int] = {}
        self._process = os.getpid()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def control(
        self, changelist: list[kevent] | None, max_events: int, timeout: float | None = None
    ) -> list[kevent]:
        """Make changes, then return at most so many events, within so many seconds (None: whenever).

        Raises:
            OSError: the first change that is wrong, after which no other is made.
        """
        if self._process != os.getpid():
            raise OSError(errno.EBADF, "a kqueue is not inherited by fork")
        if max_events < 0 or (timeout is not None and timeout < 0):
            raise ValueError("neither can be negative")
        for change in changelist or ():
            self._apply(change)
        if not max_events:
            return []
        ready = self._epoll.poll(-1 if timeout is None else timeout, max_events)
        return [event for fd, reported in ready for event in self._events(fd, reported)][:max_events]

    def _events(self, fd: int, reported: int) -> list[kevent]:
        """Return an event for each filter: a filter knows nothing of what the other one is for."""
        return [
            kevent(fd, number, KQ_EV_EOF if reported & _EOF[number] else 0)
            for number, mask in _MASKS.items()
            if self._masks[fd] & mask and reported & (mask | _ENDS)
        ]

    def _apply(self, change: kevent) -> None:
        os.fstat(change.ident)  # EBADF
        before = self._known(change.ident)
        mask = _MASKS[change.filter]
        if change.flags & KQ_EV_DELETE:
            if not before & mask:
                raise FileNotFoundError(errno.ENOENT, "that filter is not there")
            after = before & ~mask
        else:
            after = before | mask  # a second time is no mistake
        self._register(change.ident, before, after)

    def _known(self, fd: int) -> int:
        """Return what a descriptor is watched for: nothing if it was closed since, and given out again."""
        try:
            self._epoll.modify(fd, self._masks.get(fd, 0))
        except FileNotFoundError:
            return 0
        return self._masks[fd]

    def _register(self, fd: int, before: int, after: int) -> None:
        self._masks[fd] = after
        if not after:
            self._epoll.unregister(fd)
        elif before:
            self._epoll.modify(fd, after)
        else:
            self._epoll.register(fd, after)
