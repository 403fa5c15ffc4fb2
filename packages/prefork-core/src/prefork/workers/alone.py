# SPDX-License-Identifier: MIT
"""One thread that leads a loop and calls the application itself, one request at a time.

Knows nothing of sockets or HTTP.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prefork.workers.loop import Loop, Lost
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Service


class Alone:
    """A thread that leads a loop, and nobody does while it is in the application.

    Args:
        ctx: the worker's context.
        service: serves each connection.
    """

    def __init__(self, ctx: WorkerContext, service: Service) -> None:
        self._service = service
        self._watch = Watch(ctx.slot.thread(0), ctx.settings.timeout, ctx.slot, threading.Lock())
        self._loop: Loop[Watch] = Loop(ctx, service, self, concurrent=False)
        self._place = self._loop.place  # bound once, not for each request

    def run(self) -> None:
        """Serve until the worker is told to stop, and then until it has drained."""
        self._watch.belongs_here()
        self._loop.begin()
        while self._loop.turn(self._watch) is not Lost.ALL:
            pass
        self._loop.close_all()

    def aborted(self) -> None:
        """Leave an access line for the request in hand: the worker is about to be killed."""
        for conn in self.in_hand():
            self._service.killed(conn)

    def call(self, conn: Connection, leader: Watch) -> bool:
        """Answer a request."""
        leader.conn = conn
        wants = self._service.respond(conn, leader)
        leader.conn = None
        self._place(conn, wants)
        return True

    def in_hand(self) -> Iterable[Connection]:
        """Return the connection whose request is with the application."""
        conn = self._watch.conn
        return () if conn is None else (conn,)
