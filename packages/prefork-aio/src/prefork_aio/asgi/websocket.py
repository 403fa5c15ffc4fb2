# SPDX-License-Identifier: MIT
"""One WebSocket as an ASGI application sees it (ASGI specification, "WebSocket Connection Scope"; RFC 6455).

Until the application accepts it, it is an HTTP request, which can be answered as one. Then the connection is
taken from prefork's HTTP, and the frames are the business of the library `websockets`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from prefork.errors import ClientDisconnected
from prefork_aio.asgi.cycle import as_text

if TYPE_CHECKING:
    import socket

    from websockets.datastructures import Headers

    from prefork.http import Request
    from prefork.worker import Exchange

_QUEUE: Final = 16
"""Messages that may wait for the application before the client has to."""


def is_asked_for(request: Request) -> bool:
    """Return whether a request asks for a WebSocket (RFC 6455 §4.2.1)."""
    upgrade = request.fields.get("HTTP_UPGRADE")
    if upgrade is None or upgrade.lower() != "websocket" or request.method != "GET":
        return False
    connection = request.fields.get("HTTP_CONNECTION", "")
    return "upgrade" in [token.strip().lower() for token in connection.split(",")]


class Manners(NamedTuple):
    """What all WebSockets of a worker have in common."""

    max_size: int
    """Bytes of a message."""
    ping: float
    """Seconds between two pings, and for the answer; 0 for none."""
    compresses: bool


class Stage(Enum):
    """How far the application is."""

    CONNECTING = "connecting"
    """It has not heard of it yet."""
    ASKED = "asked"
    """It is to accept, or not."""
    DENYING = "denying"
    """It sends a response in place of an acceptance."""
    OPEN = "open"
    CLOSED = "closed"


class WebSocket(asyncio.Protocol):
    """A WebSocket.

    Args:
        exchange: the request.
        loop: the running event loop.
        manners: see there.
        open_ones: where it is while it is open.

    Attributes:
        task: the one that runs the application, None before.
    """

    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        manners: Manners,
        open_ones: set[WebSocket],
    ) -> None:
        self._exchange = exchange
        self._loop = loop
        self._manners = manners
        self._open_ones = open_ones
        self._stage = Stage.CONNECTING
        self._messages: deque[dict[str, Any]] = deque()
        self._parts: list[bytes] = []
        self._is_text = False
        self._receiver: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_told = False
        self._has_left = False
        self.task: asyncio.Task[None] | None = None
        extensions = [ServerPerMessageDeflateFactory()] if manners.compresses else None
        self._protocol = ServerProtocol(extensions=extensions, max_size=manners.max_size)
        exchange.wake = self._wake

    # From the client, before it is accepted

    def _wake(self) -> None:
        if self._exchange.is_gone and self._stage in {Stage.CONNECTING, Stage.ASKED}:
            self._disconnected(CloseCode.ABNORMAL_CLOSURE, "")

    # The application

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        if self._stage is Stage.CONNECTING:
            self._stage = Stage.ASKED
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._stage is Stage.CLOSED and self._is_told:
                return _disconnect(CloseCode.ABNORMAL_CLOSURE, "")
            if self._receiver is None or self._receiver.done():
                self._receiver = self._loop.create_future()
            await self._receiver
        message = self._messages.popleft()
        self._pace()
        return message

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: the client has gone (ASGI 2.4).
            RuntimeError: the message has no place here.
            ValueError, TypeError, KeyError: it is malformed.
        """
        kind = message["type"]
        if self._stage is Stage.CLOSED:
            raise ClientDisconnected("the WebSocket is closed")
        if kind == "websocket.send" and self._stage is Stage.OPEN:
            await self._send(message)
        elif kind == "websocket.accept" and self._stage in {Stage.CONNECTING, Stage.ASKED}:
            await self._accept(message)
        elif kind == "websocket.close":
            self._close(message)
        elif kind == "websocket.http.response.start" and self._stage in {Stage.CONNECTING, Stage.ASKED}:
            self._deny(message)
        elif kind == "websocket.http.response.body" and self._stage is Stage.DENYING:
            self._send_denial(message)
        else:
            raise RuntimeError(f"unexpected message {kind!r}: the WebSocket is {self._stage.value}")

    async def _accept(self, message: dict[str, Any]) -> None:
        protocol = self._protocol
        request = self._exchange.request
        protocol.receive_data(request.raw + b"\r\n\r\n")
        (handshake,) = protocol.events_received()
        assert isinstance(handshake, Handshake)
        response = protocol.accept(handshake)
        if response.status_code != 101:
            # The client has asked in a way that RFC 6455 does not know: no application can accept that.
            fields = [(name, value) for name, value in response.headers.raw_items() if name != "Connection"]
            self._exchange.start(f"{response.status_code} {response.reason_phrase}", fields)
            self._finish(bytes(response.body or b""))
            raise ClientDisconnected("the handshake of the WebSocket is malformed")
        if subprotocol := message.get("subprotocol"):
            response.headers["Sec-WebSocket-Protocol"] = subprotocol
        _add(response.headers, as_text(message.get("headers", ()))[0])
        sock, early = self._exchange.take_over()
        self._stage = Stage.OPEN
        self._open_ones.add(self)
        protocol.send_response(response)
        await self._connect(sock)
        if early:
            self.data_received(early)

    async def _connect(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self, sock)
        except OSError as error:
            sock.close()
            self.connection_lost(error)
            raise ClientDisconnected(str(error)) from error
        self._flush()
        if self._manners.ping:
            self._timer = self._loop.call_later(self._manners.ping, self._ping)

    async def _send(self, message: dict[str, Any]) -> None:
        data, text = message.get("bytes"), message.get("text")
        if text is not None:
            self._protocol.send_text(text.encode("utf-8"))
        elif data is not None:
            self._protocol.send_binary(data)
        else:
            raise ValueError("a message of a WebSocket has bytes or text")
        self._flush()
        while self._drained is not None and self._stage is Stage.OPEN:
            await self._drained

    def _close(self, message: dict[str, Any]) -> None:
        if self._stage is Stage.DENYING:
            raise RuntimeError("the response in place of the WebSocket has begun")
        if self._stage is not Stage.OPEN:
            self._exchange.start("403 Forbidden", [])
            self._finish(b"")
            return
        self._stage = Stage.CLOSED
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(
                message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or ""
            )
            self._flush()
            self._hurry()

    def _deny(self, message: dict[str, Any]) -> None:
        fields, _ = as_text(message.get("headers", ()))
        self._exchange.start(f"{message['status']:d} ", fields)
        self._stage = Stage.DENYING

    def _send_denial(self, message: dict[str, Any]) -> None:
        body = message.get("body", b"")
        if message.get("more_body", False):
            self._exchange.write(body)
        else:
            self._finish(body)

    def _finish(self, body: bytes) -> None:
        self._stage = Stage.CLOSED
        self._exchange.finish(body)
        self._has_left = True

    def returned(self) -> None:
        """Note that the application has returned."""
        if self._stage is Stage.OPEN:
            self._close({})
        elif self._stage is not Stage.CLOSED:
            if self._exchange.is_gone:
                error: Exception = ClientDisconnected("the client went away")
            else:
                error = RuntimeError("the application returned without an answer to the WebSocket")
            self._give_up(error)
        self._hurry()

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised."""
        if self._transport is None:
            self._give_up(error)
            return
        gone = isinstance(error, OSError) and self._stage is Stage.CLOSED
        if not gone and not isinstance(error, asyncio.CancelledError):
            self._loop.call_exception_handler(
                {"message": "error in the application: a WebSocket", "exception": error}
            )
        if self._stage is Stage.OPEN:
            code = (
                CloseCode.GOING_AWAY
                if isinstance(error, asyncio.CancelledError)
                else CloseCode.INTERNAL_ERROR
            )
            self._close({"code": code})
        self._hurry()

    def _give_up(self, error: BaseException) -> None:
        self._stage = Stage.CLOSED
        if not self._has_left:
            self._has_left = True
            self._exchange.fail(error)

    def go_away(self) -> None:
        """Tell the client that the worker stops (RFC 6455 §7.4.1)."""
        if self._stage is Stage.OPEN and self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.GOING_AWAY)
            self._flush()
            self._hurry()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note what bytes are sent with."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take bytes of frames."""
        self._protocol.receive_data(data)
        self._take_events()

    def eof_received(self) -> None:
        """Take the end of what the client sends."""
        self._protocol.receive_eof()
        self._take_events()

    def connection_lost(self, _error: Exception | None) -> None:
        """Take the end of the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._open_ones.discard(self)
        protocol = self._protocol
        if protocol.state is not State.CLOSED:
            protocol.receive_eof()
        code = protocol.close_code
        self._disconnected(CloseCode.ABNORMAL_CLOSURE if code is None else code, protocol.close_reason or "")
        self.resume_writing()
        if not self._has_left:
            self._has_left = True
            self._exchange.left()

    def pause_writing(self) -> None:
        """Make the application wait: the client is behind."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let it go on."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _take_events(self) -> None:
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame):
                self._take(frame)
        self._flush()
        if self._protocol.close_expected() or self._protocol.state is not State.OPEN:
            self._hurry()
        self._pace()

    def _take(self, frame: Frame) -> None:
        """Take a frame. The library answers pings and closes by itself, and has checked what is in them."""
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
        elif frame.opcode is Opcode.PONG:
            self._restart_pings()
            return
        else:
            return
        if not frame.fin:
            return
        data, self._parts = b"".join(self._parts), []
        if not self._is_text:
            self._deliver({"type": "websocket.receive", "bytes": data})
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return
        self._deliver({"type": "websocket.receive", "text": text})

    def _deliver(self, message: dict[str, Any]) -> None:
        if self._is_told:
            return
        self._messages.append(message)
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _disconnected(self, code: int, reason: str) -> None:
        """Tell the application that the client has gone."""
        self._stage = Stage.CLOSED
        self._deliver(_disconnect(code, reason))
        self._is_told = True

    def _pace(self) -> None:
        """Read no more while the application is behind."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._is_reading and len(self._messages) >= _QUEUE:
            transport.pause_reading()
            self._is_reading = False
        elif not self._is_reading and len(self._messages) < _QUEUE:
            transport.resume_reading()
            self._is_reading = True

    def _flush(self) -> None:
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if data:
                transport.write(data)
            else:  # the end of what is sent
                transport.close()

    # Time

    def _ping(self) -> None:
        """Ask whether the other end is still there."""
        if self._protocol.state is not State.OPEN:
            return
        self._protocol.send_ping(b"")
        self._flush()
        self._timer = self._loop.call_later(self._manners.ping, self._drop)

    def _restart_pings(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._manners.ping, self._ping)

    def _hurry(self) -> None:
        """Wait for the end of the connection for a while only (RFC 6455 §7.1.1)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None and not self._transport.is_closing():
            self._timer = self._loop.call_later(_LINGER, self._drop)

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


_LINGER: Final = 2.0
"""Seconds for which the other end may answer a close."""


def _disconnect(code: int, reason: str) -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": int(code), "reason": reason}


def _add(headers: Headers, fields: list[tuple[str, str]]) -> None:
    for name, value in fields:
        if "\r" in value or "\n" in value or "\0" in value:
            raise ValueError(f"control character in response header {name!r}")
        headers[name] = value
