# SPDX-License-Identifier: MIT
"""A worker's event loop with an ASGI application: its start, its requests, its end.

Decides what runs in which order, and who is told when the worker stops. HTTP, deadlines and connections are
prefork's (`prefork.worker.Exchanges`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from prefork.worker import StopReason
from prefork_aio import loops, tasks
from prefork_aio.asgi.cycle import Cycle
from prefork_aio.asgi.handshake import is_asked_for, is_refused
from prefork_aio.asgi.lifespan import Lifespan
from prefork_aio.asgi.scope import Scopes
from prefork_aio.asgi.websocket import Manners, Sockets, WebSocket
from prefork_aio.asgi.worker import Options
from prefork_aio.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from prefork.worker import Context, Exchange

_RESERVE: Final = 1.0
"""Seconds of `graceful_timeout` that are kept for the end of the lifespan, or a fifth of it."""

_LONGEST: Final = 86400.0
"""Seconds that stand for no limit, which not every event loop can count to."""

_TICK: Final = 0.001
"""Seconds by which a timer may be early."""

_LAST: Final = 0.2
"""The same without a lifespan: tasks that are cancelled may clean up."""


def run(ctx: Context) -> None:
    """Serve until the worker has drained.

    Args:
        ctx: everything the worker may use.
    """
    loop = loops.make(ctx.settings.of(Options).aio_loop, ctx.log)
    try:
        loops.run(loop, Server(ctx, loop).serve(), ctx.log)
    finally:
        loops.close(loop)


class Server:
    """One worker's application.

    Args:
        ctx: everything the worker may use.
        loop: its event loop.
    """

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._loop = loop
        self._app: Callable[..., Coroutine[Any, Any, None]] = ctx.app
        self._options = settings.of(Options)
        mode = self._options.aio_lifespan
        self._lifespan = None if mode == "off" else Lifespan(self._app, ctx.log, required=mode == "on")
        self._reserve = _LAST
        manners = Manners(
            max_size=self._options.aio_websocket_max_size,
            ping=self._options.aio_websocket_ping,
            compresses=self._options.aio_websocket_compression,
            write_timeout=settings.write_timeout,
        )
        self._sockets = Sockets(loop, manners)
        self._scopes: Scopes
        self._running: dict[Cycle | WebSocket, Exchange] = {}
        ctx.show_waiting(self._waiting)
        self._stops = False
        self._ends = False
        self._done = loop.create_future()
        self._start = self._start_eagerly if sys.version_info >= (3, 12) else loop.create_task
        self._turns = Turns(loop, self._turn)
        self._exchanges = ctx.exchanges(self._answer, self._turns.soon)

    async def serve(self) -> None:
        """Serve until the worker has drained.

        Raises:
            BootError: the application cannot be started.
        """
        self._turns.begin(self._exchanges)
        try:
            if await self._is_started():
                self._exchanges.begin()
                self._turns.take()
                await self._done
        finally:
            await self._end()

    async def _is_started(self) -> bool:
        """Start the application; return False when the worker is told to stop before that is done."""
        if self._lifespan is not None:
            start = asyncio.create_task(self._lifespan.start())
            await asyncio.wait([start, self._done], return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                start.cancel()
                return False
            start.result()
        settings = self._ctx.settings
        state = None
        if self._lifespan is not None and self._lifespan.is_on:
            state = self._lifespan.state
            self._reserve = min(_RESERVE, settings.graceful_timeout / 5 or _RESERVE)
        self._scopes = Scopes(
            root_path=self._options.aio_root_path,
            script_name=os.environ.get("SCRIPT_NAME", ""),
            state=state,
            sends_files=settings.sendfile,
            asks_proxies=self._options.aio_client == "forwarded",
        )
        return True

    def _turn(self) -> None:
        self._exchanges.turn()
        if self._exchanges.stops:
            self._go_on_stopping()

    def _go_on_stopping(self) -> None:
        ctx = self._ctx
        if not self._stops:
            self._stops = True
            self._sockets.leave()
            # To the moment: a turn a quarter of a second later would be at the expense of the lifespan.
            until = max(ctx.time_left() - self._reserve, 0.0) + _TICK
            self._loop.call_later(min(until, _LONGEST), self._turns.take)
        if self._exchanges.ended or ctx.time_left() <= self._reserve:
            self._turns.end()
            if not self._done.done():
                self._done.set_result(None)

    async def _end(self) -> None:
        """End what still runs, then the application."""
        self._turns.end()
        # What goes on behind a response has the rest of the time; what has not answered yet, none is left.
        left = {each.task for each in self._running if each.task is not None and not each.task.done()}
        if left and self._ctx.stopping is not StopReason.QUICK:
            await asyncio.wait(left, timeout=min(max(self._ctx.time_left() - self._reserve, 0.0), _LONGEST))
        self._ends = True
        late = {task for task in left if not task.done()}
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._reserve / 2)
        if self._lifespan is not None:
            await self._lifespan.stop(min(max(self._ctx.time_left(), self._reserve), _LONGEST))
        self._exchanges.close()

    def _waiting(self) -> list[tuple[str, object]]:
        """Return what waits; see `prefork.worker.Context.show_waiting`."""
        running = [(cycle.task, exchange.request) for cycle, exchange in list(self._running.items())]
        lines = {task: f"{request.method} {request.target}" for task, request in running if task is not None}
        return tasks.waiting(self._loop, lines)

    # Requests

    def _answer(self, exchange: Exchange) -> None:
        # The first question is enough nearly always, and costs no call.
        if "HTTP_UPGRADE" in exchange.request.fields and is_asked_for(exchange.request):
            if is_refused(exchange):
                return
            scope = self._scopes.websocket(exchange)
            cycle: Cycle | WebSocket = WebSocket(exchange, self._sockets)
        else:
            scope = self._scopes.http(exchange)
            cycle = Cycle(exchange)
        self._running[cycle] = exchange
        cycle.task = self._start(self._live(cycle, scope))

    def _start_eagerly(self, life: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that runs at once, until it waits for something."""
        return asyncio.Task(life, loop=self._loop, eager_start=True)  # type: ignore[call-arg,unused-ignore]

    async def _live(self, cycle: Cycle | WebSocket, scope: dict[str, Any]) -> None:
        """Run the application for one request. Nothing that it raises ends the worker."""
        try:
            await self._app(scope, cycle.receive, cycle.send)
        except BaseException as error:  # noqa: BLE001 (the application call)
            # What is cancelled by the end of the worker is dropped, and named, with its connection.
            if not (self._ends and isinstance(error, asyncio.CancelledError)):
                cycle.failed(error)
        else:
            cycle.returned()
        finally:
            del self._running[cycle]
