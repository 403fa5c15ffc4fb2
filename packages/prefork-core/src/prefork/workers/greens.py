# SPDX-License-Identifier: MIT
"""Requests in greenlets: one of them drives the loop, and each request has one while the application has it.

A connection costs a greenlet only in that time. Greenlets share one thread and change places only where
they wait, so nothing here needs a lock. Knows no library of greenlets; `prefork.worker.Greenlets` is one.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from prefork.net.poller import Poller
from prefork.process.scoreboard import THREADS
from prefork.workers.loop import Loop, Lost
from prefork.wsgi.serve import WANTS_CALL, WANTS_TURN
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
        self._spawn = greenlets.spawn
        self._service = ctx.service(keepalive=ctx.settings.keepalive, wait=partial(_wait_until, greenlets))
        self._aways = threading.Lock()
        self._most = min(ctx.slot.threads, THREADS)
        self._made = 0
        self._free: list[Watch] = []
        self._busy: set[Watch] = set()
        self._waiting: deque[Connection] = deque()
        self._crash: BaseException | None = None
        self._loop: Loop[Greens] = Loop(
            ctx, self._service, self, concurrent=True, poller=GreenPoller(greenlets)
        )

    def run(self) -> None:
        """Serve until the worker is told to stop, and then until it has drained."""
        self._loop.begin()
        while self._crash is None and self._loop.turn(self) is not Lost.ALL:
            pass
        if self._crash is not None:
            raise self._crash
        self._loop.close_all()

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for conn in self.in_hand():
            self._service.killed(conn)

    def call(self, conn: Connection, leader: Greens) -> bool:  # noqa: ARG002 (none can take the lead)
        """Have a request answered in a greenlet, or later, when as many as may be are being answered."""
        watch = self._take_watch()
        if watch is None:
            conn.turn_since = monotonic()
            self._waiting.append(conn)
        else:
            watch.conn = conn
            self._spawn(self._live, watch)
        return True

    def in_hand(self) -> Iterable[Connection]:
        """Return the connections whose requests are with the application, or wait for it."""
        theirs = [conn for watch in self._busy if (conn := watch.conn) is not None]
        return [*theirs, *self._waiting]

    def _take_watch(self) -> Watch | None:
        if self._free:
            watch = self._free.pop()  # the last that was given back: its page is in use already
        elif self._made < self._most:
            watch = Watch(
                self._ctx.slot.thread(self._made), self._ctx.settings.timeout, self._ctx.slot, self._aways
            )
            watch.belongs_here()
            self._made += 1
        else:
            return None
        self._busy.add(watch)
        return watch

    def _live(self, watch: Watch) -> None:
        """The life of a greenlet that serves. One that dies of its own fault ends the worker."""
        try:
            conn = watch.conn
            while conn is not None:
                self._answer(conn, watch)
                conn = watch.conn = self._waiting.popleft() if self._waiting else None
        except BaseException as error:  # noqa: BLE001 (raised again by the main greenlet)
            self._crash = error
        self._busy.discard(watch)
        self._free.append(watch)

    def _answer(self, conn: Connection, watch: Watch) -> None:
        wants = self._service.respond(conn, watch)
        watch.conn = None
        if wants is WANTS_TURN:
            self._spawn(self._go_on, conn)  # after those that are ready now
        else:
            self._loop.place(conn, wants)

    def _go_on(self, conn: Connection) -> None:
        """Serve a connection whose next request is here already."""
        try:
            wants = self._service.proceed(conn)
            if wants is WANTS_CALL:
                self.call(conn, self)
            else:
                self._loop.place(conn, wants)
        except BaseException as error:  # noqa: BLE001 (raised again by the main greenlet)
            self._crash = error


def _wait_until(greenlets: Greenlets, fd: int, deadline: float, *, to_write: bool) -> bool:
    """Wait as a greenlet does, while others run; see `prefork.net.stream.Wait`."""
    timeout = deadline - monotonic()
    return timeout > 0 and greenlets.wait(fd, timeout, to_write=to_write)


class GreenPoller(Poller):
    """A poll set in which a greenlet waits while others run.

    Args:
        greenlets: the library.
    """

    def __init__(self, greenlets: Greenlets) -> None:
        super().__init__()
        self._greenlets = greenlets

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Return what is ready, as `Poll.wait`."""
        # Also when something is ready: whoever runs until he waits must not wait for us for ever.
        self._greenlets.wait(self.fileno(), max(timeout, 0.0), to_write=False)
        return super().wait(0.0)
