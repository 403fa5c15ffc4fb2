# SPDX-License-Identifier: MIT
"""One WebSocket as an ASGI application sees it (ASGI specification, "WebSocket Connection Scope"; RFC 6455).

Until the application accepts it, it is an HTTP request, which can be answered as one. Then the connection is
taken from prefork's HTTP, and the frames are the business of the library `websockets`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from prefork.errors import ClientDisconnected
from prefork_aio.asgi.bell import Bell
from prefork_aio.asgi.cycle import IN_A_ROW, PER_MESSAGE, as_text, status_line
from prefork_aio.asgi.handshake import Handshake

if TYPE_CHECKING:
    import socket

    from prefork.worker import Exchange

_MESSAGES: Final = 16
_BYTES: Final = 64 * 1024
"""Messages, and bytes in them, that wait for the application before its client has to."""

_SLICE: Final = 16 * 1024
"""Bytes that are looked at in one go: of the smallest messages each becomes some hundred times as large."""

_LINGER: Final = 2.0
"""Seconds for which the other end may answer a close."""


class Manners(NamedTuple):
    """What all WebSockets of a worker have in common."""

    max_size: int
    """Bytes of a message."""
    ping: float
    """Seconds between two pings, and for a sign of life after each; 0 for none."""
    compresses: bool
    write_timeout: float
    """Seconds for which a client may take nothing of what was sent before the close; 0 for no limit."""


class Sockets:
    """The WebSockets of a worker.

    Args:
        loop: the running event loop.
        manners: see there.

    Attributes:
        opened: those that are open.
        leaving: whether the worker stops.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, manners: Manners) -> None:
        self.loop = loop
        self.manners = manners
        self.opened: set[WebSocket] = set()
        self.leaving = False

    def leave(self) -> None:
        """Tell all clients, and those that are yet to be accepted, that the worker stops."""
        self.leaving = True
        for each in tuple(self.opened):
            each.go_away()


class Stage(Enum):
    """How far it is."""

    CONNECTING = "connecting"
    """The application has not heard of it yet."""
    ASKED = "asked for"
    """It is to accept, or not."""
    DENYING = "being denied"
    """It sends a response in place of an acceptance."""
    OPEN = "open"
    CLOSED = "closed"
    """By the application."""
    GONE = "gone"
    """Its client has left, or had to be left."""


_UNDECIDED: Final = frozenset({Stage.CONNECTING, Stage.ASKED})


class WebSocket(asyncio.Protocol):
    """A WebSocket.

    Args:
        exchange: the request.
        sockets: all of the worker.

    Attributes:
        task: the one that runs the application, None before.

    Raises:
        ProtocolError: the request is malformed.
    """

    def __init__(self, exchange: Exchange, sockets: Sockets) -> None:
        self._exchange = exchange
        self._sockets = sockets
        self._loop = sockets.loop
        self._manners = manners = sockets.manners
        self._handshake = Handshake(
            exchange.request, max_size=manners.max_size, compresses=manners.compresses
        )
        self._protocol = self._handshake.protocol
        self._stage = Stage.CONNECTING
        self._bell = Bell(self._loop)
        self._messages: deque[tuple[dict[str, Any], int]] = deque()
        self._held = 0  # bytes in them
        self._farewell: dict[str, Any] | None = None
        self._response = b""
        self._unread = b""
        self._parts: list[bytes] = []
        self._is_text = False
        self._transport: asyncio.Transport | None = None
        self._is_reading = True
        self._is_behind = False
        self._row = 0
        self._is_alive = True
        self._timer: asyncio.TimerHandle | None = None
        self._hurries = False
        self._unsent = 0
        self._give_up_at = 0.0
        self._error: BaseException | None = None
        self._is_over = False
        self.task: asyncio.Task[None] | None = None
        exchange.wake = self._wake

    def _wake(self) -> None:
        """Take what has happened to the request, before it is accepted."""
        if self._exchange.is_gone and self._stage in _UNDECIDED:
            self._gone(CloseCode.ABNORMAL_CLOSURE, "")
        self._bell.ring()

    # The application

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        if self._stage is Stage.CONNECTING:
            self._stage = Stage.ASKED
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._farewell is not None:
                return self._farewell.copy()
            await self._bell.wait()
        message, size = self._messages.popleft()
        self._held -= size
        self._read_on()
        return message

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: the client has gone (ASGI 2.4).
            RuntimeError: the message has no place here.
            ValueError, TypeError, KeyError: it is malformed.
        """
        kind = message["type"]
        stage = self._stage
        if stage is Stage.GONE:
            if kind != "websocket.close":  # else it is as the application wants it
                raise ClientDisconnected("the client has left the WebSocket")
        elif kind == "websocket.send" and stage is Stage.OPEN:
            await self._send(message)
        elif kind == "websocket.accept" and stage in _UNDECIDED:
            await self._accept(message)
        elif kind == "websocket.close" and stage is Stage.OPEN:
            self._close(message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason") or "")
        elif kind == "websocket.close" and stage in _UNDECIDED:
            self._exchange.start("403 Forbidden", [])
            self._finish(b"")
        elif kind == "websocket.http.response.start" and stage in _UNDECIDED:
            self._exchange.start(status_line(message["status"]), as_text(message.get("headers", ()))[0])
            self._stage = Stage.DENYING
        elif kind == "websocket.http.response.body" and stage is Stage.DENYING:
            await self._send_denial(message)
        else:
            raise RuntimeError(f"unexpected message {kind!r}: the WebSocket is {stage.value}")

    async def _accept(self, message: dict[str, Any]) -> None:
        response = self._handshake.accept(message.get("subprotocol"), as_text(message.get("headers", ()))[0])
        sock, self._unread = self._exchange.take_over()
        self._stage = Stage.OPEN
        self._sockets.opened.add(self)
        await self._connect(sock, response)
        self._read_on()
        if self._manners.ping and not self._hurries:
            self._timer = self._loop.call_later(self._manners.ping, self._look)
        if self._sockets.leaving:
            self.go_away()

    async def _connect(self, sock: socket.socket, response: bytes) -> None:
        """Have the event loop watch the connection, and accept it."""
        self._response = response
        try:
            await self._loop.connect_accepted_socket(lambda: self, sock)
        except OSError as error:
            sock.close()
            self.connection_lost(error)
            raise ClientDisconnected(str(error)) from error

    async def _send(self, message: dict[str, Any]) -> None:
        data, text = message.get("bytes"), message.get("text")
        if text is not None:
            data = text.encode("utf-8")
            self._protocol.send_text(data)
        elif data is not None:
            self._protocol.send_binary(data)
        else:
            raise ValueError("a message of a WebSocket has bytes or text")
        self._flush()
        self._row += len(data) + PER_MESSAGE
        if self._is_behind:
            await self._wait_to_send()
        elif self._row >= IN_A_ROW:
            self._row = 0
            await asyncio.sleep(0)  # let others have a turn: this client takes all at once
        transport = self._transport
        if transport is not None and transport.is_closing():
            # Told by the transport first, and by `connection_lost` in a later turn.
            raise ClientDisconnected("the client has left the WebSocket")

    async def _wait_to_send(self) -> None:
        while self._is_behind and self._stage is Stage.OPEN:
            await self._bell.wait()

    def _close(self, code: int, reason: str) -> None:
        self._protocol.send_close(code, reason)
        self._stage = Stage.CLOSED
        self._flush()
        self._hurry()
        self._read_on()

    async def _send_denial(self, message: dict[str, Any]) -> None:
        body = message.get("body", b"")
        if not message.get("more_body", False):
            self._finish(body)
            return
        self._exchange.write(body)
        while self._exchange.is_behind:
            await self._bell.wait()

    def _finish(self, body: bytes) -> None:
        """End the response in place of an acceptance."""
        self._exchange.finish(body)
        self._is_over = True
        self._stage = Stage.CLOSED
        self._farewell = _disconnect(CloseCode.ABNORMAL_CLOSURE, "")
        self._bell.ring()

    def returned(self) -> None:
        """Note that the application has returned."""
        if self._stage is Stage.OPEN:
            self._close(CloseCode.NORMAL_CLOSURE, "")
        elif self._stage is Stage.GONE:
            self._give_up(ClientDisconnected("the client went away"))
        else:
            self._give_up(RuntimeError("the application returned without an answer to the WebSocket"))

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised."""
        if self._stage is Stage.OPEN:
            self._error = error
            self._close(CloseCode.INTERNAL_ERROR, "")
        elif self._stage is not Stage.GONE or not isinstance(error, OSError):
            self._error = error
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """End the request, if it is one still."""
        if self in self._sockets.opened:
            self._hurry()
        elif not self._is_over:
            self._is_over = True
            self._exchange.fail(error)

    def go_away(self) -> None:
        """Tell both ends that the worker stops (RFC 6455 §7.4.1)."""
        if self._stage is Stage.OPEN:
            self._protocol.send_close(CloseCode.GOING_AWAY)
            self._flush()
            self._gone(CloseCode.GOING_AWAY, "")
            self._hurry()
            self._read_on()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note what bytes are sent with."""
        # Those of uvloop are no subclass.
        self._transport = made = cast("asyncio.Transport", transport)
        made.write(self._response)

    def data_received(self, data: bytes) -> None:
        """Take bytes of frames."""
        self._is_alive = True
        self._unread += data
        self._read_on()

    def eof_received(self) -> None:
        """Take the end of what the client sends."""
        self._protocol.receive_eof()
        self._take_events()

    def connection_lost(self, _error: Exception | None) -> None:
        """Take the end of the connection."""
        self._sockets.opened.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        close = self._protocol.close_rcvd
        if close is None:
            self._gone(CloseCode.ABNORMAL_CLOSURE, "")
        else:
            self._gone(close.code, close.reason)
        self.resume_writing()
        if not self._is_over:
            self._is_over = True
            error, self._error = self._error, None  # whose frames have this object
            self._exchange.left(error)

    def pause_writing(self) -> None:
        """Make the application wait: the client is behind."""
        self._is_behind = True

    def resume_writing(self) -> None:
        """Let it go on."""
        self._is_behind = False
        self._is_alive = True
        self._bell.ring()

    # Reading

    def _read_on(self) -> None:
        """Look at what has arrived, as far as there is room for it, and have more of it read then."""
        while self._unread and self._has_room():
            piece, self._unread = self._unread[:_SLICE], self._unread[_SLICE:]
            self._protocol.receive_data(piece)
            self._take_events()
        reads = not self._unread and self._has_room()
        transport = self._transport
        if reads is self._is_reading or transport is None or transport.is_closing():
            return
        self._is_reading = reads
        if reads:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _has_room(self) -> bool:
        """Return whether the application is not behind. When all is over nothing is kept for it."""
        if self._stage is not Stage.OPEN:
            return True
        return len(self._messages) < _MESSAGES and self._held < _BYTES

    def _take_events(self) -> None:
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame):
                self._take(frame)
        self._flush()
        if self._protocol.state is State.OPEN:
            return
        close = self._protocol.close_rcvd
        if close is None and self._stage is Stage.OPEN:
            close = self._protocol.close_sent  # because of what the client has sent
        if close is not None:
            self._gone(close.code, close.reason)
        self._hurry()

    def _take(self, frame: Frame) -> None:
        """Take a frame. The library answers pings and closes by itself, and has checked their order."""
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
        else:
            return
        if not frame.fin:
            return
        data, self._parts = b"".join(self._parts), []
        if not self._is_text:
            self._deliver({"type": "websocket.receive", "bytes": data}, len(data))
            return
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return
        self._deliver({"type": "websocket.receive", "text": text}, len(data))

    def _deliver(self, message: dict[str, Any], size: int) -> None:
        if self._stage is Stage.OPEN:
            self._messages.append((message, size))
            self._held += size
            self._bell.ring()

    def _gone(self, code: int, reason: str) -> None:
        """Tell the application that the client has gone."""
        if self._farewell is None:
            self._farewell = _disconnect(code, reason)
        if self._stage is not Stage.CLOSED:
            self._stage = Stage.GONE
        self._bell.ring()

    def _fail(self, code: int, reason: str) -> None:
        """Leave a client that breaks the rules (RFC 6455 §7.1.7)."""
        if self._protocol.state is State.OPEN:
            self._protocol.fail(code, reason)
        if self._stage is Stage.OPEN:
            self._gone(code, reason)

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            else:
                # Not a close: with bytes of the client unread that is a reset, which may reach it before the
                # last frame does.
                transport.write_eof()

    # Time

    def _look(self) -> None:
        """Ask whether the other end is still there; leave it if it gave no sign since it was last asked."""
        if self._protocol.state is not State.OPEN:
            return
        # What it says is not looked at while the application is behind.
        if not self._is_alive and self._is_reading:
            self._fail(CloseCode.INTERNAL_ERROR, "no answer to a ping")
            self._flush()
            self._hurry()
            return
        self._is_alive = False
        self._protocol.send_ping(b"")
        self._flush()
        self._timer = self._loop.call_later(self._manners.ping, self._look)

    def _hurry(self) -> None:
        """Wait for the end of the connection for a while only (RFC 6455 §7.1.1)."""
        if self._hurries or self not in self._sockets.opened:
            return
        self._hurries = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_LINGER, self._end)

    def _end(self) -> None:
        """End it, unless the client still takes what was sent before."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        now = self._loop.time()
        if unsent != self._unsent:
            self._unsent = unsent
            self._give_up_at = now + self._manners.write_timeout
        if unsent and (not self._manners.write_timeout or now < self._give_up_at):
            self._timer = self._loop.call_later(_LINGER, self._end)
        else:
            transport.abort()


def _disconnect(code: int, reason: str) -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": int(code), "reason": reason}
