# SPDX-License-Identifier: MIT
"""The poll set of a worker: which connection is served next, and when the worker has drained.

One thread waits for everything: listeners, parked connections and the stop descriptor. A connection is
accepted only when that thread has nothing else to do, so a busy worker never takes one from an idle
sibling. Knows nothing of HTTP; `wsgi.serve` says what each connection waits for.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from prefork.http import Limits
from prefork.net.poller import READ, WRITE, Poller
from prefork.worker import StopReason
from prefork.wsgi.connection import AWAITS_FIRST_BYTE, Connection
from prefork.wsgi.environ import Peer, base_environ
from prefork.wsgi.errors import ErrorStream
from prefork.wsgi.serve import WANTS_CLOSE, WANTS_READ, WANTS_TURN

if TYPE_CHECKING:
    import socket

    from prefork.workers.context import WorkerContext
    from prefork.wsgi.serve import Service, Wants

QUEUE_GRACE: Final = 0.1
"""Seconds without a new connection after which a queue that no longer grows counts as dry: a handshake
that was half done when it stopped growing is over by then."""

FRESH_GRACE: Final = 1.0
"""Seconds that a client has, when the worker stops, to send the first byte on a new connection."""

_SWEEP: Final = 0.25
"""Least seconds between two looks at all deadlines."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE: Final = 0.5
"""Seconds without accepting after the system had no descriptor or memory left."""

_LOOK: Final = 1.0
"""Seconds after which an idle worker looks at the queues unasked. The kernel wakes one worker for a new
connection; if just that one is killed before it accepts, nobody else is told."""

_IN_A_ROW: Final = 0.005
"""Seconds for which connections that are served and closed one after the other are accepted without asking
what else there is. Saves a wait for each; orders and other connections are not kept waiting for long."""

_QUIET_GRACE: Final = 1.0
"""Seconds in which a listener that is to be drained may still be one that grows: who sends TERM to all
processes at once may reach the worker before the arbiter. After that it is left to those who stay."""

_ATTENTION: Final = 0.25
"""Seconds between two looks for a second, stricter order while the worker stops."""

_LOCAL: Final = Peer("", "")


class Accepting(Enum):
    """Whether the worker takes new connections."""

    YES = "yes"
    PAUSED = "paused"
    """It has as many as it may, or the system has no descriptors left."""
    DRAINING = "draining"
    """What is queued is taken, then the listeners are closed."""
    NO = "no"


# Names for the hot path, see `prefork.http.states`.
_YES: Final = Accepting.YES
_PAUSED: Final = Accepting.PAUSED
_DRAINING: Final = Accepting.DRAINING
_NO: Final = Accepting.NO
_QUICK: Final = StopReason.QUICK


class Loop:
    """The poll set of a worker with one thread.

    Args:
        ctx: the worker's context.
        service: serves each connection.
    """

    def __init__(self, ctx: WorkerContext, service: Service) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._service = service
        self._poller = Poller()
        self._limits = Limits(
            settings.limit_request_line, settings.limit_request_fields, settings.limit_request_field_size
        )
        self._listeners = {listener.sock.fileno(): listener for listener in ctx.shared}
        errors = ErrorStream(ctx.log)
        self._bases = {fd: self._base(listener.sock, errors) for fd, listener in self._listeners.items()}
        self._parked: dict[int, Connection] = {}
        self._turns: deque[Connection] = deque()
        self._accepting: Accepting = _NO
        self._resume_at = inf
        self._sweep_at = inf
        self._unquiet_until = inf
        self._stop_fd = ctx.stop_fd
        self._open = 0
        self._reason: StopReason | None = None
        self._current: Connection | None = None

    def _base(self, sock: socket.socket, errors: ErrorStream) -> dict[str, Any]:
        return base_environ(
            sock.getsockname()[:2] if sock.family.name != "AF_UNIX" else None,
            script_name=os.environ.get("SCRIPT_NAME", ""),
            errors=errors,
            multithread=False,
            multiprocess=self._ctx.settings.workers != 1,
        )

    def run(self) -> None:
        """Serve until the worker is told to stop, and then until it has drained."""
        self._poller.watch(self._stop_fd, READ)
        self._accept_from_now_on()
        self._ctx.ready()
        while not self._turn():
            pass
        self._close_all()

    def aborted(self) -> None:
        """Leave an access line for the request in hand: the worker is about to be killed."""
        if self._current is not None:
            self._service.killed(self._current)

    # One turn

    def _turn(self) -> bool:
        """Wait for something, serve it; return whether the worker is done."""
        before = self._accepting
        events = self._poller.wait(self._patience())
        if self._reason is None:
            # An order comes before what else there is, because it changes how that is served.
            for fd, _ in events:
                if fd == self._stop_fd:
                    self._obey()
        if self._reason is _QUICK:
            return True
        taken = 0
        for fd, _ in events:
            conn = self._parked.pop(fd, None)
            if conn is not None:
                self._serve(conn, self._service.writable if conn.watched == WRITE else self._service.readable)
            elif fd in self._listeners:
                taken += self._accept_in_a_row(fd)
        for _ in range(len(self._turns)):
            self._serve(self._turns.popleft(), self._service.proceed)
        if not events:
            taken = sum(map(self._accept_in_a_row, list(self._listeners)))
        self._look_at_the_clock()
        if self._reason is not None:
            self._reason = self._ctx.stopping
            if self._accepting is _DRAINING is before:
                self._leave_listeners(dry=not events and not taken)
        self._ctx.slot.idle = len(self._parked)
        return self._done()

    def _look_at_the_clock(self) -> None:
        now = monotonic()
        if now >= self._sweep_at:
            self._sweep(now)
        if now >= self._resume_at:
            self._accept_from_now_on()

    def _patience(self) -> float:
        """Return how long there is nothing to do unless something arrives, in seconds."""
        if self._turns:
            return 0.0
        if self._accepting is _DRAINING:
            return QUEUE_GRACE
        longest = _LOOK if self._reason is None else min(_ATTENTION, self._ctx.time_left())
        until = min(self._sweep_at, self._resume_at)
        return longest if until == inf else max(min(until - monotonic(), longest), 0.0)

    def _serve(self, conn: Connection, event: Any) -> Wants:
        self._current = conn
        wants: Wants = event(conn)
        self._current = None
        self._place(conn, wants)
        return wants

    def _place(self, conn: Connection, wants: Wants) -> None:
        """Do with a connection what it wants."""
        if wants is WANTS_CLOSE:
            self._close(conn)
            return
        if wants is WANTS_TURN:
            self._turns.append(conn)
            return
        events = READ if wants is WANTS_READ else WRITE
        if not conn.watched:
            self._poller.watch(conn.stream.fd, events)
        elif conn.watched != events:
            self._poller.change(conn.stream.fd, events)
        conn.watched = events
        self._parked[conn.stream.fd] = conn
        if conn.deadline < self._sweep_at:  # noqa: PLR1730 (min() costs more, and this is done for every request)
            self._sweep_at = conn.deadline

    def _close(self, conn: Connection) -> None:
        if conn.watched:
            # Closing would be enough, unless the application has forked and its child holds a copy.
            self._poller.forget(conn.stream.fd)
        conn.stream.close()
        self._open -= 1
        if self._accepting is _PAUSED and self._resume_at == inf:
            self._accept_from_now_on()

    def _sweep(self, now: float) -> None:
        """End the waits whose deadline has passed."""
        late = [conn for conn in self._parked.values() if conn.deadline <= now]
        for conn in late:
            # The worker may have been busy. Whoever has sent, or taken, in the meantime is not late.
            del self._parked[conn.stream.fd]
            self._serve(conn, self._service.writable if conn.watched == WRITE else self._service.readable)
            if conn.deadline <= now and self._parked.pop(conn.stream.fd, None) is not None:
                self._serve(conn, self._service.expired)
        earliest = min((conn.deadline for conn in self._parked.values()), default=inf)
        self._sweep_at = max(earliest, now + _SWEEP)

    # Accepting

    def _accept_from_now_on(self) -> None:
        self._resume_at = inf
        self._accepting = _YES if self._reason is None else _DRAINING
        for fd in self._listeners:
            self._poller.share(fd)

    def _stop_accepting(self, state: Accepting) -> None:
        """Stop; `PAUSED` keeps the listeners for later, `NO` closes this process's copies."""
        for fd, listener in self._listeners.items():
            if self._accepting in {_YES, _DRAINING}:
                self._poller.forget(fd)
            if state is _NO:
                listener.sock.close()
        if state is _NO:
            self._listeners.clear()
            self._resume_at = inf
        self._accepting = state

    def _accept_in_a_row(self, fd: int) -> int:
        """Accept while there are connections and each is done with at once; return how many there were.

        A connection that is parked ends the row: a sibling may have nothing to do.
        """
        until = monotonic() + _IN_A_ROW
        count = 0
        while (wants := self._accept(fd)) is not None:
            count += 1
            if wants is not WANTS_CLOSE or monotonic() > until:
                break
        return count

    def _accept(self, fd: int) -> Wants | None:
        """Accept one connection and begin to serve it; return what it wants, None if there was none."""
        if self._accepting is not _YES and self._accepting is not _DRAINING:
            return None
        try:
            connected, address = self._listeners[fd].accept()
        except OSError as error:
            # EAGAIN: a sibling was quicker. ECONNABORTED and the like: the client was.
            if error.errno in _EXHAUSTED:
                self._exhausted(error)
            elif self._listeners[fd].is_shut:
                self._leave(fd)  # it would stay readable for ever
            return None
        self._open += 1
        peer = Peer(address[0], str(address[1])) if isinstance(address, tuple) else _LOCAL
        conn = Connection(connected, peer, self._bases[fd], self._limits, self._service)
        wants = self._serve(conn, self._service.opened)
        if self._reason is not None and conn.waits is AWAITS_FIRST_BYTE:
            conn.deadline = min(conn.deadline, monotonic() + FRESH_GRACE)
            self._sweep_at = min(self._sweep_at, conn.deadline)
        if self._open >= self._ctx.settings.worker_connections and self._accepting is _YES:
            self._stop_accepting(_PAUSED)
        return wants

    def _exhausted(self, error: OSError) -> None:
        """The system has no descriptor or memory left: let connections wait in the queue for a while."""
        self._ctx.log.error("cannot accept: %s; trying again in %s s", error.strerror, _PAUSE)
        self._stop_accepting(_PAUSED)
        self._resume_at = monotonic() + _PAUSE

    # Stopping

    def _obey(self) -> None:
        """Begin the stop that was ordered."""
        self._reason = self._ctx.stopping
        if self._reason is None:
            return
        # End of file would stay readable for ever. A stricter order is looked for in each turn.
        self._poller.forget(self._stop_fd)
        if self._reason is _QUICK:
            return
        self._service.stop_keeping()
        if self._reason is not StopReason.DRAIN:
            self._stop_accepting(_NO)
        else:
            if self._accepting is _PAUSED:
                self._accept_from_now_on()
            self._accepting = _DRAINING
            self._unquiet_until = monotonic() + _QUIET_GRACE
        for conn in [conn for conn in self._parked.values() if conn.waits is AWAITS_FIRST_BYTE]:
            del self._parked[conn.stream.fd]
            self._dismiss(conn)

    def _leave_listeners(self, *, dry: bool) -> None:
        """Close, while draining, the listeners of which nothing more is to be taken.

        A reload may remove one of several addresses. The others go on growing, for those who stay.
        """
        if not dry and monotonic() >= self._unquiet_until:
            for fd in [fd for fd, listener in self._listeners.items() if not listener.is_quiet]:
                self._leave(fd)
        if dry or not self._listeners:
            self._stop_accepting(_NO)

    def _leave(self, fd: int) -> None:
        """Close this process's copy of one listener."""
        self._poller.forget(fd)
        self._listeners.pop(fd).sock.close()

    def _dismiss(self, conn: Connection) -> None:
        """Close an idle connection, unless a request has arrived on it or may be on its way."""
        self._serve(conn, self._service.readable)
        if conn.waits is not AWAITS_FIRST_BYTE or self._parked.pop(conn.stream.fd, None) is None:
            return
        if conn.fresh:
            conn.deadline = min(conn.deadline, monotonic() + FRESH_GRACE)
            self._place(conn, WANTS_READ)
        else:
            self._close(conn)

    def _done(self) -> bool:
        if self._reason is None:
            return False
        if self._reason is _QUICK or not self._ctx.time_left():
            return True
        return self._accepting is _NO and not self._parked and not self._turns

    def _close_all(self) -> None:
        left = 0
        for conn in [*self._parked.values(), *self._turns]:
            left += self._service.dropped(conn)
            conn.stream.close()
        if left:
            self._ctx.log.warning("stopped with unfinished requests: %d", left)
        self._poller.close()
