# SPDX-License-Identifier: MIT
"""One request and its response, as an application of Tornado sees it: its `request.connection`.

Decides in which order the application hears of a request, and what it is told of its client. What is a
request, how a response goes out and how long a client may take is prefork's HTTP, as under every worker.
"""

from __future__ import annotations

import asyncio
import re
import socket
import weakref
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import tornado
from tornado.concurrent import Future
from tornado.escape import native_str
from tornado.httputil import HTTPConnection, HTTPInputError
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketHandler

from prefork.errors import ClientDisconnected, ProtocolError
from prefork.http.grammar import HOP_BY_HOP
from prefork_tornado.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

    from prefork.worker import Exchange

PIECE: Final = 64 * 1024
"""Bytes of a body that the application gets at once, as Tornado's chunk_size."""

_TURN: Final = 256 * 1024
"""Bytes of a body after which others get their turn: for a fast client nothing ever waits."""

_ITS_OWN: Final = ("Server", f"TornadoServer/{tornado.version}")
"""What handlers of Tornado say in Server unless they are told otherwise."""

_LINE_END: Final = re.compile("[\r\n]")

_GOING_AWAY: Final = 1001
"""RFC 6455 §7.4.1: the server goes down."""


class Stage(Enum):
    """How far a request is."""

    RECEIVING = "receiving"
    """Its body comes, or the application is not ready for that."""
    ANSWERING = "answering"
    """The application has all of it."""
    TAKEN = "taken"
    """The connection was left to another protocol."""
    OVER = "over"
    """It was answered, or never will be."""


class Peer(NamedTuple):
    """What the application is told of the connection: `request.connection.context`."""

    remote_ip: str
    protocol: str

    def __str__(self) -> str:
        return self.remote_ip


class Line:
    """What is left of a stream before a connection is detached: `request.connection.stream`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def closed(self) -> bool:
        """Return whether the client has gone, or the request is over."""
        return self._connection.is_over


class Connection(HTTPConnection):
    """A request in hand.

    Args:
        exchange: as prefork has it.
        scheme: of the request, as far as a proxy is believed.
        loop: the event loop.
        max_body_size: bytes of body that are accepted.
        taken: called with it when the connection is left to another protocol.
        over: called with it when that has ended, or the request.

    Attributes:
        exchange: as given.
        context: what is told of the client.
    """

    def __init__(
        self,
        exchange: Exchange,
        scheme: str,
        loop: asyncio.AbstractEventLoop,
        max_body_size: int,
        taken: Callable[[Connection], object],
        over: Callable[[Connection], object],
    ) -> None:
        self.exchange = exchange
        self.context = Peer(exchange.peer[0] or "0.0.0.0", scheme)
        self._loop = loop
        self._max_body_size = max_body_size
        self._when_taken = taken
        self._when_over = over
        self._stage = Stage.RECEIVING
        self._receiving: asyncio.Task[None] | None = None  # a loop does not keep its tasks
        self._interim = b""
        self._detached: Stream | None = None
        self._reading: Future[None] | None = None
        self._writing: Future[None] | None = None
        self._close_callback: Callable[[], None] | None = None
        self._listener: weakref.ref[object] | None = None
        exchange.wake = self._wake

    # The request

    def hear(self, delegate: HTTPMessageDelegate, start_line: RequestStartLine, headers: HTTPHeaders) -> None:
        """Tell the application of the request, now or as it comes.

        Args:
            delegate: the application's.
            start_line: method, target and version.
            headers: of the request.

        Raises:
            ProtocolError: Tornado finds something wrong with it.
        """
        try:
            waiting = delegate.headers_received(start_line, headers)
            if waiting is None and not self.exchange.request.content_length:
                self._heard(delegate)
                return
        except HTTPInputError as error:
            raise ProtocolError("refused by Tornado") from error
        self._receiving = self._loop.create_task(self._receive(delegate, waiting))

    async def _receive(self, delegate: HTTPMessageDelegate, waiting: Awaitable[None] | None) -> None:
        """Give the body to the application."""
        try:
            if waiting is not None:
                await waiting
            await self._deliver(delegate)
            self._heard(delegate)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 (the application; it may call sys.exit)
            self.fail(ProtocolError("refused by Tornado") if isinstance(error, HTTPInputError) else error)
            delegate.on_connection_close()

    async def _deliver(self, delegate: HTTPMessageDelegate) -> None:
        """Give the body to the application, as long as that has not answered."""
        length = self.exchange.request.content_length
        total, turn = 0, _TURN
        while self._stage is Stage.RECEIVING:
            if max(length, total) > self._max_body_size:
                raise ProtocolError("the body is larger than it may be", 413)
            piece = self.exchange.read(PIECE)
            if piece is None:
                self._reading = Future()
                await self._reading
                continue
            if not piece:
                return
            total += len(piece)
            waiting = delegate.data_received(piece)
            if waiting is not None:
                await waiting
            if total >= turn:
                turn = total + _TURN
                await asyncio.sleep(0)

    def _heard(self, delegate: HTTPMessageDelegate) -> None:
        """Tell the application that this was all, unless it has answered."""
        if self._stage is Stage.RECEIVING:
            self._stage = Stage.ANSWERING
            delegate.finish()
            if self.exchange.is_gone:
                self._wake()  # not before: who sends no more may still be answered at once

    # What applications call

    @property
    def stream(self) -> Line | Stream:
        """What is known of the client's end."""
        return self._detached or Line(self)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set what is called when the client goes away before it was answered."""
        self._close_callback = callback
        owner = getattr(callback, "__self__", None)
        if owner is not None:
            self._listener = weakref.ref(owner)

    def set_max_body_size(self, max_body_size: int) -> None:
        """Set how many bytes of body this request may have."""
        self._max_body_size = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Do nothing: `body_timeout` of the settings holds for all."""

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        """Send the head of the response, and perhaps a first piece of its body."""
        if self.is_over:
            return _gone()
        _, code, reason = start_line
        pairs = [(native_str(name), native_str(value)) for name, value in headers.get_all()]
        if _ITS_OWN in pairs:
            pairs.remove(_ITS_OWN)
        if int(code) < 200:
            self._interim = _interim(f"{code} {reason}", pairs)
            return _done()
        self._interim = b""
        try:
            # What belongs to the connection is prefork's to say.
            fields = [pair for pair in pairs if pair[0].lower() not in HOP_BY_HOP]
            self.exchange.start(f"{code} {reason}", fields)
            if "close" in headers.get("Connection", "").lower():
                self.exchange.close_afterwards()
        except (TypeError, ValueError) as error:
            self.fail(error)
            raise
        return self._send(chunk or b"")

    def write(self, chunk: bytes) -> Future[None]:
        """Send a piece of the body."""
        return _gone() if self.is_over else self._send(chunk)

    def finish(self) -> None:
        """End the response."""
        if self.is_over:
            return
        if self._interim:
            self._loop.call_soon(self._look_for_protocol)
            return
        self._over()
        try:
            self.exchange.finish()
        except ClientDisconnected:
            return  # prefork knows
        except AssertionError as error:  # nothing was begun
            self.exchange.fail(error)
            raise

    def _look_for_protocol(self) -> None:
        """See that somebody speaks another protocol, which was announced."""
        if not self.is_detached:
            self.fail(RuntimeError("a response of 1xx is none, unless the connection is detached"))

    def close(self) -> None:
        """Give the request up, and close the connection."""
        self.fail(ClientDisconnected("closed by the application"))

    def detach(self) -> Stream:
        """Leave the connection to another protocol, and return a stream of it.

        Raises:
            RuntimeError: the response has begun.
        """
        sock, early = self.exchange.take_over()
        self._stage = Stage.TAKEN
        stream = self._detached = Stream(sock, early, self._left)
        self._when_taken(self)
        if self._interim:
            stream.write(self._interim)
        return stream

    def _left(self) -> None:
        if not self.is_over:
            self.exchange.left()
            self._over()

    def _send(self, data: bytes) -> Future[None]:
        try:
            self.exchange.write(data)
        except ClientDisconnected as error:
            self.fail(error)
            return _gone()
        if not self.exchange.is_behind:
            return _done()
        if self._writing is None:
            self._writing = Future()
        return self._writing

    # How it ends

    @property
    def is_detached(self) -> bool:
        """Whether somebody speaks another protocol, or did."""
        return self._detached is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing that the application says reaches anybody."""
        return self._stage is Stage.OVER

    def fail(self, error: BaseException) -> None:
        """Give the request up: answer with an error, or visibly break the response off.

        Args:
            error: the reason; what is not the client's is logged.
        """
        if self._detached is not None:
            self._detached.close()
        elif not self.is_over:
            self._over()
            self.exchange.fail(error)

    def abandon(self) -> None:
        """Give the request up, because prefork's side of it is closed already."""
        if not self.is_over:
            self._over()

    def _over(self) -> None:
        self._stage = Stage.OVER
        self._settle()
        self._when_over(self)

    def _settle(self) -> None:
        """Let the application go on where it has waited for the client."""
        reading, self._reading = self._reading, None
        if reading is not None and not reading.done():
            reading.set_result(None)
        writing = self._writing
        # What was written before the end is prefork's to send.
        if writing is None or (self.exchange.is_behind and not self.exchange.is_gone and not self.is_over):
            return
        self._writing = None
        if writing.done():
            return
        if self.exchange.is_gone:
            writing.set_exception(StreamClosedError())
            writing.exception()
        else:
            writing.set_result(None)

    def _wake(self) -> None:
        self._loop.call_soon(self._woken)

    def _woken(self) -> None:
        """Go on after the client has done something."""
        if self._stage is Stage.ANSWERING and self.exchange.is_gone:
            callback, self._close_callback = self._close_callback, None
            self.fail(self._why_gone())
            if callback is not None:
                callback()
        elif not self.is_over:
            self._settle()

    def _why_gone(self) -> ClientDisconnected:
        try:
            self.exchange.read(1)  # there is none; it says whether the client was too slow
        except ClientDisconnected as error:
            return error
        return ClientDisconnected("the client has gone")

    def go_away(self) -> None:
        """Tell who speaks another protocol on it that the worker stops."""
        handler = None if self._listener is None else self._listener()
        if isinstance(handler, WebSocketHandler):
            handler.close(_GOING_AWAY, "the server is stopping")
        elif self._detached is not None and not self._detached.closed():
            self._detached.socket.shutdown(socket.SHUT_RD)  # its reader finds the end


def _interim(status: str, pairs: list[tuple[str, str]]) -> bytes:
    """Render the head of what is no final response: behind 101 another protocol begins."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in pairs)]
    if any(map(_LINE_END.search, lines)):
        raise ValueError("line end in a response header")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _gone() -> Future[None]:
    """Return what a write to a client that has gone returns."""
    future: Future[None] = Future()
    future.set_exception(StreamClosedError())
    future.exception()  # nobody need look at it
    return future
