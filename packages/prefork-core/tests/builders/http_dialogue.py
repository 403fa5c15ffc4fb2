# SPDX-License-Identifier: MIT
"""A client and a server without a network: feeds bytes to a connection, and notes what came of them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.errors import ClientDisconnected, ProtocolError
from prefork.http import Limits, ServerConnection, check_head
from prefork.http.states import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.http import Request

DATE: Final = "Tue, 15 Nov 1994 08:12:31 GMT"


class Got(NamedTuple):
    """A request that the server has accepted."""

    method: str
    target: str
    path: str
    query: str
    version: str
    fields: tuple[tuple[str, str], ...]
    underscored: tuple[tuple[str, tuple[str, ...]], ...]
    content_length: int
    persistent: bool
    expects_continue: bool
    raw: bytes


class Body(NamedTuple):
    """The body of the last request, as far as it came."""

    data: bytes
    whole: bool


class Refused(NamedTuple):
    """What was received was refused with this status."""

    status: int


class Cut(NamedTuple):
    """The client went away in the middle of a body."""


class Closed(NamedTuple):
    """The connection closes after a response."""


Event = Got | Body | Refused | Cut | Closed


def got(request: Request) -> Got:
    """Return all that a request says, in a form that can be compared."""
    return Got(
        request.method,
        request.target,
        request.path,
        request.query,
        request.version,
        tuple(request.fields.items()),
        tuple((name, tuple(lines)) for name, lines in request.underscored.items()),
        request.content_length,
        request.persistent,
        request.expects_continue,
        request.raw,
    )


class Dialogue:
    """A server that answers every whole request with an empty 200, and what it saw.

    Args:
        limits: of the server.
        piece: the most bytes of body it reads at once.
    """

    def __init__(self, limits: Limits | None = None, piece: int = 65536) -> None:
        self.connection = ServerConnection(limits or Limits())
        self.events: list[Event] = []
        self._piece = piece
        self._body: bytearray | None = None
        self._over = False

    def hear(self, data: bytes) -> None:
        """Receive bytes, b"" for the end, and act on them as far as possible."""
        self.connection.feed(data)
        try:
            while not self._over and self._step():
                pass
        except ProtocolError as error:
            self._end(Refused(error.status))
        except ClientDisconnected:
            self._end(Cut())
        if self._over:
            assert self.connection.next_request() is None, "something was read after the end"

    def _end(self, event: Event) -> None:
        self._over = True
        if self._body is not None:
            self.events.append(Body(bytes(self._body), whole=False))
        self.events.append(event)

    def _step(self) -> bool:
        if self._body is None:
            request = self.connection.next_request()
            if request is None:
                return False
            self.events.append(got(request))
            self._body = bytearray()
        piece = self.connection.read_body(self._piece)
        if piece is None:
            return False
        self._body += piece
        if not piece:
            self._answer()
        return True

    def _answer(self) -> None:
        assert self._body is not None
        assert self.connection.reading is Reading.DONE
        self.events.append(Body(bytes(self._body), whole=True))
        self._body = None
        self.connection.start_response(check_head("200 OK", []), 0, date=DATE, server="")
        self.connection.end_response()
        if not self.connection.next_cycle():
            self._end(Closed())

    def finished(self) -> list[Event]:
        """Return the events, with the part that came of an unfinished body."""
        if self._over or self._body is None:
            return self.events
        return [*self.events, Body(bytes(self._body), whole=False)]


def converse(pieces: Iterable[bytes], limits: Limits | None = None, piece: int = 65536) -> list[Event]:
    """Return what a server makes of bytes that arrive in these pieces."""
    dialogue = Dialogue(limits, piece)
    for data in pieces:
        if data:
            dialogue.hear(data)
    return dialogue.finished()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return bytes in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def singly(data: bytes) -> list[bytes]:
    """Return bytes one by one."""
    return [data[at : at + 1] for at in range(len(data))]
