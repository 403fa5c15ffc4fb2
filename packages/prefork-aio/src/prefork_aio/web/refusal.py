# SPDX-License-Identifier: MIT
"""What a client is answered that has sent no request that could be served.

Decides which status that has. The answer itself is the same as from every other worker class.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.hdrs import TRANSFER_ENCODING
from aiohttp.http import HttpProcessingError, HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import LineTooLong

from prefork.errors import ProtocolError
from prefork.http.response import error_head

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage

_TOO_MANY = "Too many headers"
"""How aiohttp's message begins when there are more fields than may be."""


_QUOTING = re.compile(r"[\n:'\"]")
"""Where a message begins to quote the peer."""


def status_of(error: BaseException | None) -> int:
    """Return the status for an error of aiohttp's parser, 0 for another error."""
    if isinstance(error, LineTooLong):
        # It does not say which line; of its C parser the target is the only one that comes as a bytearray.
        return 414 if isinstance(error.args[0], bytearray) else 431
    if isinstance(error, HttpProcessingError):
        return 431 if error.message.startswith(_TOO_MANY) else 400
    return 400 if isinstance(error, web.RequestPayloadError) else 0


def fault_of(message: RawRequestMessage) -> ProtocolError | None:
    """Return why a head that aiohttp takes is refused, None if it is not.

    Servers in a row may see different requests where a body is framed in these ways (RFC 9112 §6.1).

    Args:
        message: the head; of another version than 1.1, or with a transfer coding.
    """
    if message.version not in (HttpVersion10, HttpVersion11):
        return ProtocolError("unknown version", 505)
    codings = [each.lower() for each in message.headers.getall(TRANSFER_ENCODING, ())]
    if codings and message.version == HttpVersion10:
        return ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
    if codings not in ([], ["chunked"]):
        return ProtocolError("transfer coding not implemented", 501)
    return None


def reason_of(error: BaseException | None) -> str:
    """Return what was wrong, without bytes of the peer, so that it can be logged."""
    if isinstance(error, LineTooLong):
        return "too long a line in the head"
    message = error.message if isinstance(error, HttpProcessingError) else str(error)
    return _QUOTING.split(message, maxsplit=1)[0].strip() or "bad request"


def rendered(status: int, server: str, method: str = "") -> bytes:
    """Return a whole answer.

    Args:
        status: its status.
        server: the value of its Server field, "" for none.
        method: of the request, "" when there was none.
    """
    return error_head(status, method=method, date=formatdate(usegmt=True), server=server)


def body_of(answer: bytes) -> int:
    """Return how many bytes the body of a whole answer has."""
    return len(answer) - answer.index(b"\r\n\r\n") - 4


class Refusal(web.StreamResponse):
    """Such an answer, where aiohttp wants a response. It sends itself as it is.

    Args:
        status: its status.
        answer: all of its bytes.
    """

    def __init__(self, status: int, answer: bytes) -> None:
        super().__init__(status=status)
        self.force_close()
        self._answer = answer

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it."""
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client went away")
        request.transport.write(self._answer)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing more."""
