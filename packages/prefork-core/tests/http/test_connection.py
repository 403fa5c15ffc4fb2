# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from http_dialogue import DATE, Body, Closed, Got, Refused, converse
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ClientDisconnected, ProtocolError
from prefork.http import Limits, ServerConnection, check_head
from prefork.http.connection import CONTINUE, DRAIN_LIMIT
from prefork.http.states import Reading, Writing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """Return a POST with these field lines and whatever is to follow its head."""
    block = b"".join(line + b"\r\n" for line in lines)
    return b"POST / " + version + b"\r\nHost: a\r\n" + block + b"\r\n" + body


def connected(data: bytes) -> ServerConnection:
    """Return a connection that has received these bytes and parsed their first request."""
    connection = ServerConnection(Limits())
    connection.feed(data)
    assert connection.next_request() is not None
    return connection


def answer(connection: ServerConnection, *headers: tuple[str, str], status: str = "200 OK") -> bytes:
    """Begin a response without a known length; return its head."""
    return connection.start_response(check_head(status, list(headers)), None, date=DATE, server="")


def summary(data: bytes) -> list[object]:
    """Return targets, bodies, refusals and closing, in order."""
    events = converse([data])
    return [
        event.target if isinstance(event, Got) else event.data if isinstance(event, Body) else event
        for event in events
    ]


# ------------------------------------------------------------------------------------ order of things


def test_pipelined_requests_are_served_one_after_the_other() -> None:
    """9112 §9.3.2."""
    data = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: y\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert summary(data) == ["/1", b"", "/2", b"abc", "/3", b"x", "/4", b""]


def test_the_next_request_waits_for_the_end_of_the_response() -> None:
    connection = connected(GET + GET)
    assert connection.next_request() is None
    answer(connection, ("Content-Length", "0"))
    assert connection.next_request() is None
    connection.end_response()
    assert connection.next_request() is None
    assert connection.next_cycle()
    assert connection.next_request() is not None


REFUSED_IN_A_ROW = {
    "a malformed head": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "an unsupported coding": post(b"Transfer-Encoding: gzip, chunked"),
    "an unsupported expectation": post(b"Expect: x"),
    "a long request line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a broken body": post(b"Transfer-Encoding: chunked", body=b"z\r\n"),
    "a broken body behind good bytes": post(b"Transfer-Encoding: chunked", body=b"1\r\nab\r\n"),
    "garbage": b"\x00",
}


@pytest.mark.parametrize("bad", REFUSED_IN_A_ROW.values(), ids=REFUSED_IN_A_ROW.keys())
def test_nothing_behind_a_refused_request_is_ever_processed(bad: bytes) -> None:
    """9112 §9.3, §11.2: where the next request starts is not known; it may be what an attacker smuggles."""
    events = converse([GET, bad, GET, GET])
    assert isinstance(events[-1], Refused)
    assert sum(isinstance(event, Got) for event in events) <= 2

    connection = ServerConnection(Limits())
    connection.feed(bad + GET)
    with pytest.raises(ProtocolError):  # noqa: PT012 - either of the two may refuse
        connection.next_request()
        while connection.read_body(10):
            pass
    assert connection.reading is Reading.REFUSED
    connection.refuse(400, date=DATE, server="")
    connection.feed(GET)
    assert not connection.next_cycle()
    assert connection.next_request() is None


@pytest.mark.parametrize("value", [b"close", b"x, Close"])
def test_nothing_behind_a_closing_request_is_processed(value: bytes) -> None:
    """9112 §9.6."""
    assert summary(post(b"Connection: " + value) + GET) == ["/", b"", Closed()]


def test_what_follows_connect_is_not_a_request() -> None:
    """9110 §9.3.6."""
    assert summary(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + GET) == ["a:1", b"", Closed()]


def test_one_empty_line_before_a_request_is_ignored() -> None:
    """9112 §2.2: old clients send one behind a body."""
    assert summary(b"\r\n" + GET + b"\r\n" + GET) == ["/", b"", "/", b""]


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"\n", b"\r\r\n", b"\rG", b" \r\n"])
def test_more_than_an_empty_line_is_refused(data: bytes) -> None:
    """9112 §2.2, §3."""
    assert converse([data + GET]) == [Refused(400)]
    assert converse([data[at : at + 1] for at in range(len(data))]) == [Refused(400)]


def test_what_waits_in_the_buffer_is_counted() -> None:
    """A worker that sees bytes there must not wait for the socket."""
    connection = ServerConnection(Limits())
    assert connection.buffered == 0
    connection.feed(GET + b"abc")
    assert connection.buffered == len(GET) + 3
    connection.next_request()
    assert connection.buffered == 3


def test_limits_hold_for_later_requests_too() -> None:
    late = GET + b"GET /" + b"a" * 9000
    assert converse([late])[-1] == Refused(414)


# ---------------------------------------------------------------------------------------------- bodies


def test_request_without_a_body_reads_its_end_at_once() -> None:
    connection = connected(GET + GET)
    assert connection.reading is Reading.DONE
    assert connection.read_body(10) == b""


@pytest.mark.parametrize(
    "data",
    [
        post(b"Content-Length: 5", body=b"hell"),
        post(b"Transfer-Encoding: chunked", body=b"5\r\nhell"),
        post(b"Transfer-Encoding: chunked", body=b"4\r\nhell\r\n"),
        post(b"Transfer-Encoding: chunked", body=b"4\r\nhell\r\n0\r\n"),
    ],
    ids=["Content-Length", "in a chunk", "no last chunk", "no last line"],
)
def test_body_cut_short_raises_and_never_looks_like_its_end(data: bytes) -> None:
    """9112 §8."""
    connection = connected(data)
    assert connection.read_body(100) == b"hell"
    assert connection.read_body(100) is None
    connection.feed(b"")
    for _ in range(2):
        with pytest.raises(ClientDisconnected):
            connection.read_body(100)
    assert not connection.persistent
    assert not connection.next_cycle()


def test_broken_body_raises_and_closes() -> None:
    connection = connected(post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\nx\r\n"))
    assert connection.read_body(100) == b"a"
    with pytest.raises(ProtocolError):
        connection.read_body(100)
    assert b"Connection: close\r\n" in answer(connection)
    connection.end_response()
    assert not connection.next_cycle()


def test_peer_that_closes_between_requests_is_no_error() -> None:
    connection = connected(GET)
    connection.feed(b"")
    assert connection.peer_closed
    assert connection.read_body(10) == b""


# ------------------------------------------------------------------------------------------------- 100

EXPECTING = post(b"Expect: 100-continue", b"Content-Length: 3")


def test_continue_is_sent_once_and_only_when_asked_for() -> None:
    """9110 §10.1.1."""
    connection = connected(EXPECTING)
    assert connection.take_continue() == CONTINUE
    assert connection.take_continue() == b""


def test_continue_is_not_sent_when_the_body_has_begun_to_arrive() -> None:
    """9110 §10.1.1: a server may omit it when it has received some of the content."""
    connection = connected(EXPECTING + b"a")
    assert connection.read_body(10) == b"a"
    assert connection.take_continue() == b""


def test_continue_is_not_sent_behind_a_final_response() -> None:
    """9110 §10.1.1, §15.2: it would be taken for the response to the next request."""
    connection = connected(EXPECTING)
    answer(connection)
    assert connection.take_continue() == b""


@pytest.mark.parametrize(
    "data",
    [
        GET,
        post(b"Content-Length: 3"),
        post(b"Expect: 100-continue", b"Content-Length: 3", version=b"HTTP/1.0"),
        post(b"Expect: 100-continue"),
    ],
    ids=["no body", "not expected", "HTTP/1.0", "expected without a body"],
)
def test_continue_is_not_sent_to_who_does_not_wait(data: bytes) -> None:
    """9110 §10.1.1: never to HTTP/1.0."""
    assert connected(data).take_continue() == b""


def test_expectation_ends_with_its_request() -> None:
    connection = connected(post(b"Expect: 100-continue") + post(b"Content-Length: 3"))
    answer(connection, ("Content-Length", "0"))
    connection.end_response()
    assert connection.next_cycle()
    assert connection.next_request() is not None
    assert connection.take_continue() == b""


def test_body_that_was_never_asked_for_closes_the_connection() -> None:
    """9110 §10.1.1: whether the client will send it is not known, so the next request's start neither."""
    connection = connected(EXPECTING)
    assert b"Connection: close\r\n" in answer(connection)
    connection.end_response()
    assert not connection.next_cycle()


# --------------------------------------------------------------------------------------- unread bodies


def test_small_unread_body_is_drained_and_the_connection_kept() -> None:
    """9112 §9.3."""
    connection = connected(post(b"Content-Length: 5", body=b"he"))
    assert b"close" not in answer(connection, ("Content-Length", "0"))
    connection.end_response()
    assert not connection.next_cycle(), "not before the rest was read"
    connection.feed(b"llo" + GET)
    while connection.read_body(2):
        pass
    assert connection.next_cycle()
    assert connection.next_request() is not None


UNWANTED = {
    "larger than the bound": post(b"Content-Length: %d" % (DRAIN_LIMIT + 1)),
    "of unknown length": post(b"Transfer-Encoding: chunked", body=b"1\r\n"),
}


@pytest.mark.parametrize("data", UNWANTED.values(), ids=UNWANTED.keys())
def test_other_unread_body_closes_the_connection(data: bytes) -> None:
    """9112 §9.3: and the response announces it (§9.6)."""
    connection = connected(data)
    assert b"Connection: close\r\n" in answer(connection)
    connection.end_response()
    assert not connection.next_cycle()


def test_body_of_the_bound_is_drained() -> None:
    connection = connected(post(b"Content-Length: %d" % DRAIN_LIMIT))
    assert b"close" not in answer(connection)


def test_body_that_was_read_leaves_the_connection_open() -> None:
    connection = connected(post(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n0\r\n\r\n"))
    while connection.read_body(100):
        pass
    assert b"close" not in answer(connection)


# ------------------------------------------------------------------------------------------- responses


def test_chunked_response_ends_with_the_last_chunk() -> None:
    """9112 §7.1."""
    connection = connected(GET)
    assert b"Transfer-Encoding: chunked\r\n" in answer(connection)
    assert connection.missing == -1
    assert not connection.sends_raw
    assert connection.frame(b"hello world") == b"b\r\nhello world\r\n"
    assert connection.frame(b"") == b"", "an empty chunk would be the last one"
    assert connection.end_response() == b"0\r\n\r\n"
    assert connection.next_cycle()


def test_http10_response_without_length_ends_with_the_connection() -> None:
    """9112 §6.1, §6.3."""
    connection = connected(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head = answer(connection)
    assert b"chunked" not in head
    assert b"Connection: close\r\n" in head
    assert connection.sends_raw
    assert connection.frame(b"hello") + connection.end_response() == b"hello"
    assert not connection.next_cycle()


def test_http10_client_that_asks_is_told_that_the_connection_persists() -> None:
    """9112 §9.3."""
    connection = connected(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"Connection: keep-alive\r\n" in answer(connection, ("Content-Length", "0"))


def test_never_more_bytes_than_content_length() -> None:
    """9110 §8.6: what is too much would be read as the next response."""
    connection = connected(GET)
    answer(connection, ("Content-Length", "5"))
    assert connection.frame(b"hel") == b"hel"
    assert connection.missing == 2
    assert connection.frame(b"lo, world") == b"lo"
    assert connection.frame(b"!") == b""
    assert connection.end_response() == b""
    assert connection.next_cycle()


def test_fewer_bytes_than_content_length_close_the_connection() -> None:
    """9112 §8: an incomplete response must not pass for a complete one."""
    connection = connected(GET + GET)
    answer(connection, ("Content-Length", "5"))
    connection.frame(b"hell")
    assert connection.end_response() == b""
    assert not connection.next_cycle()
    assert connection.next_request() is None


def test_bytes_sent_raw_count_like_others() -> None:
    connection = connected(GET)
    answer(connection, ("Content-Length", "5"))
    assert connection.sends_raw
    connection.sent_raw(4)
    assert connection.missing == 1
    connection.end_response()
    assert not connection.next_cycle()


def test_bytes_sent_raw_until_the_connection_closes_are_not_counted() -> None:
    connection = connected(b"GET / HTTP/1.0\r\n\r\n")
    answer(connection)
    connection.sent_raw(4)
    assert connection.missing == -1
    assert connection.end_response() == b""


@pytest.mark.parametrize(
    ("start", "status"),
    [(b"HEAD", "200 OK"), (b"GET", "204 No Content"), (b"GET", "304 Not Modified")],
)
def test_responses_without_content_send_none(start: bytes, status: str) -> None:
    """9110 §6.4.1."""
    connection = connected(GET.replace(b"GET", start))
    head = answer(connection, status=status)
    assert b"Transfer-Encoding" not in head
    assert connection.missing == 0
    assert not connection.sends_raw
    assert connection.frame(b"hello") + connection.end_response() == b""
    assert connection.next_cycle()


def test_reset_content_says_that_it_is_empty() -> None:
    """9110 §15.3.6."""
    connection = connected(GET)
    head = answer(connection, ("Content-Length", "5"), status="205 Reset Content")
    assert head.count(b"Content-Length") == 1
    assert b"Content-Length: 0\r\n" in head
    assert connection.frame(b"hello") == b""


def test_opened_tunnel_has_no_framing() -> None:
    """9110 §8.6, 9112 §6.1: neither field in a 2xx to CONNECT."""
    connection = connected(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    head = answer(connection, ("Content-Length", "5"))
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head
    assert b"Connection: close\r\n" in head


def test_server_that_stops_announces_it() -> None:
    """9112 §9.6: Connection: close on the last response."""
    connection = connected(GET)
    connection.persistent = False
    assert b"Connection: close\r\n" in answer(connection, ("Content-Length", "0"))
    connection.end_response()
    assert not connection.next_cycle()


def test_response_that_was_given_up_never_gets_its_last_chunk() -> None:
    """9112 §8: the client must see that it is incomplete."""
    connection = connected(GET)
    answer(connection)
    connection.frame(b"hello")
    connection.abort()
    assert connection.end_response() == b""
    assert not connection.next_cycle()


def test_response_ends_once() -> None:
    connection = connected(GET)
    answer(connection)
    assert connection.end_response() == b"0\r\n\r\n"
    assert connection.end_response() == b""


def test_response_begins_once() -> None:
    connection = connected(GET)
    answer(connection)
    with pytest.raises(RuntimeError):
        answer(connection)
    with pytest.raises(RuntimeError):
        answer(ServerConnection(Limits()))


WHOLE = {
    "length not said": (b"GET", "200 OK", [], b"hello", b"Content-Length: 5\r\n\r\nhello"),
    "length said": (b"GET", "200 OK", [("Content-Length", "5")], b"hello", b"Content-Length: 5\r\n\r\nhello"),
    "empty": (b"GET", "200 OK", [], b"", b"Content-Length: 0\r\n\r\n"),
    "9110 §8.6 more than said": (b"GET", "200 OK", [("Content-Length", "2")], b"hello", b": 2\r\n\r\nhe"),
    "9110 §9.3.2 HEAD": (b"HEAD", "200 OK", [("Content-Length", "5")], b"hello", b": 5\r\n\r\n"),
    "9110 §15.3.5 204": (b"GET", "204 No Content", [("X", "y")], b"hello", b"X: y\r\n\r\n"),
    "9110 §15.3.6 205": (b"GET", "205 Reset Content", [], b"hello", b"Content-Length: 0\r\n\r\n"),
    "9110 §15.4.5 304": (b"GET", "304 Not Modified", [("X", "y")], b"hello", b"X: y\r\n\r\n"),
}


@pytest.mark.parametrize(("method", "status", "headers", "body", "end"), WHOLE.values(), ids=WHOLE.keys())
def test_whole_response_has_the_length_that_its_head_says(
    method: bytes, status: str, headers: list[tuple[str, str]], body: bytes, end: bytes
) -> None:
    connection = connected(GET.replace(b"GET", method))
    sent = connection.respond(check_head(status, headers), body, date=DATE, server="")
    assert sent.endswith(end)
    assert connection.end_response() == b""
    assert connection.next_cycle()


LINES: list[tuple[bytes, ...]] = [(), (b"Connection: close",), (b"Connection: keep-alive",)]
FIELDS = [("Content-Length", "5"), ("Date", "now"), ("Server", "mine"), ("X", "y")]


@given(
    method=st.sampled_from([b"GET", b"HEAD", b"POST"]),
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]),
    lines=st.sampled_from(LINES),
    sent=st.sampled_from([b"", b"abc"]),
    status=st.sampled_from(["200 OK", "204 No Content", "205 Reset Content", "304 Not Modified", "404 Gone"]),
    headers=st.lists(st.sampled_from(FIELDS), unique=True),
    body=st.sampled_from([b"", b"hello", b"longer than said"]),
    server=st.sampled_from(["", "prefork"]),
    keeps=st.booleans(),
)
def test_whole_response_is_the_same_as_one_in_pieces(
    method: bytes,
    version: bytes,
    lines: tuple[bytes, ...],
    sent: bytes,
    status: str,
    headers: list[tuple[str, str]],
    body: bytes,
    server: str,
    keeps: bool,
) -> None:
    length = (b"Content-Length: %d" % len(sent),) if sent else ()
    data = post(*lines, *length, body=sent, version=version).replace(b"POST", method, 1)
    whole, pieces = connected(data), connected(data)
    for connection in (whole, pieces):
        connection.persistent = connection.persistent and keeps
    head = check_head(status, headers)
    out = pieces.start_response(head, len(body), date=DATE, server=server)
    out += pieces.frame(body) + pieces.end_response()
    assert whole.respond(head, body, date=DATE, server=server) == out
    assert (whole.framing, whole.writing, whole.missing) == (pieces.framing, pieces.writing, pieces.missing)
    assert whole.next_cycle() == pieces.next_cycle()


def test_whole_response_that_is_shorter_than_said_closes_the_connection() -> None:
    """9112 §8."""
    connection = connected(GET + GET)
    head = check_head("200 OK", [("Content-Length", "9")])
    assert connection.respond(head, b"hello", date=DATE, server="").endswith(b": 9\r\n\r\nhello")
    assert not connection.next_cycle()


def test_whole_response_to_connect_ends_with_the_connection() -> None:
    """9112 §6.3."""
    connection = connected(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
    sent = connection.respond(check_head("200 OK", []), b"hello", date=DATE, server="")
    assert sent.endswith(b"Connection: close\r\n\r\nhello")
    assert not connection.next_cycle()


# --------------------------------------------------------------------------------------------- refusing


def refuse(data: bytes, status: int = 400) -> bytes:
    """Return the response with which a connection refuses what it has received."""
    connection = ServerConnection(Limits())
    connection.feed(data)
    try:
        connection.next_request()
    except ProtocolError as error:
        status = error.status
    response = connection.refuse(status, date=DATE, server="prefork")
    assert connection.writing is Writing.DONE
    assert not connection.next_cycle()
    return response


def test_refusal_is_a_whole_response_that_closes() -> None:
    assert refuse(b"\x00") == (
        b"HTTP/1.1 400 Bad Request\r\nServer: prefork\r\nDate: " + DATE.encode() + b"\r\n"
        b"Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\n\r\n"
        b"400 Bad Request\n"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"HEAD / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"HEAD / HT",
        b"\r\nHEAD / HTTP/1.1\r\n\r\n",
        GET.replace(b"GET", b"HEAD"),
    ],
    ids=["refused", "timed out", "behind an empty line", "refused by the worker"],
)
def test_refusal_of_a_head_request_has_no_body(data: bytes) -> None:
    """9110 §9.3.2."""
    assert refuse(data).endswith(b"\r\nContent-Length: 16\r\n\r\n")


def test_refusal_echoes_nothing_of_the_request() -> None:
    assert b"script" not in refuse(b"GET /<script> HTTP/1.1\r\nHost : <script>\r\n\r\n")


def test_refusal_behind_a_begun_response_sends_nothing() -> None:
    """It would be read as content of that response."""
    connection = connected(post(b"Transfer-Encoding: chunked", body=b"z\r\n"))
    answer(connection)
    assert connection.refuse(400, date=DATE, server="") == b""
    assert connection.end_response() == b""
    assert not connection.next_cycle()


# ------------------------------------------------------------------------------------ another protocol


def test_who_takes_over_gets_what_was_received_behind_the_request() -> None:
    """9110 §7.8."""
    connection = connected(GET + b"early")
    connection.feed(b" and more")
    assert connection.take_over() == b"early and more"
    assert (connection.buffered, connection.reading) == (0, Reading.TAKEN)


def test_once_taken_over_nothing_is_read_or_rendered() -> None:
    connection = connected(GET)
    answer(connection, ("Content-Length", "2"))
    connection.frame(b"ok")
    connection.end_response()
    assert connection.next_cycle()
    connection.feed(GET)
    assert connection.next_request() is not None
    connection.take_over()
    connection.feed(GET)
    assert connection.next_request() is None
    assert connection.read_body(9) == b""
    rendered = (
        connection.frame(b"x") + connection.end_response() + connection.refuse(500, date=DATE, server="")
    )
    assert (rendered, connection.missing) == (b"", 0)
    assert not connection.next_cycle()


def test_once_its_response_has_begun_a_request_cannot_be_taken_over() -> None:
    connection = connected(GET)
    answer(connection)
    with pytest.raises(RuntimeError, match="has begun"):
        connection.take_over()
    with pytest.raises(RuntimeError, match="has begun"):
        ServerConnection(Limits()).take_over()
