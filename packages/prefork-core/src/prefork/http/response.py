# SPDX-License-Identifier: MIT
"""Response heads: checking what the application gave, and rendering it.

`check_head` and `render_head` are hot. Many heads are sent again and again, so those are checked once. Most
others are right and repeat the same names, so a name is checked and rendered once for all; its values are
asked one question each, at C speed, and only those that do not pass it are looked at closely. A field line is
kept with the CRLF *before* it: so it can follow the status line in one formatted string, and that is the
whole head.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.http import framing, grammar
from prefork.http.framing import BY_CHUNKS, BY_CLOSE, BY_LENGTH, Plan
from prefork.http.known import PATIENCE, Known
from prefork.http.limits import CONTENT_LENGTH_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT: Final = 1024

_LONGEST_KEPT: Final = 1024
"""Most characters of the fields of a head that is kept."""

# Response field names that have a meaning here. Everything else maps to None in `_names`.
_LENGTH: Final = "content-length"
_DATE: Final = "date"
_SERVER: Final = "server"
_MEANT: Final = {meaning: meaning for meaning in (_LENGTH, _DATE, _SERVER)}

# Name as given → that name as the begin of a line, and its meaning.
_names: dict[str, tuple[str, str | None]] = {}
_statuses: dict[str, tuple[int, str]] = {}


# Asked of `str`, because a subclass could answer otherwise, and what is no string must be a TypeError.
_is_printable: Final = str.isprintable
_is_decimal: Final = str.isdecimal

# A NamedTuple's own constructor is a Python function that does only this, for 0.2 µs more.
_new: Final = tuple.__new__


class ResponseHead(NamedTuple):
    """A response head as the application gave it, checked.

    Attributes:
        status: the status code.
        line: the status line, without version and CRLF: "200 OK".
        fields: the rendered field lines, latin-1, each with the CRLF before it.
        length: the Content-Length in it, None when there is none.
        own: names of the fields in it that prefork would add otherwise: "date", "server".
    """

    status: int
    line: str
    fields: str
    length: int | None
    own: tuple[str, ...]


# Status and headers as given → the head.
_heads: Known[tuple[object, ...], ResponseHead] = Known()


def check_head(status: str, headers: Sequence[tuple[str, str]]) -> ResponseHead:
    """Check status and headers of an application (PEP 3333, RFC 9110 §5, RFC 9112 §4).

    Args:
        status: "200 OK".
        headers: names and values, native strings of latin-1 characters.

    Returns:
        The head, rendered as far as it does not depend on the connection.

    Raises:
        ValueError: status, name or value breaks the syntax, or is for the server alone to send.
        TypeError: one of them is not a string, or the list not made of pairs.
    """
    if _heads.patience <= 0:
        _heads.rest()
        return _check(status, headers)
    try:
        key = (status, *headers)
        known = _heads.get(key)
    except TypeError:  # pairs that are lists; or worse, which is found out there
        return _check(status, headers)
    if known is not None:
        if _heads.patience < PATIENCE:
            _heads.patience += 1
        return known
    head = _check(status, headers)
    if may_come_again(head.fields):
        _heads.keep(key, head)
    return head


def may_come_again(fields: str) -> bool:
    """Return whether a head is worth keeping for other responses.

    One with a cookie is not: that is a client's secret, and its value hardly ever comes again.

    Args:
        fields: the rendered field lines, each with the CRLF before it.
    """
    return len(fields) <= _LONGEST_KEPT and "\r\nset-cookie:" not in fields.lower()


def _check(status: str, headers: Sequence[tuple[str, str]]) -> ResponseHead:
    code, line = _statuses.get(status) or _check_status(status)
    length: int | None = None
    own: tuple[str, ...] = ()
    parts: list[str] = []
    for name, value in headers:
        try:
            begin, meaning = _names[name]
        except KeyError:
            begin, meaning = _check_name(name)
        parts += begin, value
        if meaning is _LENGTH:
            length = _check_length(value, length)
            continue
        # What is printable has no control character in it, whatever else it has.
        if not _is_printable(value):
            _check_value(name, value)
        if meaning is not None and meaning not in own:
            own += (meaning,)
    # Joined, not added: a subclass could have an addition of its own.
    fields = "".join(parts)
    if not fields.isascii():
        _check_latin(fields)
    return _new(ResponseHead, (code, line, fields, length, own))


def _check_value(name: str, value: str) -> None:
    """RFC 9110 §5.5: refuse what could end a line early. What is not latin-1 is `_check_latin`'s."""
    if value.encode("latin-1", "ignore").translate(None, grammar.FIELD_BYTES):
        raise ValueError(f"control character in response header {name!r}")


def _check_latin(fields: str) -> None:
    """PEP 3333, "Unicode Issues": native strings hold latin-1 characters only."""
    try:
        fields.encode("latin-1")
    except UnicodeEncodeError as error:
        piece = fields[error.start : error.start + 20]
        raise ValueError(f"header value is not latin-1: {piece!r}") from None


def _check_status(status: str) -> tuple[int, str]:
    match = grammar.STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"malformed status {status!r}: it must look like '200 OK'")
    code = int(match[1])
    if code < 200:
        raise ValueError(f"status {code} is not a final one")
    # RFC 9112 §4: the space stays when there is no reason.
    found = (code, status if match[2] is not None else status + " ")
    if len(_statuses) < _KEPT:
        _statuses[status] = found
    return found


def _check_name(name: str) -> tuple[str, str | None]:
    if not grammar.TOKEN.fullmatch(name):
        raise ValueError(f"malformed response header name {name!r}")
    lower = name.lower()
    if lower in grammar.HOP_BY_HOP:
        raise ValueError(f"response header {name!r} belongs to the connection, not to the application")
    # Joined for the reason given in `check_head`.
    found = ("".join(("\r\n", name, ": ")), _MEANT.get(lower))  # noqa: FLY002
    if len(_names) < _KEPT:
        _names[name] = found
    return found


def _check_length(value: str, seen: int | None) -> int:
    right = _is_decimal(value) and value.isascii() and len(value) <= CONTENT_LENGTH_DIGITS
    if seen is not None or not right:
        raise ValueError(f"malformed or repeated Content-Length {value!r}")
    return int(value)


def without_length(head: ResponseHead) -> ResponseHead:
    """Return the head without its Content-Length."""
    kept = [line for line in head.fields.split("\r\n")[1:] if line.partition(":")[0].lower() != _LENGTH]
    return head._replace(fields="".join("\r\n" + line for line in kept), length=None)


def render_head(head: ResponseHead, plan: Plan, version: str, date: str, server: str) -> bytes:
    """Render a whole response head (RFC 9112 §4).

    Args:
        head: what the application gave.
        plan: how the response is framed.
        version: the version of the request: HTTP/1.0 must be told when the connection persists.
        date: the value of Date (RFC 9110 §5.6.7).
        server: the value of Server, "" for none.

    Returns:
        The bytes to send, the empty line included.
    """
    way, length, persistent = plan
    _, line, fields, given, own = head
    if way is not BY_LENGTH or length != given:
        fields = _reframe(head, plan)
    if not persistent:
        fields = "\r\nConnection: close" + fields
    elif version == "HTTP/1.0":
        fields = "\r\nConnection: keep-alive" + fields
    dated = "" if _DATE in own else f"\r\nDate: {date}"
    named = f"\r\nServer: {server}" if server and _SERVER not in own else ""
    return f"HTTP/1.1 {line}{named}{dated}{fields}\r\n\r\n".encode("latin-1")


def plain_head(line: str, fields: str, date: str, server: str) -> bytes:
    """Render a head as `render_head` does when there is nothing to be added but Server and Date.

    Args:
        line: of a `ResponseHead`.
        fields: likewise.
        date: as of `render_head`.
        server: likewise.
    """
    return f"HTTP/1.1 {line}\r\nServer: {server}\r\nDate: {date}{fields}\r\n\r\n".encode("latin-1")


def _reframe(head: ResponseHead, plan: Plan) -> str:
    """Return the fields of a head with what says how it is framed, and without what would deny it."""
    if head.length is not None and (head.status in framing.EMPTY or plan.framing is BY_CLOSE):
        # Frameworks send a length where RFC 9110 §8.6 forbids one (204, CONNECT).
        head = without_length(head)
    if plan.framing is BY_LENGTH and head.length is None:
        return f"\r\nContent-Length: {plan.length}{head.fields}"
    return "\r\nTransfer-Encoding: chunked" + head.fields if plan.framing is BY_CHUNKS else head.fields


def error_head(status: int, *, method: str, date: str, server: str) -> bytes:
    """Render a whole response that refuses a request and closes the connection.

    The body names the status and nothing of what the peer sent.

    Args:
        status: the status code.
        method: of the request, "" when it is not known; a HEAD gets no body.
        date: the value of Date.
        server: the value of Server, "" for none.
    """
    phrase = HTTPStatus(status).phrase
    body = f"{status} {phrase}\n".encode("ascii")
    head = check_head(
        f"{status} {phrase}",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    plan = Plan(BY_LENGTH, len(body), persistent=False)
    rendered = render_head(head, plan, "HTTP/1.1", date, server)
    return rendered + body if framing.has_body(method, status) else rendered
