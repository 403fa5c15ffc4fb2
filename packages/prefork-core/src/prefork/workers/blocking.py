# SPDX-License-Identifier: MIT
"""Connections that a worker class takes one by one, each served by a thread that waits for its client.

Decides when such a worker takes a connection, what its threads wait for, and when it has drained. The thread
that accepts looks at the clock and at orders for all. Which thread serves is the worker class's business.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from prefork.net.poller import READ, Poller
from prefork.process.scoreboard import THREADS
from prefork.workers.acceptor import DRAINING, PAUSED, QUEUE_GRACE, Acceptor
from prefork.workers.arrivals import Arrivals
from prefork.workers.ending import LAST_CALL, Ending
from prefork.wsgi.connection import AWAITS_FIRST_BYTE
from prefork.wsgi.serve import WANTS_CALL, WANTS_CLOSE, WANTS_READ, WANTS_TURN
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Wants

_LOOK: Final = 1.0
"""Seconds after which an idle worker looks at the queues unasked, as `workers.loop` does."""

_ATTENTION: Final = 0.05
"""Seconds between two looks whether threads have closed connections, while that is waited for."""


class Blocking:
    """The connections of a worker.

    Args:
        ctx: the worker's context.
    """

    def __init__(self, ctx: WorkerContext) -> None:
        self._ctx = ctx
        self._service = ctx.service(keepalive=ctx.settings.keepalive)
        self._arrivals = Arrivals(ctx, self._service, concurrent=True)
        self._poller = Poller()
        self._acceptor = Acceptor(ctx, self._poller)
        self._events: list[int] = []
        self._look_at = 0.0
        self._stopping = False
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        self._ending = Ending(
            ctx,
            self._acceptor,
            self._poller,
            self._open,
            wind_down=self._service.wind_down,
            drop=self._service.dropped,
        )
        self._idle: dict[Connection, None] = {}  # those that have been so for longest come first
        # The one is readable from the moment at which the other is closed: every thread sees that.
        self._stopped, self._stop = socket.socketpair()
        self._turns = threading.Semaphore(min(ctx.slot.threads, THREADS))
        self._aways = threading.Lock()
        self._watches: list[Watch] = []
        self._free: list[Watch] = []

    def begin(self) -> None:
        """Begin to accept connections, and tell the arbiter so."""
        self._poller.watch(self._ctx.stop_fd, READ)
        self._acceptor.take()
        self._ctx.ready()

    # The thread that accepts

    def accept(self) -> Accepted | None:
        """Wait for a connection; return None when the worker has drained, or its time is up."""
        while not (self._stopping and self._ending.is_over()):
            draining = self._acceptor.state is DRAINING
            ready = self._wait()
            for fd in ready or list(self._acceptor.fds):  # the kernel may have told another one, who is dead
                accepted = self._acceptor.accept(fd) if fd in self._acceptor.fds else None
                if accepted is not None:
                    return self._opened(fd, *accepted)
            if draining and self._acceptor.state is DRAINING:
                self._acceptor.leave_drained(empty=not ready)
        self._ending.close_all()
        return None

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for watch in self._watches:
            if watch.conn is not None:
                self._service.killed(watch.conn)

    def _wait(self) -> list[int]:
        """Wait until there is something; return the descriptors that are ready."""
        ready = [fd for fd, _ in self._poller.wait(self._patience())]
        told = self._ctx.stop_fd in ready
        if told:
            ready.remove(self._ctx.stop_fd)
        if told or (self._ctx.is_told and not self._stopping):
            self._stopping = self._ending.begin()
            if self._stopping:
                self._stop.close()
        if self._acceptor.is_full and len(self._open) < self._ctx.settings.worker_connections:
            self._acceptor.closed()
        now = monotonic()
        if now >= self._acceptor.resume_at:
            self._acceptor.take()
        if now >= self._look_at:
            self._look(now)
        self._ctx.slot.idle = len(self._idle)
        self._ctx.slot.connections = len(self._open)
        return ready

    def _patience(self) -> float:
        if self._acceptor.state is DRAINING:
            return QUEUE_GRACE
        if self._stopping or self._acceptor.state is PAUSED:
            return _ATTENTION
        return _LOOK

    def _look(self, now: float) -> None:
        """Do what is to be done once in a while."""
        self._look_at = now + _LOOK
        slot = self._ctx.slot
        slot.backlog = self._acceptor.waiting()
        if slot.is_parting:
            self._service.stop_keeping()
        self._service.sample()
        if self._acceptor.is_full and self._acceptor.has_queue():
            self._make_room()

    def _opened(self, fd: int, connected: socket.SocketType, address: object) -> Accepted:
        conn = self._arrivals.connection(fd, connected, address)
        with self._lock:
            self._open.add(conn)
        self._acceptor.opened(len(self._open))
        self._acceptor.step_back()
        return Accepted(self, conn)

    def _make_room(self) -> None:
        """Have the connection closed that has been idle for longest: a new one waits at the limit."""
        with self._lock:
            for conn in self._idle:
                if not _is_ready(conn.stream.fd, until=0.0):
                    with contextlib.suppress(OSError):  # the client has reset it just now
                        conn.stream.sock.shutdown(socket.SHUT_RD)  # its thread finds the end of it
                    return

    # The threads that serve

    def serve(self, conn: Connection) -> None:
        """Serve a connection until it is to be closed, and close it."""
        try:
            wants = self._service.opened(conn)
            while wants is not WANTS_CLOSE:
                wants = self._go_on(conn, wants)
        finally:
            conn.stream.close()
            with self._lock:
                self._open.discard(conn)

    def _go_on(self, conn: Connection, wants: Wants) -> Wants:
        if wants is WANTS_CALL:
            return self._call(conn)
        if wants is WANTS_TURN:
            return self._service.proceed(conn)
        if not self._wait_for_client(conn, to_write=wants is not WANTS_READ):
            return self._service.expired(conn)
        return self._service.readable(conn) if wants is WANTS_READ else self._service.writable(conn)

    def _wait_for_client(self, conn: Connection, *, to_write: bool) -> bool:
        """Wait for what a connection wants; return False when it did not come until its deadline."""
        if conn.waits is not AWAITS_FIRST_BYTE:
            return _is_ready(conn.stream.fd, until=conn.deadline, to_write=to_write)
        with self._lock:
            self._idle[conn] = None
        try:
            if _is_ready(conn.stream.fd, self._stopped.fileno(), until=conn.deadline):
                return True
        finally:
            with self._lock:
                del self._idle[conn]
        if monotonic() < conn.deadline:
            conn.hasten(LAST_CALL)  # the worker stops
        return _is_ready(conn.stream.fd, until=conn.deadline)

    def _call(self, conn: Connection) -> Wants:
        conn.turn_since = monotonic()
        with self._turns:
            watch = self._take_watch()
            watch.conn = conn
            try:
                return self._service.respond(conn, watch)
            finally:
                watch.conn = None
                with self._lock:
                    self._free.append(watch)

    def _take_watch(self) -> Watch:
        ctx = self._ctx
        with self._lock:
            if self._free:
                watch = self._free.pop()
            else:
                record = ctx.slot.thread(len(self._watches))
                watch = Watch(record, ctx.settings.timeout, ctx.slot, self._aways)
                self._watches.append(watch)
        watch.belongs_here()
        return watch


class Accepted:
    """A connection that was accepted; see `prefork.worker.Accepted`."""

    def __init__(self, owner: Blocking, conn: Connection) -> None:
        self._owner = owner
        self._conn = conn

    def serve(self) -> None:
        """See `prefork.worker.Accepted`."""
        self._owner.serve(self._conn)


def _is_ready(fd: int, *ends: int, until: float, to_write: bool = False) -> bool:
    """Wait until a descriptor is ready, a deadline, or until one of some others has ended.

    Args:
        fd: the descriptor.
        ends: others.
        until: the deadline, in monotonic seconds; one that has passed means only to look.
        to_write: wait until it can be written; else until it can be read.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT if to_write else select.POLLIN)
    for end in ends:
        poll.register(end, select.POLLIN)
    while True:
        left = max(until - monotonic(), 0.0)
        ready = [found for found, _ in poll.poll(None if left == inf else left * 1000)]
        if ready or not left:
            return fd in ready
