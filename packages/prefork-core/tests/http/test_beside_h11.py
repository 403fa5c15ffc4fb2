# SPDX-License-Identifier: MIT
"""What prefork accepts, h11 accepts too and reads alike: nobody in front of us sees another request."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import h11
import pytest
from http_dialogue import Body, Got, converse
from http_strategies import anything, spoiled, valid
from hypothesis import event, given, settings

# Where h11 refuses what prefork accepts: the start of its message, and what must be in the data then.
DIFFERENCES: Final = {
    # 9112 §2.2: a server should ignore at least one empty line before the request line; h11 does not.
    "empty line before a request": (
        "no request line received",
        rb"\A\r\n|\r\n\r\n\r\n|\r\n[!-~]+ [!-~]+ HTTP/1",
    ),
    # 9112 §7.1.1: bad white space before the semicolon of a chunk extension must be parsed; h11 does not.
    "white space before an extension": ("illegal chunk header", rb"[0-9A-Fa-f][ \t]+;"),
}


class Seen(NamedTuple):
    """A whole request as h11 read it."""

    method: bytes
    target: bytes
    pairs: list[tuple[bytes, bytes]]
    body: bytes


def read_by_h11(data: bytes) -> tuple[list[Seen], str]:
    """Return the whole requests that h11 finds, and the message of the error that ended it."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(data)
    seen: list[Seen] = []
    try:
        while (found := _next_by_h11(server)) is not None:
            seen.append(found)
            # 405, because behind a 200 to CONNECT h11 speaks HTTP no more.
            server.send(h11.Response(status_code=405, headers=[("Content-Length", "0")]))
            server.send(h11.EndOfMessage())
            if server.our_state is h11.MUST_CLOSE:
                return seen, "closed"
            server.start_next_cycle()
    except h11.RemoteProtocolError as error:
        return seen, str(error)
    return seen, ""


def _next_by_h11(server: h11.Connection) -> Seen | None:
    body = b""
    head: h11.Request | None = None
    while True:
        found = server.next_event()
        if isinstance(found, h11.Request):
            head = found
        elif isinstance(found, h11.Data):
            body += bytes(found.data)
        elif isinstance(found, h11.EndOfMessage):
            assert head is not None
            pairs = [(bytes(name), bytes(value)) for name, value in head.headers]
            return Seen(bytes(head.method), bytes(head.target), pairs, body)
        else:
            return None


def read_by_prefork(data: bytes) -> list[Seen]:
    """Return the whole requests that prefork finds."""
    seen = []
    head: Got | None = None
    for found in converse([data]):
        if isinstance(found, Got):
            head = found
        elif isinstance(found, Body) and found.whole:
            assert head is not None
            lines = (line.partition(b":") for line in head.raw.split(b"\r\n")[1:])
            pairs = [(name.lower(), value.strip(b" \t")) for name, _, value in lines]
            seen.append(Seen(head.method.encode(), head.target.encode(), pairs, found.data))
    return seen


def agree(data: bytes) -> None:
    """Check that h11 finds every request that prefork finds, or refuses the next for a listed reason."""
    ours = read_by_prefork(data)
    theirs, error = read_by_h11(data)
    shared = min(len(ours), len(theirs))
    for mine, other in zip(ours[:shared], theirs[:shared], strict=True):
        assert mine.method == other.method
        assert mine.target == other.target
        assert mine.body == other.body
        assert mine.pairs == _normalized(other.pairs, mine.pairs)
    if len(ours) > len(theirs):
        # h11 keeps no HTTP/1.0 connection open (9112 §9.3 lets a server do so), nor one behind CONNECT.
        assert error == "closed" or any(
            error.startswith(message) and re.search(pattern, data)
            for message, pattern in DIFFERENCES.values()
        ), f"h11 refuses {data!r}: {error}"
        event(error)


def _normalized(
    theirs: list[tuple[bytes, bytes]], ours: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Undo what h11 does to Content-Length ("5, 5" becomes "5") and Transfer-Encoding (lower case)."""
    special = {b"content-length", b"transfer-encoding"}
    mine = iter([pair for pair in ours if pair[0] in special])
    return [next(mine, pair) if pair[0] in special else pair for pair in theirs]


@settings(max_examples=300)
@given(valid)
def test_valid_requests_are_read_alike(data: bytes) -> None:
    agree(data)


@settings(max_examples=500)
@given(spoiled())
def test_spoiled_requests_are_not_accepted_where_h11_refuses(data: bytes) -> None:
    agree(data)


@settings(max_examples=200)
@given(anything)
def test_garbage_is_not_accepted_where_h11_refuses(data: bytes) -> None:
    agree(data)


START = b"POST / HTTP/1.1\r\nHost: a\r\n"

KNOWN = {
    "empty line before a request": b"\r\n" + START + b"\r\n",
    "white space before an extension": START + b"Transfer-Encoding: chunked\r\n\r\n1 ;a\r\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("reason", DIFFERENCES)
def test_listed_differences_exist(reason: str) -> None:
    """A list with entries that are not needed would hide new ones."""
    assert len(read_by_prefork(KNOWN[reason])) == 1
    seen, error = read_by_h11(KNOWN[reason])
    assert not seen
    assert error.startswith(DIFFERENCES[reason][0])
