# SPDX-License-Identifier: MIT
"""Message framing: where a body ends, and whether the connection can be used again.

All rules of RFC 9112 §6 and §9 for requests and responses are here and nowhere else.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.errors import ProtocolError
from prefork.http import grammar
from prefork.http.limits import CONTENT_LENGTH_DIGITS

if TYPE_CHECKING:
    from prefork.http.head import Request

CHUNKED: Final = -1
"""`Request.content_length` of a chunked body, whose length is not known before its end."""

BODILESS: Final = frozenset({204, 304})
"""Statuses whose responses end with the head (RFC 9112 §6.3), besides all of 1xx."""


EMPTY: Final = frozenset({204, 205})
"""Statuses that say there is no content, so that a length other than 0 would be a lie: 204 sends none at
all (RFC 9110 §8.6), 205 sends 0 (§15.3.6)."""


def frame_request(request: Request, fields: dict[str, str]) -> None:
    """Decide body length, persistence and expectation of a request whose fields are parsed.

    Args:
        request: sets its `content_length`, `persistent` and `expects_continue`.
        fields: its fields, while they may still be changed: CONTENT_LENGTH becomes one plain number.

    Raises:
        ProtocolError: 400 for a length that readers could disagree on, 417 for an expectation other than
            100-continue, 501 for a transfer coding other than chunked.
    """
    modern = request.version == "HTTP/1.1"
    if "HTTP_TRANSFER_ENCODING" in fields:
        request.content_length = _chunked(fields, modern=modern)
    elif "CONTENT_LENGTH" in fields:
        request.content_length = content_length(fields["CONTENT_LENGTH"])
        fields["CONTENT_LENGTH"] = str(request.content_length)
    else:
        request.content_length = 0
    connection = fields.get("HTTP_CONNECTION")
    if connection is None:
        request.persistent = modern
    else:
        # The first is what browsers send.
        request.persistent = connection == "keep-alive" or _persistent(connection, modern=modern)
    if not request.path:
        # CONNECT: a client that was answered 2xx speaks another protocol from here (RFC 9110 §9.3.6).
        request.persistent = False
    request.expects_continue = "HTTP_EXPECT" in fields and _expects_continue(
        fields["HTTP_EXPECT"], modern=modern
    )


def _chunked(fields: dict[str, str], *, modern: bool) -> int:
    """RFC 9112 §6.1 and §6.3: chunked exactly once, alone, in HTTP/1.1, without Content-Length.

    Anything else is where two servers in a row can see different requests.
    """
    if not modern:
        raise ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
    if "CONTENT_LENGTH" in fields:
        raise ProtocolError("both Transfer-Encoding and Content-Length")
    value = fields["HTTP_TRANSFER_ENCODING"]
    if value.lower() == "chunked":
        return CHUNKED
    codings = grammar.tokens(value)
    if not codings or codings[-1] != "chunked" or codings.count("chunked") != 1:
        raise ProtocolError("Transfer-Encoding does not end in one chunked")
    if len(codings) == 1:
        raise ProtocolError("malformed Transfer-Encoding")
    raise ProtocolError("transfer coding not implemented", 501)


def content_length(value: str) -> int:
    """Return the number of a Content-Length value (RFC 9110 §8.6).

    Args:
        value: digits, or several identical runs of digits joined by commas, as a recipient that combined
            repeated lines would see them.

    Raises:
        ProtocolError: anything but digits, differing numbers, or more digits than 2**63 has.
    """
    if "," in value:
        first, *others = (part.strip(" \t") for part in value.split(","))
        if any(other != first for other in others):
            raise ProtocolError("differing Content-Length values")
        value = first
    # isdecimal() takes digits of every script; isascii() leaves those of this one.
    if not (value.isascii() and value.isdecimal()):
        raise ProtocolError("malformed Content-Length")
    if len(value) > CONTENT_LENGTH_DIGITS:
        raise ProtocolError("Content-Length too large", 413)
    return int(value)


def _persistent(connection: str, *, modern: bool) -> bool:
    """RFC 9112 §9.3: `close` wins; HTTP/1.0 persists only when it asks to."""
    if connection == "close":  # what proxies send
        return False
    options = grammar.tokens(connection)
    return "close" not in options and (modern or "keep-alive" in options)


def _expects_continue(value: str, *, modern: bool) -> bool:
    """RFC 9110 §10.1.1: 100-continue is the only expectation, and not one of HTTP/1.0."""
    if not modern:
        return False
    if value.lower() != "100-continue":
        raise ProtocolError("expectation not supported", 417)
    return True


def asks_upgrade(request: Request) -> bool:
    """Return whether a client wants to speak another protocol behind its request (RFC 9110 §7.8).

    Args:
        request: its head. Upgrade must be a connection option too, and means nothing in HTTP/1.0. The other
            protocol begins behind the body, so a request that has one is not counted.
    """
    fields = request.fields
    return (
        "HTTP_UPGRADE" in fields
        and not request.content_length
        and request.version == "HTTP/1.1"
        and "upgrade" in grammar.tokens(fields.get("HTTP_CONNECTION", ""))
    )


class Framing(Enum):
    """How the recipient finds the end of a response (RFC 9112 §6.3)."""

    NONE = "none"
    """It ends with the head."""
    LENGTH = "length"
    """After as many bytes as Content-Length says."""
    CHUNKED = "chunked"
    """After the last chunk."""
    CLOSE = "close"
    """When the connection closes: HTTP/1.0 without a length."""


# Names for the hot path, see `states`.
BY_NOTHING: Final = Framing.NONE
BY_LENGTH: Final = Framing.LENGTH
BY_CHUNKS: Final = Framing.CHUNKED
BY_CLOSE: Final = Framing.CLOSE


# A NamedTuple's own constructor is a Python function that does only this.
_new: Final = tuple.__new__


class Plan(NamedTuple):
    """How one response goes out.

    Attributes:
        framing: how its end is found.
        length: bytes of body to send, -1 when not known.
        persistent: whether the connection can be used for another request.
    """

    framing: Framing
    length: int
    persistent: bool


SPECIAL: Final = BODILESS | EMPTY
"""Final statuses whose responses are not framed as all others are."""


def has_body(method: str, status: int) -> bool:
    """Return whether a response to this method with this status has content (RFC 9110 §6.4.1)."""
    return method != "HEAD" and status >= 200 and status not in BODILESS


def plan_response(request: Request, status: int, length: int | None, persistent: bool) -> Plan:
    """Decide framing and persistence of a response, once for every worker.

    Args:
        request: what is answered.
        status: the final status code.
        length: the Content-Length that the application gave, None for none.
        persistent: whether the server is willing to keep the connection.

    Returns:
        The plan. A response to HTTP/1.0 is never chunked (RFC 9112 §6.1).
    """
    persistent = persistent and request.persistent
    if not has_body(request.method, status):
        return Plan(BY_NOTHING, 0, persistent)
    if status == 205:
        return Plan(BY_LENGTH, 0, persistent)
    if not request.path and status < 300:
        # RFC 9112 §6.3: the client of a CONNECT takes any length for bytes of the tunnel.
        return Plan(BY_CLOSE, -1, persistent=False)
    if length is not None:
        return _new(Plan, (BY_LENGTH, length, persistent))
    if request.version == "HTTP/1.1":
        return Plan(BY_CHUNKS, -1, persistent)
    return Plan(BY_CLOSE, -1, persistent=False)
