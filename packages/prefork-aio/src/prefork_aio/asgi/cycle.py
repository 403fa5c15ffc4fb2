# SPDX-License-Identifier: MIT
"""One HTTP request as an ASGI application sees it: `receive` and `send`.

Decides the order of messages (ASGI specification, "HTTP Connection Scope"). The head of a response is held
until its first body message, so that both are one write.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ClientDisconnected
from prefork.http.known import PATIENCE, Known
from prefork.http.response import may_come_again
from prefork_aio.asgi.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from prefork.worker import Exchange

_STATUSES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_DROPPED: Final = frozenset(
    {"transfer-encoding", "keep-alive", "upgrade", "te", "trailer", "proxy-connection"}
)
"""What belongs to the connection, and is the server's to say (RFC 9110 §7.6.1). ASGI wants it ignored."""

_CONNECTION: Final = "connection"

_WENT_AWAY: Final = "the client went away"

_DEEPEST: Final = 16
"""Exceptions behind one that are looked at."""

IN_A_ROW: Final = 256 * 1024
"""Bytes that one application sends before others have a turn, though its client takes them at once."""

PER_MESSAGE: Final = 1024
"""What each message counts beside its bytes."""

_KEPT: Final = 1024
_names: dict[bytes, str] = {}
"""Name as given → that name as text, of those that do not belong to the connection."""

# Status and headers as given → the same as text.
_starts: Known[tuple[object, ...], tuple[str, list[tuple[str, str]], bool]] = Known()


class Stage(Enum):
    """How far the response is."""

    NOTHING = "nothing"
    STARTED = "started"
    BODY = "body"
    ENDED = "ended"


NOTHING: Final = Stage.NOTHING
STARTED: Final = Stage.STARTED
BODY: Final = Stage.BODY
ENDED: Final = Stage.ENDED


class Cycle:
    """A request and its response.

    Args:
        exchange: what has come.

    Attributes:
        task: the one that runs the application, None before.
    """

    __slots__ = ("_bell", "_body_ended", "_exchange", "_held", "_row", "_stage", "_told", "task")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._stage = NOTHING
        self._held: bytes | None = None
        self._body_ended = False
        self._bell: Bell | None = None
        self._told: ClientDisconnected | None = None
        self._row = 0
        self.task: asyncio.Task[None] | None = None

    def _wake(self) -> None:
        """Let whoever waits for the client look again."""
        if self._bell is not None:
            self._bell.ring()

    async def _wait(self) -> None:
        if self._bell is None:
            self._bell = Bell(asyncio.get_running_loop())
            self._exchange.wake = self._bell.ring
        await self._bell.wait()

    # The request

    async def receive(self) -> dict[str, Any]:
        """Return the next message: pieces of the body, then, when it is so, that the client has gone."""
        while self._stage is not ENDED:
            if not self._body_ended:
                try:
                    message = self._take_body()
                except ClientDisconnected as error:
                    self._told = error.with_traceback(None)  # whose frames have this object
                    break
                if message is not None:
                    return message
            elif self._exchange.is_gone:
                self._told = self._told or ClientDisconnected(_WENT_AWAY)
                break
            await self._wait()
        return {"type": "http.disconnect"}

    def _take_body(self) -> dict[str, Any] | None:
        """Return a message with what has arrived of the body, None for nothing."""
        piece, self._held = self._held, None
        if piece is None:
            piece = self._exchange.read()
        if piece is None:
            return None
        if piece:
            self._held = self._exchange.read()
        self._body_ended = piece == b"" or self._held == b""
        return {"type": "http.request", "body": piece, "more_body": not self._body_ended}

    # The response

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message: the start of a response, a piece of its body, or a file as all of it.

        Raises:
            OSError: the client has gone (ASGI 2.4).
            RuntimeError: the message has no place here.
            ValueError, TypeError, KeyError: it is malformed.
        """
        kind = message["type"]
        stage = self._stage
        if kind == "http.response.body" and (stage is STARTED or stage is BODY):
            body = message.get("body", b"")
            if not message.get("more_body", False):
                self._exchange.finish(body)
                self._stage = ENDED  # only now: a body that is no bytes leaves all as it was
                if self._bell is not None:
                    self._bell.ring()
                return
            self._stage = BODY
            self._exchange.write(body)
            if self._exchange.is_behind:
                await self._wait_to_send()
            else:
                self._row += len(body) + PER_MESSAGE
                if self._row >= IN_A_ROW:
                    await self._step_back()
        elif kind == "http.response.start" and stage is NOTHING:
            self._start(message)
        elif kind == "http.response.pathsend" and stage is STARTED:
            file = _open(message["path"])
            self._stage = ENDED
            self._exchange.finish_with_file(file)
            self._wake()
        elif self._exchange.is_gone:
            raise ClientDisconnected(_WENT_AWAY)
        else:
            raise RuntimeError(f"unexpected message {kind!r}: the response has {_WORDS[stage]}")

    def _start(self, message: dict[str, Any]) -> None:
        line, fields, closes = start_as_text(message["status"], message.get("headers", ()))
        self._exchange.start(line, fields)
        if closes:
            self._exchange.close_afterwards()
        self._stage = STARTED

    async def _wait_to_send(self) -> None:
        while self._exchange.is_behind:
            await self._wait()
        if self._exchange.is_gone:
            self._exchange.write(b"")  # raises what it was

    async def _step_back(self) -> None:
        """Let others have a turn: a client that takes all at once, or a HEAD, would never be waited for."""
        self._row = 0
        await asyncio.sleep(0)
        if self._exchange.is_gone and self._exchange.request.method == "HEAD":
            raise ClientDisconnected(_WENT_AWAY)  # no write will find out

    # The end

    def returned(self) -> None:
        """Note that the application has returned."""
        if self._stage is ENDED:
            return
        if self._exchange.is_gone:
            self.failed(self._told or ClientDisconnected(_WENT_AWAY))
        else:
            self.failed(RuntimeError(f"the application returned, but its response has {_WORDS[self._stage]}"))

    def failed(self, error: BaseException) -> None:
        """Note that the application has raised; what it raises after its response is for the log.

        What it raises because its client has gone is no error: frameworks have exceptions for that.
        """
        told = self._told or _disconnect_behind(error)
        if self._stage is not ENDED and told is not None and error is not told:
            told.args = (f"{told} (the application raised {error!r})", *told.args[1:])
            error = told
        self._stage = ENDED
        self._told = None
        self._exchange.fail(error)
        self._wake()


_WORDS: Final = {
    NOTHING: "not begun",
    STARTED: "begun, and no body followed",
    BODY: "not ended",
    ENDED: "ended",
}


def _disconnect_behind(error: BaseException) -> ClientDisconnected | None:
    """Return what a client did that has led to an exception, None for nothing."""
    for _ in range(_DEEPEST):
        if isinstance(error, ClientDisconnected):
            return error
        before = error.__cause__ or error.__context__
        if before is None:
            break
        error = before
    return None


def _open(path: str) -> BinaryIO:
    return Path(path).open("rb")


def status_line(status: int) -> str:
    """Return a status with its phrase, or without one that has none."""
    return _STATUSES.get(status) or f"{status:d} "


def start_as_text(
    status: int, headers: Iterable[tuple[bytes, bytes]]
) -> tuple[str, list[tuple[str, str]], bool]:
    """Return the start of a response as text.

    Args:
        status: its code.
        headers: names and values.

    Returns:
        The status line, and what `as_text` returns. The next response may have the same list, so nobody
        changes it.
    """
    if type(headers) is not list:  # an iterator can be asked once only
        return status_line(status), *as_text(headers)
    if _starts.patience <= 0:
        _starts.rest()
        return status_line(status), *as_text(headers)
    try:
        key = (status, *headers)
        known = _starts.get(key)
    except TypeError:  # lists, or bytearrays
        return status_line(status), *as_text(headers)
    if known is not None:
        if _starts.patience < PATIENCE:
            _starts.patience += 1
        return known
    start = status_line(status), *as_text(headers)
    if may_come_again("".join(f"\r\n{name}: {value}" for name, value in start[1])):
        _starts.keep(key, start)
    return start


def as_text(headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], bool]:
    """Return fields as text, without those that are for the server to say.

    Args:
        headers: names and values.

    Returns:
        The fields, and whether one of them asks for the end of the connection.
    """
    pairs = headers if type(headers) is list else list(headers)
    try:
        return [(_names[name], str(value, "latin-1")) for name, value in pairs], False
    except KeyError:
        return _look_at(pairs)


def _look_at(pairs: list[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], bool]:
    """Return fields as `as_text`, with names that were not seen before, or are the server's."""
    fields = []
    closes = False
    for name, value in pairs:
        text = str(name, "latin-1")
        lower = text.lower()
        if lower == _CONNECTION:
            closes = closes or b"close" in value.lower()
        elif lower not in _DROPPED:
            fields.append((text, str(value, "latin-1")))
            if len(_names) < _KEPT:
                _names[bytes(name)] = text
    return fields, closes
