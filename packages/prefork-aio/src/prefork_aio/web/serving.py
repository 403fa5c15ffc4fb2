# SPDX-License-Identifier: MIT
"""The life of a worker that serves an aiohttp application: it starts, serves and stops.

Decides in which order things happen at the start and at the stop, and for how long each is waited for.
Imported in the worker process only.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from aiohttp import WSCloseCode, web
from aiohttp.web_protocol import ERROR
from multidict import istr

from prefork.errors import BootError, PreforkError, ProtocolError
from prefork.worker import StopReason
from prefork_aio import loops, tasks
from prefork_aio.options import Options
from prefork_aio.turns import Turns
from prefork_aio.web import application
from prefork_aio.web.connection import Connection, Terms
from prefork_aio.web.request import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from prefork.settings import Settings
    from prefork.worker import Arrival, Context

_AGES: Final = 365 * 86400.0
"""Seconds: aiohttp's own limit for idle connections, which prefork closes much earlier."""

_RESERVE: Final = 2.0
"""Seconds of `graceful_timeout` at most that are kept for the end of the application; see `_reserve`."""

_SHARE: Final = 0.25
"""The part of it that is kept when it is short."""

_CANCEL: Final = 0.5
"""Seconds in which requests that are cancelled may clean up."""

_QUICK: Final = 0.5
"""Seconds for each of on_shutdown and on_cleanup when all is to be dropped: the arbiter waits for two."""

_LAST: Final = 0.5
"""The part of the reserve for what comes after on_cleanup: a worker that is late is killed."""

_BELATED: Final = 0.1
"""Seconds for on_cleanup when none are left."""

_OURS: Final = ("keepalive_timeout", "max_line_size", "max_field_size", "max_headers")
"""Options of aiohttp's server that settings decide."""


def run(ctx: Context) -> None:
    """Serve until the worker is told to stop; return when drained.

    Args:
        ctx: the worker's context.

    Raises:
        BootError: the application could not start.
    """
    loop = loops.make(ctx.settings.of(Options).aio_loop, ctx.log)
    serving = Serving(ctx, loop)
    try:
        loops.run(loop, serving.live(), ctx.log)
    finally:
        serving.close()
        loops.close(loop)


class Serving:
    """A worker's application and its connections.

    Args:
        ctx: the worker's context.
        loop: the event loop.
    """

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._loop = loop
        self._reception = ctx.reception()
        self._turns = Turns(loop, self._turn)
        # As under aiohttp.web.run_app: what on_startup sets in it, handlers and on_cleanup find there.
        self._context = contextvars.copy_context()
        self._websockets: WeakSet[web.WebSocketResponse] = WeakSet()
        self._dismissed: dict[web.WebSocketResponse, asyncio.Task[bool]] = {}
        self._dismissing = False
        self._stop = loop.create_future()
        self._over = loop.create_future()
        self._schemes = tuple(map(istr, settings.secure_scheme_headers))
        self._socket_options: list[tuple[int, int, int]] = []
        logged = settings.accesslog is not None or bool(settings.logconfig_dict)
        self._counts = logged
        self._terms = Terms(
            ctx.log,
            settings.server_header,
            settings.body_timeout or inf,
            counts=logged,
            reception=self._reception,
            websockets=self._websockets,
        )
        self._app: web.Application | None = None
        self._server: web.Server
        self._new: Callable[[], Connection]
        self._make: Callable[..., web.BaseRequest]
        self._answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

    async def live(self) -> None:
        """Start the application, serve it, and end it."""
        self._turns.begin(self._reception)
        try:
            if await self._started():
                self._reception.begin()
                self._turns.take()
                await self._stop
                await self._wind_down()
        finally:
            if self._app is not None:
                await self._clean_up(self._app)

    def close(self) -> None:
        """Close what is left."""
        self._turns.end()
        self._reception.close()

    # The start

    async def _started(self) -> bool:
        """Start the application; return False when the worker is to stop before that is done."""
        starting = self._loop.create_task(self._start(), context=self._context)
        await asyncio.wait({starting, self._stop}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=_CANCEL)
            return False
        starting.result()
        return True

    async def _start(self) -> None:
        try:
            found = await application.made(self._ctx.app)
            runner = found if isinstance(found, web.AppRunner) else web.AppRunner(found)
            self._app = runner.app
            self._app.on_response_prepare.append(self._prepared)
            await runner.setup()
        except PreforkError:
            raise
        except (Exception, SystemExit) as error:
            text = f"the application could not start: {type(error).__name__}: {error}"
            raise BootError(text) from error
        assert runner.server is not None
        self._take_over(runner.server)

    def _take_over(self, server: web.Server) -> None:
        """Put our own in where aiohttp makes a connection, a request and an answer."""
        settings = self._ctx.settings
        # What an application or a runner of its own asks for; aiohttp has no other way to it.
        asked: dict[str, Any] = server._kwargs  # noqa: SLF001
        if vain := sorted(set(asked).intersection(_OURS)):
            self._ctx.log.warning("options of the application have no effect: %s", ", ".join(vain))
        self._socket_options = _socket_options(settings, keepalive=asked.get("tcp_keepalive", True))
        self._server = server
        options = {**asked, **_options(settings, self._ctx)}
        self._new = partial(Connection, server, loop=self._loop, **options)
        self._ctx.show_waiting(self._waiting)
        self._make, server.request_factory = self._maker(server.request_factory), self._request
        self._answer, server.request_handler = server.request_handler, self._handle

    def _maker(self, factory: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
        """Return what makes the quick requests of `request`, or what was there if those would not do."""
        assert self._app is not None
        is_usual = getattr(factory, "__func__", None) is web.Application._make_request  # noqa: SLF001
        is_alone = list(self._app.on_response_prepare) == [self._prepared]
        return partial(factory, _cls=Request) if is_usual and is_alone else factory

    # Connections

    def _turn(self) -> None:
        for arrival in self._reception.turn():
            self._serve(arrival)
        self._look_at_stop()

    def _serve(self, arrival: Arrival) -> None:
        # Nobody else has to hold the task: it waits for what the loop itself has to call next.
        self._loop.create_task(self._connect(arrival), context=self._context)

    async def _connect(self, arrival: Arrival) -> None:
        connection = self._new()
        connection.arrive(arrival, self._terms)
        try:
            for option in self._socket_options if arrival.address else ():
                arrival.sock.setsockopt(*option)
            await self._loop.connect_accepted_socket(lambda: connection, arrival.sock)
        except OSError as error:
            self._ctx.log.info("aborted by %s: %s", arrival.address or "unix", error)
            arrival.sock.close()
            arrival.closed()

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        connection: Any,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """Make a request for aiohttp, and note that it has begun."""
        if message is ERROR:
            connection.begin(None, payload)
            return self._make(message, payload, connection, writer, task)
        if not self._reception.keeps and not message.should_close:
            message = message._replace(should_close=True)
        connection.begin(message, payload)
        if self._counts:
            writer.on_body_write = connection.wrote
        request = self._make(message, payload, connection, writer, task)
        headers = message.headers
        for name in self._schemes:
            if name in headers:
                return self._forwarded(request, connection)
        return request

    def _forwarded(self, request: web.BaseRequest, connection: Connection) -> web.BaseRequest:
        """Return a request as a trusted proxy describes it."""
        try:
            scheme = connection.scheme(request)
        except ProtocolError as error:
            connection.refused = error
            return request
        return request if scheme == "http" else request.clone(scheme=scheme)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        connection: Connection = request._protocol  # type: ignore[assignment]  # noqa: SLF001 (we have made it)
        if connection.refused is not None:
            return connection.refuse(connection.refused.status, connection.refused.message, request)
        try:
            return await self._answer(request)
        except SystemExit as error:
            # asyncio would let it out of the loop, and with it end the worker, which has other clients.
            raise RuntimeError(f"sys.exit({error.code!r}) was called in a request") from error

    async def _prepared(self, request: web.Request, response: web.StreamResponse) -> None:
        """Finish the head of a response: the last function of on_response_prepare."""
        connection: Connection = request.protocol  # type: ignore[assignment]  # we have made it
        connection.prepared(response)

    def _waiting(self) -> list[tuple[str, object]]:
        """Return what waits; see `prefork.worker.Context.show_waiting`."""
        connections = [
            each for each in self._server.connections if isinstance(each, Connection) and each.task
        ]
        lines = {each.task: each.line for each in connections if each.record and each.task}
        return tasks.waiting(self._loop, lines, {each.task for each in connections})

    # The stop

    @property
    def _reserve(self) -> float:
        return min(_RESERVE, self._ctx.settings.graceful_timeout * _SHARE)

    def _look_at_stop(self) -> None:
        """Look whether the worker is to stop, and whether it is over."""
        if not self._stop.done():
            if (self._reception.keeps and not self._reception.ended) or self._ctx.stopping is None:
                return
            self._stop.set_result(None)
            left = self._ctx.time_left()
            if left != inf:
                self._loop.call_later(max(left - self._reserve, 0.0), self._time_is_up)
        if self._dismissing:
            self._dismiss()
        if self._reception.ended:
            self._time_is_up()

    def _time_is_up(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _wind_down(self) -> None:
        """Let requests finish, as long as there is time; then cancel them."""
        assert self._app is not None
        farewell = self._loop.create_task(self._say_goodbye(self._app), context=self._context)
        await self._over
        await self._give_up()
        await self._wait_for(farewell, "on_shutdown", self._seconds(_QUICK, keep=1.0))

    async def _say_goodbye(self, app: web.Application) -> None:
        await self._call(app.shutdown, "on_shutdown")
        self._dismissing = True
        self._dismiss()

    def _dismiss(self) -> None:
        """Close the WebSockets that the application has not closed."""
        for websocket in list(self._websockets):
            if websocket.prepared and not websocket.closed and websocket not in self._dismissed:
                closing = websocket.close(code=WSCloseCode.GOING_AWAY, message=b"server shutdown")
                self._dismissed[websocket] = self._loop.create_task(closing)

    async def _give_up(self) -> None:
        """Cancel the requests that are still in hand, and let them clean up for a moment."""
        tasks = []
        busy = [each for each in self._server.connections if isinstance(each, Connection) and each.record]
        for connection in busy:
            line = connection.give_up()
            if line is not None and connection.task is not None:
                self._ctx.log.warning("cancelled, since the worker stops: %s", line)
                tasks.append(connection.task)
        if tasks:
            await asyncio.wait(tasks, timeout=min(_CANCEL, self._seconds(_CANCEL) / 2))
        for connection in busy:
            connection.end()

    async def _clean_up(self, app: web.Application) -> None:
        cleaning = self._loop.create_task(self._call(app.cleanup, "on_cleanup"), context=self._context)
        await self._wait_for(cleaning, "on_cleanup", self._seconds(_QUICK))

    def _seconds(self, quick: float, keep: float = _LAST) -> float:
        """Return how long something may take now.

        Args:
            quick: the same when all is to be dropped.
            keep: the part of the reserve that is to be left afterwards.
        """
        stopping = self._ctx.stopping
        if stopping is None:
            return _RESERVE  # it could not start
        left = self._ctx.time_left() - self._reserve * keep
        return quick if stopping is StopReason.QUICK else max(left, _BELATED)

    async def _wait_for(self, task: asyncio.Task[None], what: str, within: float) -> None:
        await asyncio.wait({task}, timeout=None if within == inf else within)
        if not task.done():
            self._ctx.log.error("%s of the application has not ended in time", what)
            task.cancel()
            await asyncio.wait({task}, timeout=_BELATED)

    async def _call(self, function: Callable[[], Awaitable[None]], what: str) -> None:
        try:
            await function()
        except (Exception, SystemExit):
            self._ctx.log.exception("error in %s of the application", what)


def _options(settings: Settings, ctx: Context) -> dict[str, Any]:
    """Return the options of aiohttp's protocol that settings decide."""
    return {
        "keepalive_timeout": _AGES,
        "max_line_size": settings.limit_request_line,
        "max_field_size": settings.limit_request_field_size,
        "max_headers": settings.limit_request_fields,
        "access_log": None,
        "logger": ctx.log,
        "tcp_keepalive": False,
    }


def _socket_options(settings: Settings, *, keepalive: bool) -> list[tuple[int, int, int]]:
    """Return what each connection is told over TCP.

    Args:
        settings: of the server.
        keepalive: whether aiohttp is to have the kernel look after idle ones. It would do so in a way that
            takes several times as long.
    """
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] if keepalive else []
    if settings.write_timeout and sys.platform == "linux":
        # Also for sendfile, and for what is left to send when the request is over.
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.write_timeout * 1000)))
    return options
