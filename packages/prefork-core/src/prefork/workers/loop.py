# SPDX-License-Identifier: MIT
"""The poll set of a worker: which connection is served next, and when the worker has drained.

One at a time waits for everything: listeners, parked connections and the stop descriptor. It leads. A
connection is accepted only when it has nothing else to do, and, while others of the worker are in long
requests, only when no sibling has fewer of them. Knows nothing of HTTP; `wsgi.serve` says what each
connection waits for. Nor does it know how the application is called, and who leads in that time: `Calls`.

What only the one that leads may touch needs no lock. Whoever comes out of the application without the lead
puts its connection back under `lock`, because the one that leads may take the descriptor of a connection
that is somebody else's out of the poll set meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from prefork.net.poller import READ, WRITE, Poller
from prefork.net.tcpinfo import since_data
from prefork.workers.acceptor import DRAINING, LEFT, QUEUE_GRACE, Acceptor
from prefork.workers.arrivals import Arrivals
from prefork.workers.ending import LAST_CALL, Ending
from prefork.wsgi.connection import AWAITS_FIRST_BYTE
from prefork.wsgi.serve import WANTS_CALL, WANTS_CLOSE, WANTS_NOTHING, WANTS_READ, WANTS_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.net.poller import Poll
    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Service, Wants

Leader = TypeVar("Leader")
Leader_contra = TypeVar("Leader_contra", contravariant=True)

_SWEEP: Final = 0.25
"""Least seconds between two looks at all deadlines."""

_LOOK: Final = 1.0
"""Seconds after which an idle worker looks at the queues unasked. The kernel wakes one worker for a new
connection; if just that one is killed before it accepts, nobody else is told."""

_IN_A_ROW: Final = 0.005
"""Seconds for which connections that are served and closed one after the other are accepted without asking
what else there is. Saves a wait for each; orders and other connections are not kept waiting for long."""

_ATTENTION: Final = 0.25
"""Seconds between two looks for a second, stricter order while the worker stops."""

_ROOM: Final = 16
"""The part of all connections, one of so many, that is closed at once at the limit, while they are idle."""

_BALANCE: Final = 0.01
"""Seconds between two looks at siblings while new connections are left to them."""


class Lost(Enum):
    """What the one that leads has lost by a turn."""

    NOTHING = "nothing"
    LEAD = "the lead"
    """Another one leads now."""
    ALL = "all"
    """The worker has drained."""


class Calls(Protocol[Leader_contra]):
    """How the application is called."""

    def call(self, conn: Connection, leader: Leader_contra) -> bool:
        """Have the request of a connection answered, and the connection placed, now or later.

        Args:
            conn: the connection, which wants `CALL`.
            leader: who leads.

        Returns:
            Whether that one leads still.
        """

    def in_hand(self) -> Iterable[Connection]:
        """Return the connections whose requests are with the application."""


class Loop(Generic[Leader]):
    """The poll set of a worker.

    Args:
        ctx: the worker's context.
        service: serves each connection.
        calls: calls the application.
        concurrent: whether it may be called while another call of it goes on.
        later: whether it answers in later turns, so that nothing is known of a connection in the one that
            accepts it.
        poller: the set; None for one in which the calling thread waits.

    Attributes:
        acceptor: the listeners.
        turns: connections whose next request is here already, but which wait until others were served.
        lock: held by who places a connection without the lead.
        stopping: whether the worker stops.
        close_all: closes what is open, when all is over.
    """

    def __init__(
        self,
        ctx: WorkerContext,
        service: Service,
        calls: Calls[Leader],
        *,
        concurrent: bool,
        later: bool = False,
        poller: Poll | None = None,
    ) -> None:
        self._ctx = ctx
        self._service = service
        self._calls = calls
        self._call = calls.call  # bound once, not for each request
        self._poller = poller or Poller()
        self.acceptor = Acceptor(ctx, self._poller)
        self._arrivals = Arrivals(ctx, service, concurrent=concurrent)
        self._later = later
        self._queue_timeout = service.queue_timeout
        self.lock = threading.Lock()
        self._parked: dict[int, Connection] = {}
        self.turns: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._ending = Ending(
            ctx, self.acceptor, self._poller, self._open, wind_down=service.wind_down, drop=service.dropped
        )
        self.close_all = self._ending.close_all
        self.stopping = False
        self._sweep_at = 0.0
        self._stop_fd = ctx.stop_fd
        self._poller.watch(self._stop_fd, READ)  # an event loop may turn before it begins

    def begin(self) -> None:
        """Begin to accept connections, and tell the arbiter so; unless the worker was told to stop before."""
        if not self.stopping:
            self.acceptor.take()
            self._ctx.ready()

    # One turn

    def turn(self, leader: Leader) -> Lost:
        """Wait for something and serve it."""
        return self.handle(self._poller.wait(self.patience()), leader)

    def wait(self) -> list[tuple[int, int]]:
        """Wait until something is ready or due; return what is ready."""
        return self._poller.wait(self.patience())

    def wait_for_all(self) -> list[tuple[int, int]]:
        """Do so as one that must not call the application, and for a little while only."""
        return self._poller.wait(min(self.patience(for_all=True), _ATTENTION))

    def handle(self, events: list[tuple[int, int]], leader: Leader | None) -> Lost:
        """Serve what is ready.

        Args:
            events: what it is.
            leader: who leads; None for one that must not call the application.
        """
        before = self.acceptor.state
        if not self.stopping:
            # An order comes before what else there is, because it changes how that is served.
            told = self._ctx.is_told  # then the worker class has looked before us
            for fd, _ in events:
                told = told or fd == self._stop_fd
            if told and self._obey():
                return Lost.ALL
        taken = self._serve_ready(events, leader)
        if taken >= 0 and leader is not None and (self.turns or not events):
            more = self._serve_waiting(leader, look=not events)
            taken = taken + more if more >= 0 else -1
        if taken < 0 or not self._look_at_the_clock(leader):
            return Lost.LEAD
        slot = self._ctx.slot
        slot.idle = len(self._parked)
        slot.connections = len(self._open)
        if not self.stopping:
            return Lost.NOTHING
        if self.acceptor.state is DRAINING is before and leader is not None:
            self.acceptor.leave_drained(empty=not events and not taken)
        return Lost.ALL if self._ending.is_over() else Lost.NOTHING

    def _obey(self) -> bool:
        """Begin the stop that was ordered; return whether all is over with that."""
        self.stopping = self._ending.begin()
        self._sweep_at = 0.0  # clients that are idle are hastened there
        return self.stopping and self._ending.is_over()

    def _serve_ready(self, events: list[tuple[int, int]], leader: Leader | None) -> int:
        """Serve what the poll set has reported; return how many connections are new, -1 for the lead lost.

        What is not served when the lead is lost is ready still, for the next one to find.
        """
        taken = 0
        parked = self._parked
        readable = self._service.readable
        for fd, _ in events:
            conn = parked.pop(fd, None)
            if conn is not None:
                # As `serve`, which would be one call more for each request.
                wants = readable(conn) if conn.watched == READ else self._service.writable(conn)
                if wants is WANTS_CALL and leader is not None:
                    if not self._call(conn, leader):
                        return -1
                else:
                    self.place(conn, wants)
            elif fd in self.acceptor.fds:
                accepted = self.accept_in_a_row(fd, leader) if leader is not None else 0
                if accepted < 0:
                    return -1
                taken += accepted
            elif fd != self._stop_fd:
                self._mute(fd)
        return taken

    def _serve_waiting(self, leader: Leader, *, look: bool) -> int:
        """Serve the connections that have their turn; return as `_serve_ready`.

        Args:
            leader: who leads.
            look: whether to look for new connections too, unasked.
        """
        for _ in range(len(self.turns)):
            conn = self.next_turn()
            if conn is not None and not self.serve(conn, self._service.proceed, leader):
                return -1
        taken = 0
        for fd in list(self.acceptor.fds) if look else ():
            accepted = self.accept_in_a_row(fd, leader)
            if accepted < 0:
                return -1
            taken += accepted
        return taken

    def _look_at_the_clock(self, leader: Leader | None) -> bool:
        """Do what is due; return False when the lead was lost over it."""
        now = monotonic()
        if now >= self._sweep_at and not self._sweep(now, leader):
            return False
        if now >= self.acceptor.resume_at:
            self.acceptor.take()
        if self.acceptor.state is LEFT and leader is not None:
            self.acceptor.balance()
        return True

    def patience(self, *, for_all: bool = False) -> float:
        """Return how long there is nothing to do unless something arrives, in seconds.

        Args:
            for_all: whether it is the thread that asks which must not call the application.
        """
        if self.turns and not for_all:
            return 0.0
        if self.acceptor.state is DRAINING:
            return QUEUE_GRACE
        if self.acceptor.state is LEFT and not for_all:
            return _BALANCE
        longest = min(_ATTENTION, self._ctx.time_left()) if self.stopping else _LOOK
        until = min(self._sweep_at, self.acceptor.resume_at)
        if self._queue_timeout != inf:
            until = min(until, self._next_late())
        return longest if until == inf else max(min(until - monotonic(), longest), 0.0)

    def serve(self, conn: Connection, event: Any, leader: Leader | None) -> bool:
        """Do what is to be done with a connection; return whether the one that leads still does.

        Args:
            conn: the connection, which is not parked.
            event: the method of the service that says what it wants next.
            leader: who leads; None for one that must not call the application.
        """
        wants: Wants = event(conn)
        if wants is WANTS_CALL and leader is not None:
            return self._call(conn, leader)
        self.place(conn, wants)
        return True

    def place(self, conn: Connection, wants: Wants) -> None:
        """Do with a connection what it wants."""
        if wants is WANTS_READ:  # asked first: nearly all want that
            events = READ
        elif wants is WANTS_WRITE:
            events = WRITE
        elif wants is WANTS_CLOSE:
            self._close(conn)
            return
        elif wants is WANTS_NOTHING:
            self._unwatch(conn)
            return
        else:
            conn.turn_since = monotonic()
            self.turns.append(conn)
            return
        if conn.watched != events:
            watched, conn.watched = conn.watched, events
            (self._poller.change if watched else self._poller.watch)(conn.stream.fd, events)
        if conn.deadline < self._sweep_at:  # noqa: PLR1730 (min() costs more, and this is done for every request)
            self._sweep_at = conn.deadline
        # Last: from now on it is the leading thread's, which may close it. What is reported of it before is
        # muted, which waits for `_lock`.
        self._parked[conn.stream.fd] = conn

    def unpark(self, conn: Connection) -> None:
        """Wait for nothing on a connection until it is placed again."""
        self._parked.pop(conn.stream.fd, None)

    def _unwatch(self, conn: Connection) -> None:
        if conn.watched:
            self._poller.forget(conn.stream.fd)
            conn.watched = 0

    def _close(self, conn: Connection) -> None:
        # Closing would be enough, unless the application has forked and its child holds a copy.
        self._unwatch(conn)
        conn.stream.close()
        self._open.discard(conn)
        self.acceptor.closed()

    def _sweep(self, now: float, leader: Leader | None) -> bool:
        """End the waits whose deadline has passed; return False when the lead was lost over it."""
        if self.stopping:
            for conn in list(self._parked.values()):
                conn.hasten(LAST_CALL)
        if not self._end_waits(now, leader):
            return False
        if self.acceptor.is_full and self.acceptor.has_queue():
            self._hasten_idle(now)
            if not self._end_waits(now, leader):
                return False
        self._service.sample()
        if self._later:
            self.acceptor.look_around()
        if self._ctx.slot.is_parting:
            self._service.stop_keeping()
        self._ctx.slot.backlog = self.acceptor.waiting()
        earliest = min((conn.deadline for conn in list(self._parked.values())), default=inf)
        # A thread without the lead may just have put a connection back, with a deadline not seen here.
        self._sweep_at = min(max(earliest, now + _SWEEP), now + _LOOK)
        return True

    def _end_waits(self, now: float, leader: Leader | None) -> bool:
        late = [conn for conn in list(self._parked.values()) if conn.deadline <= now]
        for conn in late:
            # The worker may have been busy. Whoever has sent, or taken, in the meantime is not late.
            if self._parked.pop(conn.stream.fd, None) is None:
                continue  # answered over another one that was late
            event = self._service.writable if conn.watched == WRITE else self._service.readable
            if not self.serve(conn, event, leader):
                return False
            if conn.deadline <= now and self._parked.pop(conn.stream.fd, None) is not None:
                self.serve(conn, self._service.expired, leader)
        return True

    def _hasten_idle(self, now: float) -> None:
        """Have connections closed that have been idle for longest: new ones wait at the limit."""
        idle = [conn for conn in list(self._parked.values()) if conn.waits is AWAITS_FIRST_BYTE]
        for conn in idle[: max(len(self._open) // _ROOM, 1)]:
            if conn.fresh:
                conn.hasten(LAST_CALL)
            else:
                conn.deadline = now

    def next_turn(self) -> Connection | None:
        """Take the connection whose turn it is off the queue, None if there is none. Any thread may."""
        try:
            return self.turns.popleft()
        except IndexError:
            return None

    def _mute(self, fd: int) -> None:
        """Take a connection out of the set whose request is with the application, or waits for its turn.

        It would be reported again and again. Whoever has it puts it back.
        """
        with self.lock:
            if fd in self._parked:
                return
            for conn in (*self._calls.in_hand(), *self.turns.copy()):
                if conn.stream.fd == fd and conn.watched:
                    self._poller.forget(fd)
                    conn.watched = 0

    # New connections

    def accept_in_a_row(self, fd: int, leader: Leader) -> int:
        """Accept while there are connections and each is done with at once.

        A connection that stays ends the row: a sibling may have nothing to do. Where all stay, several may.

        Returns:
            How many there were; -1 when the lead was lost over the last one.
        """
        until = monotonic() + _IN_A_ROW
        most = self.acceptor.at_once(len(self._open)) if self._later else 1
        count = stay = 0
        while stay < most and (conn := self._accept(fd)) is not None:
            count += 1
            if not self.serve(conn, self._service.opened, leader):
                return -1
            stay += conn in self._open
            if monotonic() > until:
                break
        if stay:
            self.acceptor.step_back()
        return count

    def _accept(self, fd: int, *, although_left: bool = False) -> Connection | None:
        """Accept one connection; return None if there was none."""
        accepted = self.acceptor.accept(fd, although_left=although_left)
        if accepted is None:
            return None
        conn = self._arrivals.connection(fd, *accepted)
        self._open.add(conn)
        self.acceptor.opened(len(self._open))
        return conn

    # Requests that wait for too long

    def _next_late(self) -> float:
        """Return when the next request in `_turns` will have waited too long, in monotonic seconds."""
        try:
            return self.turns[0].turn_since + self._queue_timeout
        except IndexError:
            return inf

    def turn_away_late(self, since: float) -> None:
        """Answer, without the application, the requests that have waited too long for a call of it.

        Args:
            since: when there was nobody left to call it, in monotonic seconds.
        """
        if self._queue_timeout == inf:
            return
        while (conn := self.next_turn()) is not None:
            wants = self._service.waited(conn)
            if wants is WANTS_CALL:
                self.turns.appendleft(conn)  # those behind it have not waited longer
                return
            self.place(conn, wants)
        if monotonic() >= since + self._queue_timeout:
            for fd in list(self.acceptor.fds):
                self._turn_away_queued(fd)

    def _turn_away_queued(self, fd: int) -> None:
        """Do so with what waits in the queue of a listener, up to the first that may wait on.

        Nobody can see how long a connection has waited there without accepting it. So this one is kept, and
        the next only looked at when it has waited too long.
        """
        while (conn := self._accept(fd, although_left=True)) is not None:
            wants = self._service.opened(conn)
            if wants is WANTS_CALL:
                conn.turn_since = monotonic() - (since_data(conn.stream.sock) or 0.0)
                wants = self._service.waited(conn)
            if wants is WANTS_CALL:
                self.turns.append(conn)
                return
            self.place(conn, wants)
