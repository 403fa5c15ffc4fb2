# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

import h11
import pytest
from http_dialogue import DATE
from hypothesis import example, given
from hypothesis import strategies as st

from prefork.http import check_head, render_head, response
from prefork.http.framing import Framing, Plan
from prefork.http.grammar import HOP_BY_HOP
from prefork.http.known import PATIENCE
from prefork.http.response import ResponseHead, error_head, without_length

KEPT = Plan(Framing.LENGTH, 5, persistent=True)


def rendered(
    *headers: tuple[str, str],
    status: str = "200 OK",
    plan: Plan = KEPT,
    version: str = "HTTP/1.1",
    server: str = "prefork",
) -> list[bytes]:
    """Return the lines of a response head, the two empty ones behind it too."""
    head = check_head(status, list(headers))
    return render_head(head, plan, version=version, date=DATE, server=server).split(b"\r\n")


def refused(status: Any, headers: Any) -> bool:
    """Return whether a head is refused, with one of the two promised exceptions."""
    try:
        check_head(status, headers)
    except (ValueError, TypeError):
        return True
    return False


# ---------------------------------------------------------------------------------------------- status

STATUSES = {
    "200 OK": b"HTTP/1.1 200 OK",
    "299 Made Up": b"HTTP/1.1 299 Made Up",
    "404 Not  Found": b"HTTP/1.1 404 Not  Found",
    "500 na\xefve": b"HTTP/1.1 500 na\xefve",
    "200 ": b"HTTP/1.1 200 ",
    "200": b"HTTP/1.1 200 ",
    "999 Go away": b"HTTP/1.1 999 Go away",
}


@pytest.mark.parametrize(("status", "line"), STATUSES.items(), ids=STATUSES.keys())
def test_accepts_status(status: str, line: bytes) -> None:
    """9112 §4: the space before the reason is there even when the reason is not."""
    for _ in range(2):  # the second time from the cache
        assert rendered(status=status)[0] == line


BAD_STATUSES = {
    "empty": "",
    "no digits": "OK",
    "two digits": "99 OK",
    "four digits": "2000 OK",
    "space in front": " 200 OK",
    "tab for space": "200\tOK",
    "sign": "+20 OK",
    "first digit 0": "020 OK",
    "superscript digits": "20\xb2 OK",
    "9112 §4 CR": "200 OK\r",
    "9112 §4 LF": "200 OK\n",
    "response splitting": "200 OK\r\nSet-Cookie: a=b",
    "NUL": "200 \x00",
    "DEL": "200 \x7f",
    "not latin-1": "200 Ω",
    "9110 §15.2 interim": "100 Continue",
    "9110 §15.2 another protocol": "101 Switching Protocols",
    "9110 §15.2 early hints": "103 Early Hints",
    "bytes": b"200 OK",
    "number": 200,
    "None": None,
    "list": ["200 OK"],
}


@pytest.mark.parametrize("status", BAD_STATUSES.values(), ids=BAD_STATUSES.keys())
def test_refuses_status(status: Any) -> None:
    with pytest.raises(ValueError if isinstance(status, str) else TypeError):
        check_head(status, [])


# --------------------------------------------------------------------------------------------- headers

VALUES = {
    "empty": "",
    "9110 §5.5 white space around": " a ",
    "9110 §5.5 tab": "a\tb",
    "9110 §5.5 obs-text": "caf\xe9",
    "colons": "a: b: c",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_accepts_value(value: str) -> None:
    assert b"X-A: " + value.encode("latin-1") in rendered(("X-A", value))


BAD_VALUES = {
    "9110 §5.5 CR": "a\rb",
    "9110 §5.5 LF": "a\nb",
    "9110 §5.5 CR LF": "a\r\nSet-Cookie: b=c",
    "9110 §5.5 line end behind": "a\r\n",
    "9110 §5.5 line end in front": "\r\na",
    "9110 §5.5 end of the head": "\r\n\r\n<script>",
    "9112 §5.2 folded": "a\r\n b",
    "9110 §5.5 NUL": "a\x00b",
    "9110 §5.5 escape": "\x1b[0m",
    "9110 §5.5 DEL": "\x7f",
    "3333 not latin-1": "€",
    "not latin-1, ends in the byte of LF": "Ċ",
    "not latin-1, ends in the byte of CR": "č",
    "surrogate": "\udc0a",
    "bytes": b"a",
    "number": 5,
    "None": None,
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
@pytest.mark.parametrize("name", ["X-A", "Server", "Content-Length"])
def test_refuses_value(name: str, value: Any) -> None:
    assert refused("200 OK", [(name, value)])
    assert refused("200 OK", [("X-First", "a"), (name, value), ("X-Last", "b")])


BAD_NAMES = {
    "empty": "",
    "space": "X A",
    "space behind": "X-A ",
    "colon": "X-A:",
    "colon and a second field": "X-A: b\r\nX-B",
    "LF": "X-A\n",
    "CR": "X\rA",
    "NUL": "X\x00A",
    "slash": "X/A",
    "obs-text": "X-\xc4",
    "not latin-1": "X-Ω",
    "bytes": b"X-A",
    "number": 5,
    "None": None,
    "list": ["X-A"],
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_refuses_name(name: Any) -> None:
    """9110 §5.1."""
    assert refused("200 OK", [(name, "b")])


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), "Connection", "TRANSFER-ENCODING", "Keep-Alive"])
def test_refuses_hop_by_hop_header(name: str) -> None:
    """3333, 9110 §7.6.1: they belong to the connection."""
    for _ in range(2):
        assert refused("200 OK", [(name, "close")])


@pytest.mark.parametrize(
    "value", ["", "-1", "+5", "5 ", "0x5", "5_0", "5,5", "\xb2", "5.0", "9" * 19, "9" * 9999]
)
def test_refuses_content_length(value: str) -> None:
    """9110 §8.6."""
    assert refused("200 OK", [("Content-Length", value)])


@pytest.mark.parametrize("value", ["0", "5", "007", "9" * 18])
def test_accepts_content_length(value: str) -> None:
    """9110 §8.6."""
    assert check_head("200 OK", [("Content-Length", value)]).length == int(value)


def test_refuses_a_second_content_length() -> None:
    """9110 §8.6: also an identical one."""
    assert refused("200 OK", [("Content-Length", "5"), ("content-length", "5")])


@pytest.mark.parametrize("headers", [None, 5, [None], [("X-A",)], [("X-A", "b", "c")], [5]])
def test_refuses_what_is_no_list_of_pairs(headers: Any) -> None:
    """3333."""
    assert refused("200 OK", headers)


def test_error_names_the_header_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="'X-B'"):
        check_head("200 OK", [("X-A", "a"), ("X-B", "b\nc"), ("X-C", "c")])
    with pytest.raises(ValueError, match="Transfer-Encoding"):
        check_head("200 OK", [("Transfer-Encoding", "chunked")])


def test_many_invented_names_and_reasons_leave_the_caches_bounded() -> None:
    for number in range(3000):
        check_head(f"200 {number}", [(f"X-{number}", "a")])
    assert len(response._names) <= response._KEPT
    assert len(response._statuses) <= response._KEPT


# ------------------------------------------------------------------------------------------- rendering


def test_a_head_that_comes_again_is_not_checked_again() -> None:
    response._heads.patience = PATIENCE  # whatever other tests have done
    headers = [("Content-Type", "text/plain"), ("X-Again", "yes")]
    once = check_head("200 OK", headers)
    again = check_head("200 OK", [(str(name), str(value)) for name, value in headers])
    assert again is once


def test_a_head_is_not_another_one_that_is_nearly_the_same() -> None:
    heads = [
        check_head(status, headers)
        for status in ("200 OK", "200 ok")
        for headers in ([("X-Near", "a")], [("x-near", "a")], [("X-Near", "b")], [("X-Near", "a")] * 2, [])
    ]
    assert len({(head.line, head.fields) for head in heads}) == 10


def test_heads_with_cookies_and_long_ones_are_not_kept() -> None:
    for headers in ([("set-Cookie", "sessionid=8f1c3a0d")], [("X-Long", "a" * 1024)]):
        assert check_head("200 OK", headers) is not check_head("200 OK", headers)


def test_pairs_may_be_lists() -> None:
    pairs: Any = [["X-List", "a"]]
    assert check_head("200 OK", pairs) == check_head("200 OK", [("X-List", "a")])


def test_a_refused_head_is_refused_again() -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="control character"):
            check_head("200 OK", [("X-Bad", "a\nb")])


def test_head_has_the_fields_of_the_application_behind_those_of_the_server() -> None:
    assert rendered(("X-A", "b"), ("x-a", "c"), ("Content-Length", "5")) == [
        b"HTTP/1.1 200 OK",
        b"Server: prefork",
        b"Date: " + DATE.encode(),
        b"X-A: b",
        b"x-a: c",
        b"Content-Length: 5",
        b"",
        b"",
    ]


def test_length_that_only_the_server_knows_is_added() -> None:
    assert b"Content-Length: 5" in rendered()


def test_application_can_set_date_and_server() -> None:
    """9110 §6.6.1: Date on every response, and once."""
    lines = rendered(("Date", "x"), ("SERVER", "y"))
    assert [line for line in lines if line.lower().startswith((b"date", b"server"))] == [
        b"Date: x",
        b"SERVER: y",
    ]
    assert b"Server: prefork" in rendered(("Date", "x"))
    assert b"Date: " + DATE.encode() in rendered(("Server", "y"))


def test_empty_server_setting_sends_none() -> None:
    assert not [line for line in rendered(server="") if line.startswith(b"Server")]
    assert not [line for line in rendered(("Date", "x"), server="") if line.startswith(b"Server")]


def test_closing_is_announced_to_every_version() -> None:
    """9112 §9.6."""
    closing = KEPT._replace(persistent=False)
    assert b"Connection: close" in rendered(plan=closing)
    assert b"Connection: close" in rendered(plan=closing, version="HTTP/1.0")


def test_staying_is_announced_to_http10_alone() -> None:
    """9112 §9.3."""
    assert b"Connection: keep-alive" in rendered(version="HTTP/1.0")
    assert not [line for line in rendered() if line.startswith(b"Connection")]


def test_chunked_is_announced() -> None:
    """9112 §6.1."""
    assert b"Transfer-Encoding: chunked" in rendered(plan=Plan(Framing.CHUNKED, -1, persistent=True))


NO_LENGTH = Plan(Framing.NONE, 0, persistent=True)


def test_no_content_has_no_length() -> None:
    """9110 §8.6: never in a 204, and frameworks send it there."""
    lines = rendered(
        ("X-A", "b"), ("content-LENGTH", "0"), ("X-B", "c"), status="204 No Content", plan=NO_LENGTH
    )
    assert not [line for line in lines if line.lower().startswith(b"content-length")]
    assert {b"X-A: b", b"X-B: c"} < set(lines)


def test_not_modified_keeps_the_length_of_the_application() -> None:
    """9110 §8.6: it says what a 200 would have."""
    assert b"Content-Length: 5" in rendered(
        ("Content-Length", "5"), status="304 Not Modified", plan=NO_LENGTH
    )


def test_dropping_the_length_leaves_other_fields_alone() -> None:
    head = check_head(
        "200 OK", [("Content-Length-X", "1"), ("Content-Length", "2"), ("X", "Content-Length: 3")]
    )
    assert without_length(head).fields == "\r\nContent-Length-X: 1\r\nX: Content-Length: 3"
    assert without_length(head).length is None


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 501, 503, 505])
def test_error_response_is_whole(status: int) -> None:
    """9110 §15.5, §15.6: read back by another parser."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(error_head(status, method="GET", date=DATE, server="prefork"))
    head, body, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(head, h11.Response)
    assert isinstance(body, h11.Data)
    assert isinstance(end, h11.EndOfMessage)
    assert head.status_code == status
    assert body.data.startswith(str(status).encode())
    assert client.their_state is h11.MUST_CLOSE


# ------------------------------------------------------------------------------- whatever it may be given

ANY_TEXT = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(max_codepoint=0xFF), max_size=20),
    st.text("aB-:;, \t\r\n\0_", max_size=12),
)
LIKELY_NAME = st.one_of(
    st.sampled_from(
        ["X-A", "Content-Type", "Content-Length", "Date", "Server", "Set-Cookie", "Connection", "TE"]
    ),
    st.text("abAB-_09!", min_size=1, max_size=8),
)
LIKELY_VALUE = st.one_of(
    st.sampled_from(["", "0", "5", "close", "text/html"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20),
)
HEADERS = st.lists(st.tuples(st.one_of(LIKELY_NAME, ANY_TEXT), st.one_of(LIKELY_VALUE, ANY_TEXT)), max_size=5)
LIKELY_HEADERS = st.lists(st.tuples(LIKELY_NAME, LIKELY_VALUE), max_size=5)
STATUS = st.one_of(
    st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "205 Reset", "500"]),
    st.builds("{} {}".format, st.integers(0, 1200), ANY_TEXT),
    ANY_TEXT,
)


def read_back(data: bytes, method: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Parse a response head with h11; nothing may be left behind it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    event = client.next_event()
    assert isinstance(event, h11.Response)
    assert client.trailing_data[0] == b""
    return (
        event.status_code,
        bytes(event.reason),
        [(bytes(name), bytes(value)) for name, value in event.headers],
    )


@given(
    status=st.one_of(st.just("200 OK"), STATUS),
    headers=st.one_of(HEADERS, LIKELY_HEADERS),
    plan=st.sampled_from(
        [KEPT, KEPT._replace(persistent=False), NO_LENGTH, Plan(Framing.CHUNKED, -1, persistent=True)]
    ),
)
@example(status="200 OK", headers=[("X-A", "a\r\n\r\nHTTP/1.1 200 OK")], plan=KEPT)
@example(status="200 OK\r\nX: y", headers=[], plan=KEPT)
def test_any_head_is_refused_or_reads_back_the_same(
    status: str, headers: list[tuple[str, str]], plan: Plan
) -> None:
    """No string of an application splits a response or changes its framing (9112 §11.1)."""
    try:
        head = check_head(status, headers)
    except (ValueError, TypeError):
        return
    if head.status >= 600:
        return  # h11 takes none above
    data = render_head(head, plan, version="HTTP/1.1", date=DATE, server="prefork")
    assert data.count(b"\r\n\r\n") == 1
    assert data.endswith(b"\r\n\r\n")
    code, reason, fields = read_back(data, "GET" if plan is not NO_LENGTH else "HEAD")
    assert f"{code} ".encode() + reason == head.line.encode("latin-1")
    sent = [(name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, value in headers]
    if head.status in {204, 205} and head.length is not None:
        sent = [field for field in sent if field[0] != b"content-length"]
    start = len(fields) - len(sent)
    assert fields[start:] == sent
    assert {name for name, _ in fields[:start]} <= {
        b"server", b"date", b"connection", b"content-length", b"transfer-encoding",
    }  # fmt: skip
    names = [name for name, _ in fields]
    assert names.count(b"date") >= 1
    assert (
        names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        or plan.framing is Framing.CHUNKED
    )


@given(st.one_of(st.none(), st.integers(), ANY_TEXT, st.binary(), st.lists(st.integers())), st.data())
def test_any_type_is_refused_or_a_head(status: object, data: st.DataObject) -> None:
    """3333: what is no native string is a TypeError or a ValueError, nothing else."""
    anything = st.one_of(
        st.none(), st.integers(), ANY_TEXT, st.binary(max_size=5), st.lists(st.integers(), max_size=1)
    )
    headers = data.draw(st.one_of(anything, st.lists(st.one_of(anything, st.tuples(anything, anything)))))
    refused(status, headers)


def test_head_is_a_plain_tuple_for_other_modules() -> None:
    head = check_head("200 OK", [("Content-Length", "5"), ("Date", "x")])
    assert head == ResponseHead(200, "200 OK", "\r\nContent-Length: 5\r\nDate: x", 5, ("date",))
