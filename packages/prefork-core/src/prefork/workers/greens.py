# SPDX-License-Identifier: MIT
"""Requests in greenlets: one of them leads the loop, and calls the application itself.

As long as the application does not wait, the same greenlet goes on, without a switch. Where it waits, another
one stands in for it as the leader; the first puts its connection back when it is done, and ends. So there is
one greenlet more than requests that wait, and a connection has none (decision 21).

Greenlets share one thread and change places only where they wait, so nothing here needs a lock. Knows no
library of greenlets; `prefork.worker.Greenlets` is one.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from prefork.net.poller import Poller
from prefork.workers.loop import Loop, Lost
from prefork.wsgi.serve import WANTS_CALL
from prefork.wsgi.takeover import Takeovers
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.worker import Greenlets
    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection


class Greens:
    """The greenlets of a worker.

    Args:
        ctx: the worker's context.
        greenlets: the library.
    """

    def __init__(self, ctx: WorkerContext, greenlets: Greenlets) -> None:
        self._ctx = ctx
        self._greenlets = greenlets
        self._defer = greenlets.defer
        self._service = ctx.service(
            keepalive=ctx.settings.keepalive,
            takeovers=Takeovers(offered=greenlets.offered),
            wait=partial(_wait_until, greenlets),
        )
        self._aways = threading.Lock()
        self._made = 0
        self._free: list[Watch] = []
        self._busy: dict[Watch, Any] = {}  # and in which greenlet
        self._lent: Watch | None = None  # whose the lead is, while it is in the application
        self._crash: BaseException | None = None
        poller = GreenPoller(greenlets, ctx)
        self._loop: Loop[Watch] = Loop(ctx, self._service, self, concurrent=True, poller=poller)
        self._place = self._loop.place  # bound once, not for each request

    def run(self) -> None:
        """Serve until the worker is told to stop, and then until it has drained.

        The main greenlet waits for that. It does not serve: it must be there at the end.
        """
        self._ctx.show_waiting(self.waiting)
        # First: when it hears that this worker is ready, the arbiter decides when to look at it next.
        self._ctx.slot.due = monotonic()
        self._loop.begin()
        self._ended, self._end = os.pipe()
        self._defer(self._serve)
        self._greenlets.wait(self._ended, inf, to_write=False)
        self._ctx.slot.due = 0.0
        if self._crash is not None:
            raise self._crash
        self._loop.close_all()

    def waiting(self) -> list[tuple[str, object]]:
        """Return the requests that wait, and where; see `prefork.worker.Context.show_waiting`."""
        found = []
        for watch, greenlet in list(self._busy.items()):
            request = None if watch.conn is None else watch.conn.http.request
            # The one that runs has no frame here, but the main thread's stack.
            if request is not None and greenlet.gr_frame is not None:
                found.append((f"{request.method} {request.target}", greenlet.gr_frame))
        return found

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for conn in self.in_hand():
            self._service.killed(conn)

    def in_hand(self) -> Iterable[Connection]:
        """Return the connections whose requests are with the application."""
        return [conn for watch in self._busy if (conn := watch.conn) is not None]

    # Greenlets

    def _stand_in(self) -> None:
        """The life of a greenlet: it leads from now on, until it waits for something in the application."""
        if self._lent is None:
            return  # who waited has come back before this one had its turn
        self._lent = None
        self._serve()

    def _serve(self) -> None:
        watch = None
        try:
            watch = self._take_watch() or self._lead_for_all()
            if watch is not None and self._lead(watch):
                self._serve_late(watch)
        except BaseException as error:  # noqa: BLE001 (raised again by the main greenlet)
            self._crash = error
            self._finish()
        if watch is not None:
            del self._busy[watch]
            self._free.append(watch)

    def _lead(self, watch: Watch) -> bool:
        """Lead; return True when another greenlet does, False when all is over."""
        while True:
            lost = self._loop.turn(watch)
            if lost is Lost.LEAD:
                return True
            if lost is Lost.ALL:
                self._finish()
                return False

    def _lead_for_all(self) -> Watch | None:
        """Lead without a call of the application, until a record is free again; None when all is over."""
        since = monotonic()
        self._loop.acceptor.leave_to_siblings()
        while self._loop.handle(self._loop.wait_for_all(), None) is not Lost.ALL:
            self._loop.turn_away_late(since)
            watch = self._take_watch()
            if watch is not None:
                return watch
        self._finish()
        return None

    def _serve_late(self, watch: Watch) -> None:
        """Serve, without the lead, those that had to wait for their turn."""
        while (conn := self._loop.next_turn()) is not None:
            watch.conn = conn
            wants = self._service.proceed(conn)
            if wants is WANTS_CALL:
                wants = self._service.respond(conn, watch)
            watch.conn = None
            self._place(conn, wants)
            self._greenlets.pause()  # an application that never waits must not keep the leader out

    def _finish(self) -> None:
        os.write(self._end, b".")

    def _take_watch(self) -> Watch | None:
        """Return a record for the requests of a greenlet, None if as many are in use as may be."""
        if self._free:
            watch = self._free.pop()  # the last that was given back: its page is in use already
        elif self._made < self._ctx.slot.threads:
            record = self._ctx.slot.thread(self._made)
            watch = Watch(record, self._ctx.settings.timeout, self._ctx.slot, self._aways)
            watch.belongs_here()
            self._made += 1
        else:
            return None
        self._busy[watch] = self._greenlets.current()
        return watch

    # The application

    def call(self, conn: Connection, leader: Watch) -> bool:
        """Answer a request; return whether no other greenlet leads now."""
        leader.conn = conn
        self._lent = leader
        cancel = self._defer(self._stand_in)
        wants = self._service.respond(conn, leader)
        leader.conn = None
        leads = self._lent is leader
        if leads:
            self._lent = None
            cancel()
        self._place(conn, wants)
        return leads


def _wait_until(greenlets: Greenlets, fd: int, deadline: float, *, to_write: bool) -> bool:
    """Wait as a greenlet does, while others run; see `prefork.net.stream.Wait`."""
    timeout = deadline - monotonic()
    return timeout > 0 and greenlets.wait(fd, timeout, to_write=to_write)


class GreenPoller(Poller):
    """A poll set in which a greenlet waits while others run.

    Args:
        greenlets: the library.
        ctx: the worker's context.
    """

    def __init__(self, greenlets: Greenlets, ctx: WorkerContext) -> None:
        super().__init__()
        self._log = ctx.log
        self._slot = ctx.slot
        self._wait: Any = greenlets.waits_for(self.fileno())

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return what is ready, as `Poll.wait`."""
        self._slot.due = monotonic() + timeout
        try:
            # Also when something is ready: others must have their turn.
            self._wait(timeout)
        except BaseException as error:  # noqa: BLE001 (it is not ours)
            # A timeout that the application left running, or the end of a greenlet that it took for its own.
            self._log.warning("a request has left something behind that ended later: %r", error)
        self._slot.due = monotonic()
        return super().wait(0.0)
