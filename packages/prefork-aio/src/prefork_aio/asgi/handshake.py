# SPDX-License-Identifier: MIT
"""The opening of a WebSocket (RFC 6455 §4.2): which requests ask for one, and what accepts it.

Decides what is malformed before the application hears of it, and what an application may say in its
acceptance. Keys and extensions are the business of the library `websockets`.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as Opening
from websockets.protocol import State
from websockets.server import ServerProtocol

from prefork.errors import ProtocolError
from prefork.http.framing import asks_upgrade
from prefork.http.response import check_head

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.http import Request
    from prefork.worker import Exchange

VERSION: Final = "13"

_OURS: Final = "sec-websocket-"
"""How the names begin of fields that are for the server to say."""

_LOOKED_AT: Final = (b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version")
_EXTENSIONS: Final = b"sec-websocket-extensions"

_DEFLATE: Final = ServerPerMessageDeflateFactory(
    # 4 KiB of window for each direction where 32 would be usual: an idle WebSocket keeps both.
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)


def is_asked_for(request: Request) -> bool:
    """Return whether a request asks for a WebSocket; if not it is like any other."""
    upgrade = request.fields.get("HTTP_UPGRADE")
    if upgrade is None or upgrade.lower() != "websocket":
        return False
    return request.method == "GET" and asks_upgrade(request)


def is_refused(exchange: Exchange) -> bool:
    """Answer a client that speaks another version of the protocol; return whether it does (RFC 6455 §4.4).

    Not with 426: that must name the protocol in Upgrade (RFC 9110 §15.5.22), and it has been named already.
    """
    if exchange.request.fields.get("HTTP_SEC_WEBSOCKET_VERSION") == VERSION:
        return False
    exchange.start("400 Bad Request", [("Sec-WebSocket-Version", VERSION)])
    exchange.finish()
    return True


def offered(request: Request) -> list[str]:
    """Return the subprotocols that a client offers, in its order."""
    named = request.fields.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    return [name for part in named.split(",") if (name := part.strip())]


class Handshake:
    """The opening of one WebSocket.

    Args:
        request: one that asks for it.
        max_size: bytes that a message may have.
        compresses: whether messages are compressed if the client offers that.

    Attributes:
        protocol: takes and makes the frames.

    Raises:
        ProtocolError: the request is malformed.
    """

    def __init__(self, request: Request, *, max_size: int, compresses: bool) -> None:
        self._request = request
        # It is open for the library from the beginning; so this is the only place that knows of a handshake.
        self.protocol = ServerProtocol(
            state=State.OPEN, extensions=[_DEFLATE] if compresses else None, max_size=max_size
        )
        names = (*_LOOKED_AT, _EXTENSIONS) if compresses else _LOOKED_AT
        fields = Headers()
        for name, value in request.pairs():
            if name in names:
                fields[str(name, "ascii")] = str(value, "latin-1")
        try:
            self._key, self._extensions, _ = self.protocol.process_request(Opening("/", fields))
        except (InvalidHandshake, ValueError) as error:
            raise ProtocolError("malformed handshake of a WebSocket") from error

    def accept(self, subprotocol: str | None, fields: Iterable[tuple[str, str]]) -> bytes:
        """Return the response that accepts it.

        Args:
            subprotocol: the one that the application has chosen, None for none.
            fields: more fields, from the application.

        Raises:
            ValueError: that subprotocol was not offered, or a field is not for the application to say.
        """
        if subprotocol is not None and subprotocol not in offered(self._request):
            # RFC 6455 §4.1 has the client close then; here somebody sees why.
            raise ValueError(f"the client has not offered the subprotocol {subprotocol!r}")
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            f"Date: {formatdate(usegmt=True)}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {self._key}",
        ]
        if self._extensions is not None:
            lines.append(f"Sec-WebSocket-Extensions: {self._extensions}")
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        return ("\r\n".join(lines) + _checked(fields) + "\r\n\r\n").encode("latin-1")


def _checked(fields: Iterable[tuple[str, str]]) -> str:
    """Return fields of the application as they go out, each behind a line end."""
    kept = [(name, value) for name, value in fields if name.lower() != "content-length"]  # RFC 9110 §8.6
    for name, _ in kept:
        if name.lower().startswith(_OURS):
            raise ValueError(f"the field {name!r} is for the server to say; there is `subprotocol` for that")
    return check_head("200 OK", kept).fields
