# SPDX-License-Identifier: MIT
"""Whether a worker takes new connections from the shared listeners, now, later or never again.

Decides: not more connections than allowed, none while the system has no descriptors left, none while a
sibling is less busy, and, when the worker stops, how long the listeners are still looked after. Knows
nothing of what becomes of a connection, nor how the worker waits.
"""

from __future__ import annotations

import errno
import select
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefork.net.listener import PlainSocket
from prefork.net.tcpinfo import waiting_connections

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from prefork.net.listener import Listener
    from prefork.process.scoreboard import Slot
    from prefork.workers.context import WorkerContext

_poll: Final = select.poll
"""Looked up before a library of greenlets takes it out of the module."""

QUEUE_GRACE: Final = 0.1
"""Seconds without a new connection after which a queue that no longer grows counts as dry: a handshake
that was half done when it stopped growing is over by then."""

_AT_ONCE: Final = 16
"""Connections that a worker takes in a row at most, before it looks at those that it has."""

_AHEAD: Final = 4
"""How many connections a worker may get ahead of the sibling with the fewest by taking several in a row."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE: Final = 0.5
"""Seconds without accepting after the system had no descriptor or memory left."""

_QUIET_GRACE: Final = 1.0
"""Seconds in which a listener that is to be drained may still be one that grows: who sends TERM to all
processes at once may reach the worker before the arbiter. After that it is left to those who stay."""


class Accepting(Enum):
    """Whether the worker takes new connections."""

    YES = "yes"
    PAUSED = "paused"
    """It has as many as it may, or the system has no descriptors left."""
    LEFT = "left to siblings"
    """More of its threads are in long requests than of a sibling's."""
    DRAINING = "draining"
    """What is queued is taken, then the listeners are closed."""
    NO = "no"


# Names for the hot path, see `prefork.http.states`.
YES: Final = Accepting.YES
PAUSED: Final = Accepting.PAUSED
LEFT: Final = Accepting.LEFT
DRAINING: Final = Accepting.DRAINING
NO: Final = Accepting.NO


class Watches(Protocol):
    """How the worker waits for the listeners; see `prefork.net.poller.Poller`."""

    def share(self, fd: int) -> None:
        """Begin to watch a descriptor that other processes watch too."""

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor."""


class Acceptor:
    """The listeners of a worker.

    Args:
        ctx: the worker's context.
        watches: where the listeners are watched while connections are taken.
        make: the class of connections.

    Attributes:
        fds: the descriptors of the listeners that are open now.
        state: whether connections are taken.
        resume_at: when that is to be tried again after a pause, in monotonic seconds; infinity for never.
    """

    def __init__(
        self,
        ctx: WorkerContext,
        watches: Watches,
        make: Callable[..., socket.SocketType] = PlainSocket,
    ) -> None:
        self._ctx = ctx
        self._watches = watches
        self._make = make
        self._siblings: list[Slot] = []
        self._listeners: dict[int, Listener] = {listener.sock.fileno(): listener for listener in ctx.shared}
        self.fds: Collection[int] = self._listeners.keys()
        self._most = ctx.settings.worker_connections
        self._taking = YES  # the state to come back to: YES or DRAINING
        self._unquiet_until = inf
        self._dry_at = inf
        self.state: Accepting = NO
        self.resume_at = inf

    def take(self) -> None:
        """Take connections from now on."""
        self.resume_at = inf
        if self.state is YES or self.state is DRAINING:
            return  # a thread without the lead has seen the pause just when it ended
        self.state = self._taking
        for fd in self._listeners:
            self._watches.share(fd)

    def accept(self, fd: int, *, although_left: bool = False) -> tuple[socket.SocketType, Any] | None:
        """Accept one connection.

        Args:
            fd: of the listener.
            although_left: whether to take it also while new ones are left to siblings.

        Returns:
            The connected socket and its peer's address, None if there is none, or none is to be taken.
        """
        if (
            self.state is not YES
            and self.state is not DRAINING
            and not (although_left and self.state is LEFT)
        ):
            return None
        listener = self._listeners[fd]
        try:
            return listener.accept(self._make)
        except OSError as error:
            # EAGAIN: a sibling was quicker. ECONNABORTED and the like: the client was.
            if error.errno in _EXHAUSTED:
                self._exhausted(error)
            elif listener.is_shut:
                self._leave(fd)  # it would stay readable for ever
            return None

    def _exhausted(self, error: OSError) -> None:
        """The system has no descriptor or memory left: let connections wait in the queue for a while."""
        self._ctx.log.error("cannot accept: %s; trying again in %s s", error.strerror, _PAUSE)
        self._rest(PAUSED)
        self.resume_at = monotonic() + _PAUSE

    def opened(self, count: int) -> None:
        """Note that there is one connection more.

        Args:
            count: how many are open now. Draining, the queue is taken whatever it holds.
        """
        if self.state is DRAINING:
            self._dry_at = monotonic() + QUEUE_GRACE
        elif count >= self._most and self.state is YES:
            self._rest(PAUSED)

    def closed(self) -> None:
        """Note that there is one connection less."""
        if self.state is PAUSED and self.resume_at == inf:
            self.resume_at = 0.0

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return self.state is PAUSED and self.resume_at == inf

    def has_queue(self) -> bool:
        """Return whether a connection waits to be accepted."""
        poll = _poll()
        for fd in self._listeners:
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))

    def waiting(self) -> int:
        """Return how many connections wait in the longest queue of a listener, as far as the kernel says."""
        return max((waiting_connections(each.sock) or 0 for each in self._listeners.values()), default=0)

    def balance(self) -> None:
        """Leave new connections to siblings while more threads of this worker are in long requests."""
        if self.state is not YES and self.state is not LEFT:
            return
        away = self._ctx.slot.away
        behind = away > 0 and any(sibling.away < away for sibling in self._ctx.siblings())
        if behind:
            self.leave_to_siblings()
        elif self.state is LEFT:
            self.take()

    def leave_to_siblings(self) -> None:
        """Take no more connections until `balance` finds that it is this worker's turn."""
        if self.state is YES:
            self._rest(LEFT)

    def look_around(self) -> None:
        """Look which siblings there are; to be called once in a while, for `at_once`."""
        self._siblings = self._ctx.siblings()

    def at_once(self, count: int) -> int:
        """Return how many connections may be taken in a row, before anything is known of what they want.

        At least one, since this worker was woken for it.

        Args:
            count: how many are open now.
        """
        if not self._siblings or self.state is DRAINING:
            return _AT_ONCE
        fewest = min(sibling.connections for sibling in self._siblings)
        return min(max(fewest + _AHEAD - count, 1), _AT_ONCE)

    def step_back(self) -> None:
        """Let siblings that are idle come first for the next connection; this one has got some that stay.

        The kernel wakes who has watched a listener for longest, so the same worker would get them all.
        """
        if self.state is YES:
            for fd in self._listeners:
                self._watches.forget(fd)
                self._watches.share(fd)

    def _rest(self, state: Accepting) -> None:
        """Keep the listeners for later."""
        if self.state is YES or self.state is DRAINING:
            for fd in self._listeners:
                self._watches.forget(fd)
        self.state = state

    # Stopping

    def drain(self) -> None:
        """Take what is queued, even if there are many connections or siblings are less busy."""
        self._taking = DRAINING
        now = monotonic()
        self._unquiet_until = now + _QUIET_GRACE
        self._dry_at = now + QUEUE_GRACE
        if self.state is YES:
            self.state = DRAINING
        elif self.state is not NO:
            self.take()

    def leave_drained(self, *, empty: bool) -> None:
        """Close, while draining, the listeners of which nothing more is to be taken.

        A reload may remove one of several addresses. The others go on growing, for those who stay.

        Args:
            empty: whether nothing is in any queue at this moment. That counts only if nothing has come for a
                while: who asks may not have waited, because it had something else to do.
        """
        now = monotonic()
        dry = empty and now >= self._dry_at
        if not dry and now >= self._unquiet_until:
            for fd in [fd for fd, listener in self._listeners.items() if not listener.is_quiet]:
                self._leave(fd)
        if dry or not self._listeners:
            self.end()

    def _leave(self, fd: int) -> None:
        """Close this process's copy of one listener."""
        self._watches.forget(fd)
        self._listeners.pop(fd).sock.close()

    def end(self) -> None:
        """Close this process's copies of all listeners."""
        self._rest(NO)
        for listener in self._listeners.values():
            listener.sock.close()
        self._listeners.clear()
        self.resume_at = inf
