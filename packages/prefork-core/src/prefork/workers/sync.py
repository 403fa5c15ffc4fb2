# SPDX-License-Identifier: MIT
"""`-k sync`: one thread, one request at a time, and the connection closes after each response.

Slow clients do not count as a request: half a head, a small body on its way or a response that is not
taken wait in the poll set. `timeout` is the time that a request may take without any progress.
"""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import API_VERSION, Context, Worker
from prefork.workers.context import WorkerContext
from prefork.workers.loop import Loop, Lost
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Service


class SyncWorker(Worker):
    """One request at a time."""

    api = API_VERSION
    reforks = True
    keepalive: ClassVar[float] = 0.0
    """Seconds that a connection may be idle between requests."""
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"keepalive": "a sync worker closes after each response; with --threads 2 connections stay open"}
    )

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        assert isinstance(ctx, WorkerContext)
        alone = Alone(ctx, ctx.service(keepalive=self.keepalive, alone=True))
        ctx.on_abort = alone.aborted
        alone.run()


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
