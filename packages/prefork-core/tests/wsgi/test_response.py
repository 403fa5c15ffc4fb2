# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from prefork.http import Limits, ServerConnection
from prefork.wsgi.response import FileWrapper, Response

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = "Tue, 15 Nov 1994 08:12:31 GMT"
PLAIN = ("Content-Type", "text/plain")


class Sent:
    """Where a response goes: all that was sent, and how often."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.pieces.append(data)

    def send_last(self, data: bytes) -> None:
        self.pieces.append(data)

    @property
    def all(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def head(self) -> bytes:
        return self.all.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """What is behind the head, in its framing."""
        return self.all.partition(b"\r\n\r\n")[2]


class Manners:
    """Those of a worker that keeps connections until it is told to stop."""

    server = "prefork"

    def __init__(self) -> None:
        self.keeps = True

    def date(self) -> str:
        return DATE


def respond_to(line: str = "GET / HTTP/1.1", *fields: str) -> tuple[Response, Sent, ServerConnection]:
    """Return the response to a request that has arrived, where it goes, and its connection."""
    http = ServerConnection(Limits())
    http.feed("\r\n".join([line, "Host: test", *fields, "", ""]).encode())
    assert http.next_request() is not None
    sent = Sent()
    return Response(http, sent, Manners()), sent, http


@pytest.mark.parametrize("body", [[b"12345"], iter([b"12", b"345"])])
def test_a_worker_that_is_told_to_stop_before_the_head_is_out_says_that_it_closes(body: Any) -> None:
    http = ServerConnection(Limits())
    http.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert http.next_request() is not None
    sent, manners = Sent(), Manners()
    response = Response(http, sent, manners)
    response.start("200 OK", [("Content-Length", "5")])
    manners.keeps = False
    if isinstance(body, list):
        response.send_list(body)
    else:
        response.send_iterable(body)
    assert b"\r\nConnection: close\r\n" in sent.head + b"\r\n"
    assert not http.next_cycle()


def failing_info() -> Any:
    try:
        raise ValueError("the application's own")
    except ValueError:
        return sys.exc_info()


# start_response


def test_nothing_is_sent_before_there_is_a_body() -> None:
    """PEP 3333: until then the application may change its mind."""
    response, sent, _ = respond_to()
    write = response.start("200 OK", [PLAIN])
    write(b"")
    assert sent.pieces == []


def test_a_second_start_needs_a_reason() -> None:
    response, _, _ = respond_to()
    response.start("200 OK", [PLAIN])
    with pytest.raises(AssertionError, match="twice"):
        response.start("200 OK", [PLAIN])


def test_an_error_replaces_a_head_that_is_not_out_yet() -> None:
    response, sent, _ = respond_to()
    response.start("200 OK", [PLAIN])
    response.start("500 Oops", [PLAIN], failing_info())
    response.send_list([b"sorry"])
    assert sent.head.startswith(b"HTTP/1.1 500 Oops\r\n")


def test_an_error_may_be_the_first_start() -> None:
    response, sent, _ = respond_to()
    response.start("500 Oops", [PLAIN], failing_info())
    response.send_list([b"sorry"])
    assert sent.head.startswith(b"HTTP/1.1 500 Oops\r\n")


def test_an_error_after_the_head_is_raised_as_it_was() -> None:
    response, _, _ = respond_to()
    response.start("200 OK", [PLAIN])(b"begun")
    with pytest.raises(ValueError, match="the application's own"):
        response.start("500 Oops", [PLAIN], failing_info())


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        ("200", [("X", "a\r\nSet-Cookie: b")], ValueError),
        ("200 OK", [("X", "a\nb")], ValueError),
        ("200 OK", [("X", "\0")], ValueError),
        ("200 OK", [("X y", "a")], ValueError),
        ("200 OK", [("", "a")], ValueError),
        ("200 OK", [("Connection", "close")], ValueError),
        ("200 OK", [("Transfer-Encoding", "chunked")], ValueError),
        ("200 OK\r\nX: y", [], ValueError),
        ("100 Continue", [], ValueError),
        ("OK", [], ValueError),
        ("200 OK", [("Content-Length", "-1")], ValueError),
        ("200 OK", [("X", "\u20ac")], ValueError),
        ("200 OK", [("X", 1)], TypeError),
        ("200 OK", [(b"X", b"1")], TypeError),
        ("200 OK", (("X", "1"),), TypeError),
        (200, [], TypeError),
    ],
)
def test_a_wrong_head_is_refused_where_the_application_gives_it(
    status: Any, headers: Any, error: type[Exception]
) -> None:
    response, sent, _ = respond_to()
    with pytest.raises(error):
        response.start(status, headers)
    assert response.head is None
    assert sent.pieces == []


def test_a_body_without_a_start_is_refused() -> None:
    response, sent, _ = respond_to()
    with pytest.raises(AssertionError, match="without calling start_response"):
        response.send_list([b"x"])
    assert sent.pieces == []


def test_a_generator_may_start_the_response_with_its_first_piece() -> None:
    response, sent, _ = respond_to()

    def body() -> Iterator[bytes]:
        response.start("200 OK", [PLAIN])
        yield b"late"

    response.send_iterable(body())
    assert sent.body == b"4\r\nlate\r\n0\r\n\r\n"


# Kinds of body


def test_a_list_is_one_send_with_its_length() -> None:
    response, sent, _ = respond_to()
    response.start("200 OK", [PLAIN])
    response.send_list([b"a", b"", b"bc"])
    assert len(sent.pieces) == 1
    assert b"Content-Length: 3\r\n" in sent.head + b"\r\n"
    assert sent.body == b"abc"
    assert response.sent == 3


def test_an_empty_list_is_a_response_of_length_0() -> None:
    response, sent, _ = respond_to()
    response.start("200 OK", [PLAIN])
    response.send_list([])
    assert b"Content-Length: 0\r\n" in sent.head + b"\r\n"


def test_each_piece_of_a_generator_goes_out_before_the_next_is_made() -> None:
    response, sent, _ = respond_to()
    response.start("200 OK", [PLAIN])
    seen = []

    def body() -> Iterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece
            seen.append(len(sent.pieces))

    response.send_iterable(body())
    assert seen == [1, 1, 2]
    assert sent.body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_a_generator_of_nothing_is_a_response_of_length_0() -> None:
    response, sent, _ = respond_to()
    response.start("200 OK", [PLAIN])
    response.send_iterable(iter(()))
    assert b"Content-Length: 0\r\n" in sent.head + b"\r\n"
    assert sent.body == b""


def test_written_pieces_come_before_the_returned_ones() -> None:
    response, sent, _ = respond_to()
    write = response.start("200 OK", [PLAIN])
    write(b"one")
    response.send_list([b"two"])
    assert sent.body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert response.sent == 6


@pytest.mark.parametrize("piece", ["text", None, 5, ["nested"]])
def test_a_piece_that_is_not_bytes_is_named(piece: Any) -> None:
    kind = type(piece).__name__
    response, _, _ = respond_to()
    write = response.start("200 OK", [PLAIN])
    with pytest.raises(TypeError, match=kind):
        write(piece)
    with pytest.raises(TypeError, match=kind):
        response.send_iterable(iter([piece]))
    with pytest.raises(TypeError, match=kind):
        response.send_list([b"", piece])


def test_to_http_1_0_a_body_without_length_ends_with_the_connection() -> None:
    response, sent, http = respond_to("GET / HTTP/1.0", "Connection: keep-alive")
    response.start("200 OK", [PLAIN])
    response.send_iterable(iter([b"one", b"two"]))
    assert sent.body == b"onetwo"
    assert b"Connection: close" in sent.head
    assert b"Transfer-Encoding" not in sent.head
    assert not http.next_cycle()


# Length


def test_what_exceeds_the_length_is_not_sent() -> None:
    for send in ("send_list", "send_iterable"):
        response, sent, http = respond_to()
        response.start("200 OK", [("Content-Length", "4")])
        getattr(response, send)([b"abc", b"defg"])
        assert sent.body == b"abcd"
        assert response.fault == "more"
        assert response.sent == 4
        assert http.next_cycle()


def test_an_endless_body_ends_where_the_length_does() -> None:
    """PEP 3333: the server should stop iterating when enough data has been sent."""
    response, sent, _ = respond_to()
    response.start("200 OK", [("Content-Length", "4")])

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"abc"
        raise AssertionError("asked for more and more")

    response.send_iterable(endless())
    assert sent.body == b"abca"
    assert response.fault == "more"


def test_a_body_that_is_just_as_long_as_its_length_is_run_to_its_end() -> None:
    """What an application does after its last piece, such as logging, is done."""
    response, _, _ = respond_to()
    response.start("200 OK", [("Content-Length", "3")])
    ran = []

    def body() -> Iterator[bytes]:
        yield b"abc"
        ran.append("to its end")

    response.send_iterable(body())
    assert ran
    assert not response.fault


@pytest.mark.parametrize("body", [[], [b"abc"]])
def test_a_list_shorter_than_its_length_closes_and_says_so(body: list[bytes]) -> None:
    response, sent, http = respond_to()
    response.start("200 OK", [("Content-Length", "4")])
    response.send_list(body)
    assert response.fault == "fewer"
    assert b"Connection: close" in sent.head
    assert not http.next_cycle()


def test_a_generator_of_nothing_with_a_length_closes_and_says_so() -> None:
    response, sent, http = respond_to()
    response.start("200 OK", [("Content-Length", "4")])
    response.send_iterable(iter(()))
    assert response.fault == "fewer"
    assert b"Connection: close" in sent.head
    assert not http.next_cycle()


def test_a_generator_shorter_than_its_length_closes() -> None:
    response, _, http = respond_to()
    response.start("200 OK", [("Content-Length", "4")])
    response.send_iterable(iter([b"abc"]))
    assert response.fault == "fewer"
    assert not http.next_cycle()


# Responses that end with their head


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("HEAD / HTTP/1.1", "200 OK"),
        ("GET / HTTP/1.1", "304 Not Modified"),
        ("GET / HTTP/1.1", "204 No Content"),
    ],
)
@pytest.mark.parametrize("body", [[b"not", b"sent"], []])
@pytest.mark.parametrize("send", ["send_list", "send_iterable"])
def test_a_response_without_a_body_sends_none(line: str, status: str, body: list[bytes], send: str) -> None:
    response, sent, http = respond_to(line)
    response.start(status, [PLAIN])
    getattr(response, send)(body)
    assert sent.body == b""
    assert (response.sent, response.fault) == (0, "")
    assert http.next_cycle()


@pytest.mark.parametrize(
    ("line", "status"), [("HEAD / HTTP/1.1", "200 OK"), ("GET / HTTP/1.1", "304 Not Modified")]
)
@pytest.mark.parametrize("send", ["send_list", "send_iterable"])
def test_a_length_that_is_only_told_is_no_reason_to_close(line: str, status: str, send: str) -> None:
    """RFC 9110 §8.6: the length of the body that GET would have got; nothing is missing."""
    response, sent, http = respond_to(line)
    response.start(status, [("Content-Length", "1234")])
    getattr(response, send)([])
    assert b"Content-Length: 1234" in sent.head
    assert b"Connection: close" not in sent.head
    assert response.fault == ""
    assert http.next_cycle()


def test_an_endless_body_for_head_is_not_run_to_its_end() -> None:
    response, sent, _ = respond_to("HEAD / HTTP/1.1")
    response.start("200 OK", [PLAIN])
    asked = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(1)
            yield b"x"

    response.send_iterable(endless())
    assert len(asked) == 1
    assert sent.body == b""


def test_205_sends_no_body() -> None:
    response, sent, _ = respond_to()
    response.start("205 Reset Content", [PLAIN])
    response.send_list([b"x"])
    assert b"Content-Length: 0" in sent.head
    assert sent.body == b""


# What the log and hooks see


def test_it_knows_what_began() -> None:
    response, _, _ = respond_to()
    assert (response.begun, response.status) == (0, "")
    response.start("404 Not Found", [PLAIN])
    assert response.begun == 0
    response.send_list([b"x"])
    assert (response.begun, response.status, response.headers) == (404, "404 Not Found", [PLAIN])


# The file wrapper


def test_a_wrapped_file_is_read_in_blocks() -> None:
    assert list(FileWrapper(io.BytesIO(b"abcdefg"), 3)) == [b"abc", b"def", b"g"]


def test_a_wrapped_file_begins_where_it_stands() -> None:
    file = io.BytesIO(b"abcdefg")
    file.seek(5)
    assert list(FileWrapper(file)) == [b"fg"]


def test_a_wrapper_can_be_moved_where_its_file_can() -> None:
    wrapper = FileWrapper(io.BytesIO(b"abcdefg"))
    assert wrapper.seekable()
    wrapper.seek(2)
    wrapper.seek(1, io.SEEK_CUR)
    assert wrapper.tell() == 3
    assert list(wrapper) == [b"defg"]


def test_a_wrapper_of_what_only_reads_cannot_be_moved() -> None:
    class Source(io.RawIOBase):
        def read(self, _size: int = -1, /) -> bytes:
            return b""

    assert not FileWrapper(Source()).seekable()


def test_closing_the_iterator_closes_the_file() -> None:
    file = io.BytesIO(b"a")
    iterator = iter(FileWrapper(file))
    assert isinstance(iterator, FileWrapper)
    iterator.close()
    assert file.closed


def test_closing_the_wrapper_closes_the_file() -> None:
    file = io.BytesIO(b"a")
    FileWrapper(file).close()
    assert file.closed


def test_a_file_that_cannot_be_closed_need_not_be() -> None:
    class Source:
        def read(self, _size: int, /) -> bytes:
            return b""

    FileWrapper(Source()).close()


def test_a_response_that_is_out_already_ends_without_a_send() -> None:
    """With a length nothing is left to be said: an empty send is a system call for each response."""
    response, sent, http = respond_to()
    response.start("200 OK", [("Content-Length", "3")])
    response.write(b"abc")
    response.send_list((b"",))
    assert len(sent.pieces) == 1
    assert http.next_cycle()
