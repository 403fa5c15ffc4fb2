# SPDX-License-Identifier: MIT
"""The core takes time in proportion to what it is sent, however hostile that is.

An input of eight times the size may take 24 times as long: what is quadratic takes 64 times. Only the
CPU time of this thread counts, without collections of what other tests have left, the best of several
runs; below a floor there is nothing to measure.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

import pytest
from http_dialogue import converse, singly

from prefork.errors import ProtocolError
from prefork.http import Limits, check_head, parse_head
from prefork.http.buffer import ReceiveBuffer
from prefork.http.forwarded import ForwardPolicy
from prefork.http.grammar import CHUNK_LINE, HOST
from prefork.http.response import without_length

if TYPE_CHECKING:
    from collections.abc import Callable

FLOOR: Final = 0.001  # seconds
OPEN: Final = Limits(line=0, fields=0, field_size=0)
WIDE: Final = Limits(line=1 << 19, fields=1 << 15, field_size=1 << 19)


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU time of a run."""
    gc.disable()
    try:
        start = time.thread_time()
        run()
        return time.thread_time() - start
    finally:
        gc.enable()


def is_linear(make: Callable[[int], Callable[[], object]], size: int) -> bool:
    """Return whether eight times the size takes less than 24 times as long, the best of up to twelve runs."""
    small, large = make(size), make(8 * size)
    once = eightfold = float("inf")
    for _ in range(12):
        once, eightfold = min(once, seconds(small)), min(eightfold, seconds(large))
        if eightfold < 24 * max(once, FLOOR):
            return True
    return False


def parsed(data: bytes, limits: Limits = OPEN) -> None:
    """Parse a head, whether it is refused or not."""
    try:
        parse_head(data, limits)
    except ProtocolError:
        pass


LINES: dict[str, Callable[[int], bytes]] = {
    "long method": lambda n: b"A" * n + b" / HTTP/1.1",
    "long target": lambda n: b"GET /" + b"a" * n + b" HTTP/1.1",
    "long target, wrong at its end": lambda n: b"GET /" + b"a" * n + b"\xff HTTP/1.1",
    "long query": lambda n: b"GET /?" + b"?" * n + b" HTTP/1.1",
    "spaces in the request line": lambda n: b"GET" + b" " * n + b"/ HTTP/1.1",
    "only spaces": lambda n: b"G" + b" " * n,
    "long authority": lambda n: b"GET http://" + b"a" * n + b"/ HTTP/1.1",
    "long authority, wrong at its end": lambda n: b"GET http://" + b"a" * n + b"@ HTTP/1.1",
    "percents in the authority": lambda n: b"GET http://" + b"%41" * (n // 3) + b"% HTTP/1.1",
    "colons in the authority": lambda n: b"GET http://" + b":" * n + b"/ HTTP/1.1",
    "slashes in the target": lambda n: b"GET http:" + b"/" * n + b"\xff HTTP/1.1",
    "question marks in an absolute target": lambda n: b"GET http://a" + b"?" * n + b"# HTTP/1.1",
    "long CONNECT": lambda n: b"CONNECT " + b"a" * n + b":x HTTP/1.1",
    "dots in CONNECT": lambda n: b"CONNECT " + b"." * n + b":443 HTTP/1.1",
    "long version": lambda n: b"GET / HTTP/1." + b"1" * n,
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_request_lines(line: Callable[[int], bytes]) -> None:
    def make(size: int) -> Callable[[], None]:
        data = line(size) + b"\r\nHost: a\r\n\r\n"
        return lambda: parsed(data)

    assert is_linear(make, 1 << 16)


FIELDS: dict[str, Callable[[int], bytes]] = {
    "long name": lambda n: b"A" * n + b": b\r\n",
    "long name, wrong at its end": lambda n: b"A" * n + b" : b\r\n",
    "long value": lambda n: b"A: " + b"b" * n + b"\r\n",
    "spaces before the value": lambda n: b"A:" + b" " * n + b"b\r\n",
    "spaces behind the value": lambda n: b"A: b" + b" " * n + b"\r\n",
    "only spaces and tabs": lambda n: b"A:" + b" \t" * (n // 2) + b"\r\n",
    "spaces within": lambda n: b"A: b" + b" " * n + b"c\r\n",
    "colons": lambda n: b":" * n + b"\r\n",
    "colons and spaces": lambda n: b"A" + b": " * (n // 2) + b"\r\n",
    "bare CR": lambda n: b"A: " + b"\r" * n + b"\r\n",
    "bare LF": lambda n: b"A: " + b"\n" * n + b"\r\n",
    "CR and LF the wrong way round": lambda n: b"A: " + b"\n\r" * (n // 2) + b"\r\n",
    "CR LF CR": lambda n: b"A: b" + b"\r\n\r" * (n // 3) + b"\r\n",
    "one name many times": lambda n: b"A: b\r\n" * (n // 6),
    "a long value and one name many times": lambda n: (
        b"A: " + b"b" * (n // 2) + b"\r\n" + b"A: b\r\n" * (n // 12)
    ),
    "cookies": lambda n: b"Cookie: b\r\n" * (n // 11),
    "one underscored name many times": lambda n: b"A_B: b\r\n" * (n // 8),
    "many names": lambda n: b"".join(b"A%d: b\r\n" % number for number in range(n // 8)),
    "many underscored names": lambda n: b"".join(b"A_%d: b\r\n" % number for number in range(n // 8)),
    "many lengths": lambda n: b"Content-Length: 5\r\n" * (n // 19),
    "a list of lengths": lambda n: b"Content-Length: 5" + b", 5" * (n // 3) + b"\r\n",
    "a length of many digits": lambda n: b"Content-Length: " + b"9" * n + b"\r\n",
    "a list of codings": lambda n: b"Transfer-Encoding: " + b"chunked, " * (n // 9) + b"chunked\r\n",
    "a list of empty codings": lambda n: b"Transfer-Encoding: " + b", " * (n // 2) + b"\r\n",
    "a list of options": lambda n: b"Connection: " + b"a," * (n // 2) + b"\r\n",
    "a list of empty options": lambda n: b"Connection:" + b" ," * (n // 2) + b"\r\n",
    "a list of expectations": lambda n: b"Expect: " + b"100-continue," * (n // 13) + b"\r\n",
}


@pytest.mark.parametrize("block", FIELDS.values(), ids=FIELDS.keys())
def test_fields(block: Callable[[int], bytes]) -> None:
    def make(size: int) -> Callable[[], None]:
        data = b"POST / HTTP/1.1\r\nHost: a\r\n" + block(size) + b"\r\n"
        return lambda: parsed(data)

    assert is_linear(make, 1 << 16)


HOSTS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n + "/",
    "dots": lambda n: "." * n + "/",
    "percents": lambda n: "%41" * (n // 3) + "%",
    "colons": lambda n: "a" + ":" * n,
    "brackets": lambda n: "[" * n,
    "groups": lambda n: "[" + "1:" * (n // 2) + "]",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_hosts(host: Callable[[int], str]) -> None:
    def make(size: int) -> Callable[[], object]:
        text = host(size)
        return lambda: HOST.fullmatch(text)

    assert is_linear(make, 1 << 16)


CHUNK_LINES: dict[str, Callable[[int], bytes]] = {
    "digits": lambda n: b"1" * n + b"x",
    "digits and an extension": lambda n: b"1" * n + b";a" * n + b"!",
    "extensions": lambda n: b"1" + b";a=b" * (n // 4) + b"!",
    "semicolons": lambda n: b"1" + b";" * n,
    "white space": lambda n: b"1" + b" \t" * (n // 2),
    "white space between": lambda n: b"1" + b" ; a = b" * (n // 8) + b" =",
    "white space behind a name": lambda n: b"1;a" + b" " * n + b"!",
    "quotes not closed": lambda n: b'1;a="' + b"b" * n,
    "backslashes": lambda n: b'1;a="' + b"\\" * n,
    "escaped quotes": lambda n: b'1;a="' + b'\\"' * (n // 2),
    "many quoted values": lambda n: b"1" + b';a="\\""' * (n // 7) + b'"',
    "empty quotes": lambda n: b"1;a=" + b'""' * (n // 2),
}


@pytest.mark.parametrize("line", CHUNK_LINES.values(), ids=CHUNK_LINES.keys())
def test_chunk_lines(line: Callable[[int], bytes]) -> None:
    def make(size: int) -> Callable[[], object]:
        data = line(size)
        return lambda: CHUNK_LINE.fullmatch(data)

    assert is_linear(make, 1 << 16)


START = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

SINGLE_BYTES: dict[str, Callable[[int], bytes]] = {
    "a long request line": lambda n: b"GET /" + b"a" * n,
    "a long request line, and more": lambda n: (
        b"GET /" + b"a" * (n // 2) + b" HTTP/1.1\r\n" + b"A: b\r\n" * (n // 12)
    ),
    "a long value": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * n,
    "many fields": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * (n // 6) + b"\r\n",
    "line ends that never end the head": lambda n: b"GET / HTTP/1.1\r\nA: b" + b"\r\n\r" * (n // 3),
    "chunk extensions": lambda n: START + (b"1;" + b"a" * 60 + b"\r\nx\r\n") * (n // 67),
    "long chunk extensions": lambda n: (START + b"1;" + b"a" * 4000 + b"\r\nx\r\n0\r\n\r\n") * (n // 4000),
    "tiny chunks": lambda n: START + b"1\r\nx\r\n" * (n // 6),
    "a large body": lambda n: b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n,
    "many trailers": lambda n: START + b"0\r\n" + b"A: b\r\n" * (n // 6),
    "a long trailer": lambda n: START + b"0\r\nA: " + b"b" * n,
    "requests": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (n // 27),
}


@pytest.mark.parametrize("data", SINGLE_BYTES.values(), ids=SINGLE_BYTES.keys())
def test_bytes_that_come_singly(data: Callable[[int], bytes]) -> None:
    """A connection keeps what it has searched through already."""

    def make(size: int) -> Callable[[], object]:
        pieces = singly(data(size))
        return lambda: converse(pieces, WIDE)

    assert is_linear(make, 1 << 13)


AT_ONCE: dict[str, Callable[[int], bytes]] = {
    "requests": lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (n // 27),
    "requests behind empty lines": lambda n: b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n" * (n // 29),
    "requests with bodies": lambda n: (START + b"1\r\nx\r\n0\r\nT: y\r\n\r\n") * (n // 76),
    "tiny chunks": lambda n: START + b"1\r\nx\r\n" * (n // 6),
    "trailers": lambda n: START + b"0\r\n" + b"A: b\r\n" * (n // 6),
}


@pytest.mark.parametrize("data", AT_ONCE.values(), ids=AT_ONCE.keys())
def test_much_that_comes_at_once(data: Callable[[int], bytes]) -> None:
    """What is consumed is not moved again for each request or chunk."""

    def make(size: int) -> Callable[[], object]:
        whole = data(size)
        return lambda: converse([whole], WIDE)

    assert is_linear(make, 1 << 14)


def test_a_large_body_read_in_single_bytes() -> None:
    def make(size: int) -> Callable[[], object]:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
        return lambda: converse([head + b"x" * size], piece=1)

    assert is_linear(make, 1 << 13)


def test_buffer_that_is_filled_and_emptied_in_turns() -> None:
    def make(size: int) -> Callable[[], object]:
        def run() -> None:
            buffer = ReceiveBuffer()
            buffer.append(b"x" * size)
            for _ in range(size):
                buffer.append(b"yz")
                buffer.take(1)

        return run

    assert is_linear(make, 1 << 13)


RESPONSES: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "a long value": lambda n: [("X-A", "a" * n)],
    "a long value, wrong at its end": lambda n: [("X-A", "a" * n + "\n")],
    "a long value, not latin-1": lambda n: [("X-A", "a" * n + "€")],
    "a long name": lambda n: [("a" * n + ":", "b")],
    "many fields": lambda n: [("X-A", "b")] * (n // 8),
    "many fields, the last one wrong": lambda n: [("X-A", "b")] * (n // 8) + [("X-B", "\n")],
    "many dates": lambda n: [("Date", "b")] * (n // 32),
    "a length behind many fields": lambda n: [*([("X-A", "b")] * (n // 8)), ("Content-Length", "5")],
    "a length of many digits": lambda n: [("Content-Length", "9" * n)],
}


@pytest.mark.parametrize("headers", RESPONSES.values(), ids=RESPONSES.keys())
def test_response_heads(headers: Callable[[int], list[tuple[str, str]]]) -> None:
    def make(size: int) -> Callable[[], object]:
        given = headers(size)

        def run() -> None:
            try:
                without_length(check_head("200 OK", given))
            except ValueError:
                pass

        return run

    assert is_linear(make, 1 << 15)


def test_scheme_said_many_times() -> None:
    policy = ForwardPolicy(("*",), {"X-FORWARDED-PROTO": "https"}, ("*",), "drop")

    def make(size: int) -> Callable[[], object]:
        lines = b"X-Forwarded-Proto: https\r\nX_A: b\r\n" * (size // 36)
        request = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n", OPEN)
        assert request is not None
        return lambda: policy.apply(request, "192.0.2.1")

    assert is_linear(make, 1 << 15)
