# SPDX-License-Identifier: MIT
"""Response heads: checking what the application gave, and rendering it.

`render_head` is the second hot function. The fields of a response are rendered first and checked
afterwards in one pass at C speed, because most responses are right and repeat the same names.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.http import framing, grammar
from prefork.http.framing import BY_CHUNKS, BY_CLOSE, BY_LENGTH, Plan
from prefork.http.limits import CONTENT_LENGTH_DIGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT: Final = 1024

# Response field names that have a meaning here. Everything else maps to None in `_names`.
_LENGTH: Final = "content-length"
_DATE: Final = "date"
_SERVER: Final = "server"
_MEANT: Final = frozenset({_LENGTH, _DATE, _SERVER})

_names: dict[str, str | None] = {}
_statuses: dict[str, tuple[int, str]] = {}


# A NamedTuple's own constructor is a Python function that does only this, for 0.2 µs more.
_new: Final = tuple.__new__


class ResponseHead(NamedTuple):
    """A response head as the application gave it, checked.

    Attributes:
        status: the status code.
        line: the status line, without version and CRLF: "200 OK".
        fields: the rendered field lines, each with its CRLF.
        length: the Content-Length in it, None when there is none.
        own: names of the fields in it that prefork would add otherwise: "date", "server".
    """

    status: int
    line: str
    fields: bytes
    length: int | None
    own: tuple[str, ...]


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
    found = _statuses.get(status)
    if found is None:
        found = _check_status(status)
    length: int | None = None
    own: tuple[str, ...] = ()
    lines = []
    for name, value in headers:
        try:
            meaning = _names[name]
        except KeyError:
            meaning = _check_name(name)
        if meaning is not None:
            if meaning == _LENGTH:
                length = _check_length(value, length)
            elif meaning not in own:
                own += (meaning,)
        lines.append(name + ": " + value + "\r\n")
    return _new(ResponseHead, (found[0], found[1], _encode(lines), length, own))


def _encode(lines: list[str]) -> bytes:
    """Join field lines; refuse what could end a line early or is not latin-1."""
    text = "".join(lines)
    try:
        fields = text.encode("latin-1")
    except UnicodeEncodeError as error:
        piece = error.object[error.start : error.start + 20]
        raise ValueError(f"header value is not latin-1: {piece!r}") from None
    # Left after deleting all that a field may hold: exactly the line ends.
    if fields.translate(None, grammar.FIELD_BYTES) != b"\r\n" * len(lines):
        wrong = (line for line in lines if line[:-2].encode("latin-1").translate(None, grammar.FIELD_BYTES))
        raise ValueError(f"control character in response header {next(wrong).partition(':')[0]!r}")
    return fields


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


def _check_name(name: str) -> str | None:
    if not grammar.TOKEN.fullmatch(name):
        raise ValueError(f"malformed response header name {name!r}")
    lower = name.lower()
    if lower in grammar.HOP_BY_HOP:
        raise ValueError(f"response header {name!r} belongs to the connection, not to the application")
    meaning = lower if lower in _MEANT else None
    if len(_names) < _KEPT:
        _names[name] = meaning
    return meaning


def _check_length(value: str, seen: int | None) -> int:
    if not isinstance(value, str):
        raise TypeError(f"Content-Length is not a string: {value!r}")
    right = value.isascii() and value.isdecimal() and len(value) <= CONTENT_LENGTH_DIGITS
    if seen is not None or not right:
        raise ValueError(f"malformed or repeated Content-Length {value!r}")
    return int(value)


def without_length(head: ResponseHead) -> ResponseHead:
    """Return the head without its Content-Length."""
    lines = head.fields.split(b"\r\n")[:-1]
    kept = [line for line in lines if line.partition(b":")[0].lower() != b"content-length"]
    return head._replace(fields=b"".join(line + b"\r\n" for line in kept), length=None)


def render_head(head: ResponseHead, plan: Plan, *, version: str, date: str, server: str) -> bytes:
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
    if head.length is not None and (head.status in framing.EMPTY or plan.framing is BY_CLOSE):
        # Frameworks send a length where RFC 9110 §8.6 forbids one (204, CONNECT).
        head = without_length(head)
    start = f"HTTP/1.1 {head.line}\r\n"
    if not head.own:
        start += f"Server: {server}\r\nDate: {date}\r\n" if server else f"Date: {date}\r\n"
    else:
        if server and _SERVER not in head.own:
            start += f"Server: {server}\r\n"
        if _DATE not in head.own:
            start += f"Date: {date}\r\n"
    if not plan.persistent:
        start += "Connection: close\r\n"
    elif version == "HTTP/1.0":
        start += "Connection: keep-alive\r\n"
    if plan.framing is BY_LENGTH and head.length is None:
        start += f"Content-Length: {plan.length}\r\n"
    elif plan.framing is BY_CHUNKS:
        start += "Transfer-Encoding: chunked\r\n"
    return start.encode("latin-1") + head.fields + b"\r\n"


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
    rendered = render_head(head, plan, version="HTTP/1.1", date=date, server=server)
    return rendered + body if framing.has_body(method, status) else rendered
