# SPDX-License-Identifier: MIT
"""It tells apart every way in which a request can fail, and takes no byte of one answer for another's."""

from __future__ import annotations

import socket

import pytest

from prefork.testing.client import Answer, Replies, RequestFailed, connect, is_closed, read_answer, render
from prefork.testing.server import free_port


def replies(data: bytes, *, closed: bool = True) -> Replies:
    """Return the reader of a connection over which some bytes come, and then the end or nothing."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    if closed:
        theirs.close()
    else:
        kept.append(theirs)
    ours.settimeout(0.05)
    return Replies(ours)


kept: list[socket.socket] = []


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", b"hi"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    ],
)
def test_an_answer_ends_where_it_says(data: bytes, body: bytes) -> None:
    found = replies(data * 2, closed=False)
    assert [found.next().body, found.next().body, found.rest] == [body, body, b""]


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    assert replies(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi").next() == Answer(
        200, "HTTP/1.1 200 OK\r\nConnection: close\r\n", b"hi", closing=True
    )


def test_the_answer_to_head_ends_with_its_head() -> None:
    found = replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (found.next(to_head=True).body, found.rest) == (b"", b"hi")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"HTTP/1.1 200", "cut"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n", "garbage"),
        (b"hi\r\n\r\n", "garbage"),
    ],
)
def test_what_is_no_whole_answer_has_a_name(data: bytes, kind: str) -> None:
    with pytest.raises(RequestFailed) as failure:
        replies(data).next()
    assert failure.value.kind == kind


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"])
def test_an_answer_that_does_not_come_is_late(data: bytes) -> None:
    with pytest.raises(RequestFailed) as failure:
        replies(data, closed=False).next()
    assert failure.value.kind == "timeout"


def test_more_than_an_answer_is_garbage() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi")
        with pytest.raises(RequestFailed, match="garbage"):
            read_answer(ours)


def test_who_announces_the_end_is_closed_first() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert read_answer(ours).closing
        assert theirs.recv(1) == b""


def test_nobody_listening_is_a_refusal() -> None:
    with pytest.raises(RequestFailed) as failure:
        connect(("127.0.0.1", free_port()))
    assert failure.value.kind == "refused"


def test_an_end_that_nobody_asked_for_is_seen() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not is_closed(ours)
        theirs.close()
        assert is_closed(ours)


def test_a_request_has_a_length_for_its_body() -> None:
    assert render("/a", "POST", b"hi", "B: c") == (
        b"POST /a HTTP/1.1\r\nHost: test\r\nB: c\r\nContent-Length: 2\r\n\r\nhi"
    )
