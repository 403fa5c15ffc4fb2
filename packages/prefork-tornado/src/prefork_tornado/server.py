# SPDX-License-Identifier: MIT
"""A worker that serves on Tornado's event loop: from its start to its end.

Decides when the loop turns, when it stops and what becomes of what is left then. When a request has come, and
when the worker has drained, is decided by prefork.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

from tornado.web import RequestHandler

from prefork.worker import StopReason
from prefork_tornado import applications, logs, requests
from prefork_tornado import loop as loops
from prefork_tornado.connection import Connection
from prefork_tornado.container import Container

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerConnectionDelegate

    from prefork.worker import Context, Exchange

_FAREWELL: Final = 0.5
"""Seconds in which tasks of the application may clean up when the worker ends."""

_RESERVE: Final = 0.7
"""Seconds of graceful_timeout that are kept for that; half of it when it is short."""

_SEEN: Final = "seen by prefork"


def serve(ctx: Context, max_body_size: int) -> None:
    """Serve until the worker is to stop and has drained.

    Args:
        ctx: what the worker may use.
        max_body_size: bytes of a request's body.
    """
    logs.relay(ctx.log)
    Server(ctx, loops.own(ctx.log), max_body_size).run()


class Server:
    """The loop of a worker, and the requests that it serves.

    Args:
        ctx: what the worker may use.
        loop: the event loop.
        max_body_size: bytes of a request's body.
    """

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop, max_body_size: int) -> None:
        self._ctx = ctx
        self._loop = loop
        self._max_body_size = max_body_size
        self._container: Container | None = None
        self._app: HTTPServerConnectionDelegate = ctx.app
        if not applications.is_native(ctx.app):
            ctx.log.info("the application is WSGI, which -k gthread serves with less work")
            self._app = self._container = Container(ctx.app, loop, ctx.log, ctx.settings)
        elif ctx.settings.threads > 1:
            ctx.log.warning("threads has no effect: an application of Tornado runs on the event loop")
        self._exchanges = ctx.exchanges(self._answer, self._soon)
        self._open: set[Connection] = set()
        self._taken: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        ctx.show_waiting(self._waiting)
        self._reserve = min(_RESERVE, ctx.settings.graceful_timeout / 2)
        self._ended = False

    def run(self) -> None:
        """Serve; return when the worker has drained, or its time is up."""
        exchanges = self._exchanges
        self._loop.add_reader(exchanges.fd, self._turn)
        exchanges.begin()
        self._loop.call_soon(self._turn)
        while not self._ended:
            try:
                self._loop.run_forever()
            except SystemExit as error:
                self._exited(error)
        self._loop.remove_reader(exchanges.fd)
        exchanges.close()
        for connection in list(self._open):
            connection.abandon()
        self._end_loop()

    def _waiting(self) -> list[tuple[str, object]]:
        """Return what waits; see `prefork.worker.Context.show_waiting`."""
        running = asyncio.current_task(self._loop)  # the main thread's stack shows it
        tasks = sorted(
            asyncio.all_tasks(self._loop), key=lambda task: (len(task.get_name()), task.get_name())
        )
        return [(f"task {task.get_name()}", task) for task in tasks if task is not running]

    # Turns

    def _turn(self) -> None:
        """Take what has come, and see whether the worker is to stop."""
        exchanges = self._exchanges
        exchanges.turn()
        if self._taken and exchanges.stops:
            self._go_away()
        if exchanges.ended or self._ended:
            self._ended = True
            self._loop.stop()
        else:
            self._soon(exchanges.within)

    def _soon(self, seconds: float) -> None:
        """Have a turn in so many seconds at the latest."""
        when = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return  # an early turn costs less than a timer for each
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._due)

    def _due(self) -> None:
        """Take the turn that is due; some come in any case while the worker stops."""
        self._timer = None
        if self._exchanges.stops:
            self._ended = self._ctx.time_left() <= self._reserve
        self._turn()

    def _answer(self, exchange: Exchange) -> None:
        """Give a request to the application."""
        head, forwarded = exchange.request, exchange.forwarded()
        connection = Connection(
            exchange, forwarded.scheme, self._loop, self._max_body_size, self._taken.add, self._over
        )
        self._open.add(connection)
        try:
            delegate = self._app.start_request(connection, connection)
            connection.hear(delegate, requests.start_line(head), requests.fields(head, forwarded))
        except BaseException:
            connection.abandon()
            raise  # prefork answers

    def _over(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._taken.discard(connection)
        self._app.on_close(connection)

    def _go_away(self) -> None:
        """Tell those who speak another protocol that the worker stops."""
        taken, self._taken = self._taken, set()
        for connection in taken:
            connection.go_away()

    def _exited(self, error: SystemExit) -> None:
        """Go on after somebody has called sys.exit(), which no request may do to all others."""
        if _SEEN in vars(error):
            return  # raised again by who has looked at the end of its task
        vars(error)[_SEEN] = True
        for frame, _ in traceback.walk_tb(error.__traceback__):
            handler = frame.f_locals.get("self")
            if isinstance(handler, RequestHandler) and isinstance(handler.request.connection, Connection):
                connection = handler.request.connection
                if connection.is_detached:
                    self._ctx.log.error("sys.exit() behind %s", handler.request.uri, exc_info=error)
                connection.fail(error)
                return
        self._ctx.log.error("sys.exit() outside of a request has no effect", exc_info=error)

    # The end

    def _end_loop(self) -> None:
        if self._container is not None:
            self._container.close()
        try:
            if self._ctx.stopping is not StopReason.QUICK:
                self._loop.run_until_complete(self._end_tasks())
        except SystemExit:
            pass  # of a task that was cancelled
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_FAREWELL)
        try:
            await asyncio.wait_for(self._loop.shutdown_asyncgens(), _FAREWELL)
        except TimeoutError:
            return  # one that refuses to end
