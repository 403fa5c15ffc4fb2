# SPDX-License-Identifier: MIT
"""The poll set of a worker: which connection is served next, and when the worker has drained.

One thread at a time waits for everything: listeners, parked connections and the stop descriptor. It has
the lead (`workers.lead`). A connection is accepted only when that thread has nothing else to do, and, while
others of the worker are in long requests, only when no sibling has fewer of them. Knows nothing of HTTP;
`wsgi.serve` says what each connection waits for.

What only the one that leads may touch needs no lock. Whoever comes out of the application without the lead
puts its connection back under `_lock`, because the one that leads may take the descriptor of a connection
that is somebody else's out of the poll set meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from prefork.http import Limits
from prefork.net.poller import READ, WRITE, Poller
from prefork.net.tcpinfo import since_data
from prefork.worker import StopReason
from prefork.workers.acceptor import DRAINING, LEFT, NO, QUEUE_GRACE, Acceptor
from prefork.workers.lead import Lead
from prefork.wsgi.connection import AWAITS_FIRST_BYTE, Connection
from prefork.wsgi.environ import Peer, base_environ
from prefork.wsgi.errors import ErrorStream
from prefork.wsgi.serve import WANTS_CALL, WANTS_CLOSE, WANTS_READ, WANTS_TURN
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    import socket

    from prefork.workers.context import WorkerContext
    from prefork.wsgi.serve import Service, Wants

FRESH_GRACE: Final = 1.0
"""Seconds that a client has, when the worker stops, to send the first byte on a new connection."""

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

_LOCAL: Final = Peer("", "")


# A name for the hot path, see `prefork.http.states`.
_QUICK: Final = StopReason.QUICK


class Lost(Enum):
    """How a turn ended for the thread that began it."""

    NOTHING = "nothing"
    LEAD = "the lead"
    """Another thread leads now."""
    ALL = "all"
    """The worker has drained."""


class Loop:
    """The poll set of a worker.

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
        self._acceptor = Acceptor(ctx, self._poller)
        errors = ErrorStream(ctx.log)
        self._bases = {listener.sock.fileno(): self._base(listener.sock, errors) for listener in ctx.shared}
        aways = threading.Lock()
        self._watches = [
            Watch(ctx.slot.thread(number), settings.timeout, ctx.slot, aways)
            for number in range(settings.threads)
        ]
        self._queue_timeout = service.queue_timeout
        self._lead: Lead[Watch] = Lead(self._lost)
        self._crash: BaseException | None = None
        self._lock = threading.Lock()
        self._parked: dict[int, Connection] = {}
        self._turns: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._new_first = False
        self._sweep_at = 0.0
        self._stop_fd = ctx.stop_fd
        self._reason: StopReason | None = None

    def _base(self, sock: socket.socket, errors: ErrorStream) -> dict[str, Any]:
        return base_environ(
            sock.getsockname()[:2] if sock.family.name != "AF_UNIX" else None,
            script_name=os.environ.get("SCRIPT_NAME", ""),
            errors=errors,
            multithread=self._ctx.settings.threads > 1,
            multiprocess=self._ctx.settings.workers != 1 or self._ctx.settings.max_workers > 1,
        )

    def run(self) -> None:
        """Serve with this thread until the worker is told to stop, and then until it has drained."""
        self._begin()
        watch = self._watches[0]
        watch.belongs_here()
        while self._turn(watch) is not Lost.ALL:
            pass
        self._close_all()

    def run_threads(self) -> None:
        """Serve with threads until the worker is told to stop, and then until it has drained.

        This one, which must be the main thread, watches over the lead. It has it only while all others are in
        the application, and then reads and writes for them.
        """
        self._begin()
        for number, watch in enumerate(self._watches):
            # Not waited for at the end: what runs then has had its graceful_timeout.
            threading.Thread(target=self._live, args=(watch,), name=f"prefork-{number}", daemon=True).start()
        self._lead.offer()
        while self._lead.watch_over():
            self._lead_for_all()
        if self._crash is not None:
            raise self._crash
        self._close_all()

    def _begin(self) -> None:
        self._poller.watch(self._stop_fd, READ)
        self._acceptor.take()
        self._ctx.ready()

    def _live(self, watch: Watch) -> None:
        """The life of a thread that serves. One that dies ends the worker: it may have had the lead."""
        try:
            self._attend(watch)
        except BaseException as error:  # noqa: BLE001 (raised again by the main thread)
            self._crash = error
            self._lead.end()

    def _attend(self, watch: Watch) -> None:
        watch.belongs_here()
        own = threading.Lock()
        own.acquire()
        while True:
            self._lead.follow(own)
            self._acceptor.balance()
            lost = Lost.NOTHING
            while lost is Lost.NOTHING:
                lost = self._turn(watch)
            if lost is Lost.ALL:
                self._lead.end()
                return
            # One, then it is the others' turn: who has a connection open must not keep new ones out.
            conn = self._next_turn()
            if conn is not None:
                self._serve_late(conn, watch)

    def _lead_for_all(self) -> None:
        """Lead, as the main thread, until another thread does. The lead is on offer while this one waits."""
        if not self._lead.claim():
            return
        since = monotonic()
        while True:
            # Anew each time: a thread that led in between has taken the listeners back.
            self._acceptor.leave_to_siblings()
            if self._lead.offer_to_followers():
                return
            events = self._poller.wait(min(self._patience(for_all=True), _ATTENTION))
            if not self._lead.claim():
                return
            self._turn_away_late(since)
            if self._handle(events, None) is Lost.ALL:
                self._lead.end()
                return

    def _next_late(self) -> float:
        """Return when the next request in `_turns` will have waited too long, in monotonic seconds."""
        try:
            return self._turns[0].turn_since + self._queue_timeout
        except IndexError:
            return inf

    def _turn_away_late(self, since: float) -> None:
        """Answer, as the main thread, the requests that have waited too long for a thread.

        Args:
            since: when all threads were in the application, in monotonic seconds.
        """
        if self._queue_timeout == inf:
            return
        while (conn := self._next_turn()) is not None:
            wants = self._service.waited(conn)
            if wants is WANTS_CALL:
                self._turns.appendleft(conn)  # those behind it have not waited longer
                return
            self._place(conn, wants)
        if monotonic() >= since + self._queue_timeout:
            for fd in list(self._acceptor.fds):
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
                self._turns.append(conn)
                return
            self._place(conn, wants)

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for watch in self._watches:
            conn = watch.conn
            if conn is not None:
                self._service.killed(conn)

    # One turn

    def _turn(self, watch: Watch) -> Lost:
        """Wait for something and serve it, as the thread that leads."""
        if not self._lead.expects_long or self._reason is not None:
            return self._handle(self._poller.wait(self._patience()), watch)
        self._new_first = not self._new_first
        for fd in list(self._acceptor.fds) if self._new_first else ():
            if self._accept_in_a_row(fd, watch) < 0:
                return Lost.LEAD
        # The lead goes with the first that is served. Who is ready too is read now, and so keeps its place.
        lost = self._handle(self._poller.wait(self._patience()), None)
        conn = self._next_turn() if lost is Lost.NOTHING else None
        if conn is not None and not self._serve(conn, self._service.proceed, watch):
            return Lost.LEAD
        self._acceptor.balance()
        return lost

    def _handle(self, events: list[tuple[int, int]], watch: Watch | None) -> Lost:
        """Serve what is ready.

        Args:
            events: what it is.
            watch: of the thread that leads; None for one that must not call the application.
        """
        before = self._acceptor.state
        if self._reason is None:
            # An order comes before what else there is, because it changes how that is served.
            for fd, _ in events:
                if fd == self._stop_fd:
                    self._obey()
        if self._reason is _QUICK:
            return Lost.ALL
        taken = self._serve_ready(events, watch)
        if taken >= 0 and watch is not None:
            more = self._serve_waiting(watch, look=not events)
            taken = taken + more if more >= 0 else -1
        if taken < 0 or not self._look_at_the_clock(watch):
            return Lost.LEAD
        if self._reason is not None:
            self._reason = self._ctx.stopping
            if self._acceptor.state is DRAINING is before and watch is not None:
                self._acceptor.leave_drained(dry=not events and not taken)
        slot = self._ctx.slot
        slot.idle = len(self._parked)
        slot.connections = len(self._open)
        return Lost.ALL if self._done() else Lost.NOTHING

    def _serve_ready(self, events: list[tuple[int, int]], watch: Watch | None) -> int:
        """Serve what the poll set has reported; return how many connections are new, -1 for the lead lost.

        What is not served when the lead is lost is ready still, for the next one to find.
        """
        taken = 0
        parked = self._parked
        readable, writable = self._service.readable, self._service.writable
        for fd, _ in events:
            conn = parked.pop(fd, None)
            if conn is not None:
                if not self._serve(conn, writable if conn.watched == WRITE else readable, watch):
                    return -1
            elif fd in self._acceptor.fds:
                accepted = self._accept_in_a_row(fd, watch) if watch is not None else 0
                if accepted < 0:
                    return -1
                taken += accepted
            elif fd != self._stop_fd:
                self._mute(fd)
        return taken

    def _serve_waiting(self, watch: Watch, *, look: bool) -> int:
        """Serve the connections that have their turn; return as `_serve_ready`.

        Args:
            watch: of the thread that leads.
            look: whether to look for new connections too, unasked.
        """
        for _ in range(len(self._turns)):
            conn = self._next_turn()
            if conn is not None and not self._serve(conn, self._service.proceed, watch):
                return -1
        taken = 0
        for fd in list(self._acceptor.fds) if look else ():
            accepted = self._accept_in_a_row(fd, watch)
            if accepted < 0:
                return -1
            taken += accepted
        return taken

    def _look_at_the_clock(self, watch: Watch | None) -> bool:
        """Do what is due; return False when the lead was lost over it."""
        now = monotonic()
        if now >= self._sweep_at and not self._sweep(now, watch):
            return False
        if now >= self._acceptor.resume_at:
            self._acceptor.take()
        if self._acceptor.state is LEFT and watch is not None:
            self._acceptor.balance()
        return True

    def _patience(self, *, for_all: bool = False) -> float:
        """Return how long there is nothing to do unless something arrives, in seconds.

        Args:
            for_all: whether it is the thread that asks which must not call the application.
        """
        if self._turns and not for_all:
            return 0.0
        if self._acceptor.state is DRAINING:
            return QUEUE_GRACE
        if self._acceptor.state is LEFT and not for_all:
            return _BALANCE
        longest = _LOOK if self._reason is None else min(_ATTENTION, self._ctx.time_left())
        until = min(self._sweep_at, self._acceptor.resume_at)
        if self._queue_timeout != inf:
            until = min(until, self._next_late())
        return longest if until == inf else max(min(until - monotonic(), longest), 0.0)

    def _serve(self, conn: Connection, event: Any, watch: Watch | None) -> bool:
        """Do what is to be done with a connection, as the thread that leads; return whether it still does."""
        wants: Wants = event(conn)
        if wants is not WANTS_CALL:
            self._place(conn, wants)
            return True
        if watch is None:
            self._place(conn, wants)
            return True
        lead = self._lead
        if lead.expects_long:
            watch.conn = conn
            watch.away()  # before another leads, who may accept
            lead.give_away()
            self._answer_late(conn, watch)
            return False
        watch.conn = conn
        lead.lend(watch)
        wants = self._service.respond(conn, watch)
        if lead.take_back():
            watch.conn = None
            self._place(conn, wants)
            return True
        self._place_late(conn, wants, watch)
        return False

    def _place(self, conn: Connection, wants: Wants) -> None:
        """Do with a connection what it wants."""
        if wants is WANTS_CLOSE:
            self._close(conn)
            return
        if wants is WANTS_TURN or wants is WANTS_CALL:
            conn.turn_since = monotonic()
            self._turns.append(conn)
            return
        events = READ if wants is WANTS_READ else WRITE
        if conn.watched != events:
            watched, conn.watched = conn.watched, events
            (self._poller.change if watched else self._poller.watch)(conn.stream.fd, events)
        if conn.deadline < self._sweep_at:  # noqa: PLR1730 (min() costs more, and this is done for every request)
            self._sweep_at = conn.deadline
        # Last: from now on it is the leading thread's, which may close it. What is reported of it before is
        # muted, which waits for `_lock`.
        self._parked[conn.stream.fd] = conn

    def _close(self, conn: Connection) -> None:
        if conn.watched:
            # Closing would be enough, unless the application has forked and its child holds a copy.
            self._poller.forget(conn.stream.fd)
        conn.stream.close()
        self._open.discard(conn)
        self._acceptor.closed()

    def _sweep(self, now: float, watch: Watch | None) -> bool:
        """End the waits whose deadline has passed; return False when the lead was lost over it."""
        late = [conn for conn in list(self._parked.values()) if conn.deadline <= now]
        for conn in late:
            # The worker may have been busy. Whoever has sent, or taken, in the meantime is not late.
            del self._parked[conn.stream.fd]
            event = self._service.writable if conn.watched == WRITE else self._service.readable
            if not self._serve(conn, event, watch):
                return False
            if conn.deadline <= now and self._parked.pop(conn.stream.fd, None) is not None:
                self._serve(conn, self._service.expired, watch)
        if self._acceptor.is_full and self._acceptor.has_queue():
            self._make_room()
        self._service.sample()
        if self._ctx.slot.is_parting:
            self._service.stop_keeping()
        self._ctx.slot.backlog = self._acceptor.waiting()
        earliest = min((conn.deadline for conn in list(self._parked.values())), default=inf)
        # A thread without the lead may just have put a connection back, with a deadline not seen here.
        self._sweep_at = min(max(earliest, now + _SWEEP), now + _LOOK)
        return True

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest, for new ones that wait at the limit."""
        idle = [conn for conn in list(self._parked.values()) if conn.waits is AWAITS_FIRST_BYTE]
        for conn in idle[: max(len(self._open) // _ROOM, 1)]:
            if self._parked.pop(conn.stream.fd, None) is not None:
                self._dismiss(conn)

    # Without the lead

    def _next_turn(self) -> Connection | None:
        try:
            return self._turns.popleft()
        except IndexError:
            return None

    def _serve_late(self, conn: Connection, watch: Watch) -> None:
        """Serve a connection whose turn it is, as a thread that does not lead."""
        watch.conn = conn
        wants = self._service.proceed(conn)
        if wants is WANTS_CALL:
            self._answer_late(conn, watch)
        else:
            self._place_late(conn, wants, watch)

    def _answer_late(self, conn: Connection, watch: Watch) -> None:
        watch.away()
        began = monotonic()
        wants = self._service.respond(conn, watch)
        self._lead.note_length(began)
        self._place_late(conn, wants, watch)

    def _lost(self, watch: Watch) -> None:
        """Note, as the main thread, that a thread has lost the lead to a long request."""
        with self._lock:
            if watch.conn is not None:  # else the request is over just now
                watch.away()

    def _place_late(self, conn: Connection, wants: Wants, watch: Watch) -> None:
        with self._lock:
            watch.conn = None
            watch.back()
            self._place(conn, wants)

    def _mute(self, fd: int) -> None:
        """Take the descriptor of a connection that another thread has, or that has its turn, out of the set.

        It would be reported again and again. Whoever has it puts it back.
        """
        with self._lock:
            if fd in self._parked:
                return
            theirs = [watch.conn for watch in self._watches if watch.conn is not None]
            for conn in (*theirs, *self._turns.copy()):
                if conn.stream.fd == fd and conn.watched:
                    self._poller.forget(fd)
                    conn.watched = 0

    # New connections

    def _accept_in_a_row(self, fd: int, watch: Watch) -> int:
        """Accept while there are connections and each is done with at once.

        A connection that is parked ends the row: a sibling may have nothing to do.

        Returns:
            How many there were; -1 when the lead was lost over the last one.
        """
        until = monotonic() + _IN_A_ROW
        count = 0
        while (conn := self._accept(fd)) is not None:
            count += 1
            if not self._serve(conn, self._service.opened, watch):
                return -1
            if conn in self._open:
                self._hurry(conn)
                self._acceptor.step_back()
                break
            if monotonic() > until:
                break
        return count

    def _accept(self, fd: int, *, although_left: bool = False) -> Connection | None:
        """Accept one connection; return None if there was none."""
        accepted = self._acceptor.accept(fd, although_left=although_left)
        if accepted is None:
            return None
        connected, address = accepted
        peer = Peer(address[0], str(address[1])) if isinstance(address, tuple) else _LOCAL
        conn = Connection(connected, peer, self._bases[fd], self._limits, self._service)
        self._open.add(conn)
        self._acceptor.opened(len(self._open))
        return conn

    def _hurry(self, conn: Connection) -> None:
        """Give a connection that is accepted during the stop little time for its first byte."""
        if self._reason is not None and conn.waits is AWAITS_FIRST_BYTE:
            conn.deadline = min(conn.deadline, monotonic() + FRESH_GRACE)
            self._sweep_at = min(self._sweep_at, conn.deadline)

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
        self._service.wind_down()
        if self._reason is StopReason.DRAIN:
            self._acceptor.drain()
        else:
            self._acceptor.end()
        for conn in [conn for conn in list(self._parked.values()) if conn.waits is AWAITS_FIRST_BYTE]:
            if self._parked.pop(conn.stream.fd, None) is not None:
                self._dismiss(conn)

    def _dismiss(self, conn: Connection) -> None:
        """Close an idle connection, unless a request has arrived on it or may be on its way."""
        self._serve(conn, self._service.readable, None)
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
        return self._acceptor.state is NO and not self._open

    def _close_all(self) -> None:
        left = 0
        for conn in list(self._open):
            left += self._service.dropped(conn)
            conn.stream.close()
        if left:
            self._ctx.log.warning("stopped with unfinished requests: %d", left)
        self._poller.close()
