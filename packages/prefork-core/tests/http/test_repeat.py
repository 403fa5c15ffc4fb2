# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from http_dialogue import DATE, Dialogue, Event, converse, cut, got
from hypothesis import example, given
from hypothesis import strategies as st

from prefork.http import Limits, Request, ServerConnection, check_head, known, parse_head, repeat
from prefork.http.connection import PATIENCE
from prefork.http.forwarded import Forwarded
from prefork.http.repeat import LONGEST_KEPT, Parsed, keep, parse_repeated
from prefork.wsgi.environ import Peer, make_environ

LIMITS = Limits()
HOST = b" HTTP/1.1\r\nHost: a\r\n\r\n"


def parsed(data: bytes) -> Request:
    """Return the request at the start of these bytes."""
    request = parse_head(data, LIMITS)
    assert request is not None
    return request


def kept(rest: bytes = HOST) -> Parsed:
    """Return what is kept of a request that ends so."""
    found = keep(parsed(b"GET /first" + rest))
    assert found is not None
    return found


# ------------------------------------------------------------------------------- what counts as a repeat

REPEATS = {
    "same target": (HOST, b"GET /first"),
    "another target": (HOST, b"GET /a/b?c=d?e"),
    "another method": (HOST, b"POST /"),
    "HTTP/1.0": (b" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /"),
    "a body of known length": (b" HTTP/1.1\r\nHost: a\r\nContent-Length: 03, 03\r\n\r\n", b"PUT /"),
    "a chunked body": (b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"PUT /"),
    "an expectation": (
        b" HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        b"PUT /",
    ),
    "joined lines": (b" HTTP/1.1\r\nHost: a\r\nCookie: a\r\nCookie: b\r\n\r\n", b"GET /"),
    "obs-text": (b" HTTP/1.1\r\nHost: a\r\nX: \xe9\x85\r\n\r\n", b"GET /"),
}


@pytest.mark.parametrize("follows", [b"", b"GET / HTTP/1.1\r\n\r\n"], ids=["alone", "pipelined"])
@pytest.mark.parametrize(("rest", "start"), REPEATS.values(), ids=REPEATS.keys())
def test_same_bytes_mean_the_same(rest: bytes, start: bytes, follows: bytes) -> None:
    found = parse_repeated(start + rest + follows, kept(rest), LIMITS)
    assert found is not None
    assert got(found) == got(parsed(start + rest))
    assert found.size == len(start + rest)


def test_a_target_that_comes_again_is_the_same() -> None:
    repeat._lines.patience = known.PATIENCE  # whatever other tests have done
    before = kept()
    for _ in range(2):
        for kind in (bytes, bytearray):
            found = parse_repeated(kind(b"POST /again?a=1?2" + HOST), before, LIMITS)
            assert found is not None
            assert (found.method, found.target) == ("POST", "/again?a=1?2")
            assert (found.path, found.query) == ("/again", "a=1?2")
            assert found.line == b"POST /again?a=1?2"


def test_targets_that_clients_invent_leave_what_is_kept_bounded() -> None:
    repeat._lines.patience = known.PATIENCE  # whatever other tests have done
    before = kept()
    for number in (*range(2 * known.PATIENCE), "a" * 1_000):
        found = parse_repeated(b"GET /%s" % str(number).encode() + HOST, before, LIMITS)
        assert found is not None
        assert found.path == f"/{number}"
        assert len(repeat._lines) <= known.KEPT
        assert all(len(line) < 300 for line in repeat._lines)
    assert repeat._lines.patience < 0
    repeat._lines.patience = known.PATIENCE


def test_what_was_worked_out_of_a_head_is_there_for_those_that_repeat_it() -> None:
    connection = ServerConnection(Limits())
    memos = []
    for data in (
        b"GET /1" + HOST,
        b"GET /2" + HOST,
        b"GET /3" + HOST,
        b"GET /4" + HOST[:-2] + b"X: y\r\n\r\n",
    ):
        connection.feed(data)
        request = connection.next_request()
        assert request is not None
        memos.append(request.memo)
        connection.respond(check_head("200 OK", []), b"", DATE, "")
        assert connection.next_cycle()
    assert memos == [None, {}, {}, None]
    assert memos[1] is memos[2]


OTHERS = {
    "another field": b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
    "one more field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\r\n",
    "another version": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "not whole yet": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    "no version yet": b"GET /",
    "a version in the target": b"GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  /" + HOST,
    "no target": b"GET" + HOST,
    "a control byte": b"GET /\x00" + HOST,
    "bare CR": b"GET /\r" + HOST,
    "a line in front": b"GET / HTTP/2.0\r\nX:" + HOST,
    "an empty line in front": b"\r\nGET /" + HOST,
    "UTF-8 in the target": "GET /é".encode() + HOST,
    "a fragment": b"GET /#a" + HOST,
    "3.2.2 absolute-form": b"GET http://b/" + HOST,
    "3.2.3 authority-form": b"CONNECT a:1" + HOST,
    "3.2.4 asterisk-form": b"OPTIONS *" + HOST,
    "CONNECT with a path": b"CONNECT /" + HOST,
    "a rare method": b"M-SEARCH /" + HOST,
    "a method in lower case": b"get /" + HOST,
    "longer than what no limit can mind": b"GET /" + b"a" * LIMITS.ample + HOST,
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_all_else_is_left_to_the_parser(data: bytes, kind: type[bytes | bytearray]) -> None:
    assert parse_repeated(kind(data), kept(), LIMITS) is None


UNKEPT = {
    "3.2.2 absolute-form": b"GET http://b/" + HOST,
    "3.2.3 authority-form": b"CONNECT a:1" + HOST,
    "3.2.4 asterisk-form": b"OPTIONS *" + HOST,
    "underscored name": b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n",
    "last request": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "long": b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"a" * LONGEST_KEPT + b"\r\n\r\n",
}


@pytest.mark.parametrize("data", UNKEPT.values(), ids=UNKEPT.keys())
def test_nothing_is_kept_of(data: bytes) -> None:
    assert keep(parsed(data)) is None


# --------------------------------------------------------------------------------------- on a connection


def ask(connection: ServerConnection, data: bytes) -> Request:
    """Send a request that must be taken, and answer it."""
    connection.feed(data)
    request = connection.next_request()
    assert request is not None
    connection.respond(check_head("200 OK", []), b"", DATE, "")
    assert connection.next_cycle()
    return request


def test_a_connection_knows_a_repeated_head() -> None:
    connection = ServerConnection(LIMITS)
    first, second = ask(connection, b"GET /1" + HOST), ask(connection, b"GET /2" + HOST)
    assert second.rest is first.rest
    assert (second.path, second.fields) == ("/2", {"HTTP_HOST": "a"})


def test_the_environ_of_one_request_is_not_that_of_the_next() -> None:
    """An application may change its environ; what the requests of a connection share must not see that."""
    connection = ServerConnection(LIMITS)
    for _ in range(3):
        request = ask(connection, b"GET /" + HOST)
        environ = make_environ({"SCRIPT_NAME": ""}, request, Peer("", ""), Forwarded("http", "", {}), None)
        assert environ["HTTP_HOST"] == "a"
        assert "HTTP_X" not in environ
        environ["HTTP_HOST"] = environ["HTTP_X"] = "evil"


def test_the_host_of_an_absolute_target_does_not_stay() -> None:
    """9112 §3.2.2."""
    connection = ServerConnection(LIMITS)
    starts = (b"GET /", b"GET http://b/", b"GET /", b"GET http://c/", b"GET /")
    hosts = [ask(connection, start + HOST).fields["HTTP_HOST"] for start in starts]
    assert hosts == ["a", "b", "a", "c", "a"]


def test_a_connection_on_which_nothing_repeats_is_soon_left_in_peace() -> None:
    connection = ServerConnection(LIMITS)
    for number in range(PATIENCE + 1):
        ask(connection, b"GET / HTTP/1.1\r\nHost: a%d\r\n\r\n" % number)
    assert connection._kept is None
    first, second = ask(connection, b"GET /" + HOST), ask(connection, b"GET /" + HOST)
    assert second.rest is not first.rest


def test_a_repeat_renews_the_patience() -> None:
    connection = ServerConnection(LIMITS)
    for number in range(PATIENCE + 2):
        different = b" HTTP/1.1\r\nHost: a%d\r\n\r\n" % number
        first, second = ask(connection, b"GET /1" + different), ask(connection, b"GET /2" + different)
        assert second.rest is first.rest


# --------------------------------------------------------------------------- with and without, any bytes

LINES = (
    *(
        b"Host: a",
        b"Host: a",
        b"host: b:80",
        b"Host: a b",
        b"Accept: */*",
        b"X: caf\xe9 \x85",
        b"X:a",
        b"X: ",
    ),
    *(b"Cookie: a", b"Cookie: b", b"X_Y: z", b"Connection: close", b"Connection: keep-alive"),
    *(b"Content-Length: 3", b"Content-Length: 3, 3", b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
    *(b"X : a", b"X", b" X: a", b"X: \x00", b"X: a\nY: b", b"X: " + b"a" * 60, b"X: HTTP/1.1"),
)
METHODS = (b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"M-SEARCH", b"")
TARGETS = (
    *(b"/", b"/a?b", b"/%41", b"http://b/", b"http://b?c", b"*", b"a:1", b"/a b", b"/#", b"/\xe9", b""),
    *(b"/ HTTP/1.1", b"/" + b"a" * 60, b"/a\r\nX:", b"/\n", b"http://b c/", b"/a\r\n\r\nGET /"),
)
VERSIONS = (b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/1.11")
BODIES = (b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n")

blocks = st.lists(st.sampled_from(LINES), max_size=5).map(lambda lines: b"\r\n".join([b"Host: a", *lines]))
rests = st.tuples(st.sampled_from(VERSIONS), blocks, st.sampled_from(BODIES)).map(
    lambda parts: b"%b\r\n%b\r\n\r\n%b" % parts
)
starts = st.tuples(st.sampled_from(METHODS), st.sampled_from(TARGETS)).map(b" ".join)
simple_starts = st.sampled_from([b"GET /", b"POST /a?b", b"GET http://b/"])


@st.composite
def similar_requests(draw: st.DrawFn) -> bytes:
    """Return requests of which many repeat what is behind the target of another one."""
    few = draw(st.lists(rests, min_size=1, max_size=2))
    pairs = st.tuples(st.one_of(simple_starts, simple_starts, starts), st.sampled_from(few))
    return b"".join(start + rest for start, rest in draw(st.lists(pairs, min_size=2, max_size=8)))


def forgetful(pieces: list[bytes], limits: Limits) -> list[Event]:
    """Return what a server makes of bytes when it parses each head for itself."""
    dialogue = Dialogue(limits)
    dialogue.connection._patience = 0
    for data in pieces:
        if data:
            dialogue.hear(data)
    assert dialogue.connection._kept is None
    return dialogue.finished()


@given(
    similar_requests(),
    st.sampled_from(
        [LIMITS, Limits(line=60, fields=4, field_size=60), Limits(line=0, fields=0, field_size=0)]
    ),
    st.lists(st.integers(0, 2000), max_size=4),
)
@example(b"GET /" + HOST + b"GET http://b/" + HOST + b"GET /" + HOST, LIMITS, [])
def test_what_is_kept_changes_nothing(data: bytes, limits: Limits, places: list[int]) -> None:
    pieces = cut(data, places)
    assert converse(pieces, limits) == forgetful(pieces, limits)
