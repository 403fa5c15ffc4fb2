# SPDX-License-Identifier: MIT
"""Clients that are slow, rude or gone, and bodies that are not as they should be."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from raw_client import Client, chunked, request
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PLAIN = [("Content-Type", "text/plain")]
LARGE = b"0123456789abcdef" * (520 * 1024)
"""More than a body may have to be collected before the application is called."""
"""More than kernel and worker keep for a client that does not read."""


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [b"hello"]


class Reading:
    """An application that reads its body to the end, and what came of it.

    Args:
        catch: whether it answers in spite of an error.
    """

    def __init__(self, *, catch: bool = False) -> None:
        self._catch = catch
        self.called = 0
        self.got: list[bytes] = []
        self.errors: list[OSError] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.called += 1
        try:
            while piece := environ["wsgi.input"].read(1000):
                self.got.append(piece)
        except OSError as error:
            self.errors.append(error)
            if not self._catch:
                raise
        start_response("200 OK", PLAIN)
        return [b"read"]


def test_an_empty_line_after_a_body_does_not_begin_a_request(tmp_path: Path) -> None:
    """Old clients send one (RFC 9112 §2.2): it is no half sent request that runs out."""
    settings = {"header_timeout": 0.3, "keepalive": 30.0}
    with Serving(hello, tmp_path, keepalive=30.0, settings=settings) as server, server.client() as client:
        client.send(request("POST", "/", body=b"old"), b"\r\n")
        assert client.answer().status == 200
        with server.client() as other:
            other.send(b"GET / HT")
            assert other.answer().status == 408  # so the limit has passed for the first one too
        assert client.get().answer().status == 200


@contextlib.contextmanager
def dripping(client: Client) -> Iterator[None]:
    """Let the client send a byte now and then."""
    enough = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not enough.wait(0.05):
                client.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    enough.set()
    thread.join(PATIENCE)


def post(length: int, *lines: str) -> bytes:
    return request("POST", "/", f"Content-Length: {length}", *lines)


# Heads


def test_half_a_head_holds_nobody(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server:
        slow = [server.client().send(b"GET /slow HTTP/1.1\r\nHo") for _ in range(30)]
        with server.client() as client:
            assert client.get().answer().body == b"hello"
        for client in slow:
            client.send(b"st: a\r\n\r\n")
        assert [client.answer().status for client in slow] == [200] * 30
        for client in slow:
            client.close()


def test_a_head_may_come_byte_by_byte(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        for byte in request("GET", "/a"):
            client.send(bytes([byte]))
        assert client.answer().body == b"hello"


def test_half_a_head_is_answered_with_408_in_the_end(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"header_timeout": 0.2}) as server, server.client() as client:
        began = time.monotonic()
        answer = client.send(b"GET / HTTP/1.1\r\n").answer()
        assert time.monotonic() - began >= 0.2
        assert (answer.status, answer.fields["Connection"]) == (408, "close")
        assert client.rest() == b""
        assert server.access(1) == [f"timeout 408 {len(answer.body)} -"]


def test_a_head_that_drips_gets_no_more_time_than_another(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"header_timeout": 0.3}) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nX: ")
        with dripping(client):
            assert client.answer().status == 408


def test_a_client_that_says_nothing_is_dismissed_without_a_word(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"keepalive": 0.2}) as server, server.client() as client:
        assert client.rest() == b""
        with server.client() as other:
            other.get().answer()
        assert server.access(1) == ["ok 200 5 GET / HTTP/1.1"]


def test_a_client_that_leaves_without_a_word_is_not_worth_a_line(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server:
        server.client().close()
        with server.client() as other:
            other.get().answer()
        assert len(server.access(1)) == 1


@pytest.mark.parametrize("vanish", ["close", "reset"])
def test_a_client_that_leaves_in_its_head_has_a_line(tmp_path: Path, vanish: str) -> None:
    with Serving(hello, tmp_path) as server:
        client = server.client().send(b"GET / HTT")
        eventually(lambda: server.slot.idle)
        getattr(client, vanish)()
        assert server.access(1) == ["aborted - 0 -"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_what_is_refused_can_be_read(tmp_path: Path, head: bytes, status: int) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        answer = client.send(head).answer()
        assert (answer.status, answer.whole) == (status, True)
        assert client.rest() == b""
        assert server.access(1)[0].startswith(f"rejected {status} ")
    assert server.slot.requests == 0


def test_a_refused_client_that_goes_on_sending_can_read_why(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        with contextlib.suppress(ConnectionError):
            client.send(b"nonsense\r\n\r\n", LARGE)
        assert client.answer().status == 400


def test_a_refused_head_has_no_body(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\n\r\n")
        assert b" 400 " in client.read_head()
        assert client.rest() == b""


# Small bodies


def test_a_small_body_is_there_before_the_application_is_called(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path) as server, server.client() as slow:
        slow.send(post(6), b"abc")
        with server.client() as other:
            assert other.get().answer().body == b"read"
        assert app.called == 1
        slow.send(b"def")
        assert slow.answer().body == b"read"
    assert app.got == [b"abcdef"]


def test_half_a_small_body_is_answered_with_408_in_the_end(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path, settings={"body_timeout": 0.2}) as server, server.client() as client:
        assert client.send(post(6), b"abc").answer().status == 408
        assert server.access(1)[0].startswith("timeout 408 ")
        assert server.access(1)[0].endswith("POST / HTTP/1.1")
    assert app.called == 0


def test_a_small_body_that_drips_is_a_stall(tmp_path: Path) -> None:
    settings = {"body_timeout": 0.4, "min_rate": 1000}
    with Serving(Reading(), tmp_path, settings=settings) as server, server.client() as client:
        client.send(post(1000))
        with dripping(client):
            assert client.answer().status == 408


def test_without_a_rate_it_may_drip(tmp_path: Path) -> None:
    app = Reading()
    settings = {"body_timeout": 0.4, "min_rate": 0}
    with Serving(app, tmp_path, settings=settings) as server, server.client() as client:
        client.send(post(15))
        for _ in range(15):
            client.send(b"x")
            time.sleep(0.05)
        assert client.answer().status == 200


def test_a_client_that_leaves_in_a_small_body_calls_nobody(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path) as server:
        server.client().send(post(6), b"abc").close()
        assert server.access(1) == ["aborted - 0 POST / HTTP/1.1"]
    assert app.called == 0


def test_a_broken_small_body_calls_nobody(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path) as server, server.client() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"), b"3\r\nabcdef")
        assert client.answer().status == 400
        assert server.access(1)[0].startswith("rejected 400 ")
    assert app.called == 0


# Large bodies


def test_a_large_body_is_read_as_it_comes(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        for sent in (post(len(LARGE)) + LARGE, request("PUT", "/", "Transfer-Encoding: chunked")):
            client.send(sent)
            if b"chunked" in sent:
                client.send(chunked([LARGE[:100_000], LARGE[100_000:]]))
            assert client.answer().body == b"read"
            assert b"".join(app.got) == LARGE
            app.got.clear()


def test_a_client_that_leaves_in_a_large_body_is_an_os_error(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path) as server:
        server.client().send(post(len(LARGE)), LARGE[:200_000]).close()
        assert server.access(1) == ["aborted - 0 POST / HTTP/1.1"]
    assert len(app.errors) == 1
    assert "Traceback" not in server.errors(), "the application can do nothing about it"


def test_a_client_that_stalls_in_a_large_body_is_an_os_error_and_gets_a_408(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path, settings={"body_timeout": 0.2}) as server, server.client() as client:
        assert client.send(post(len(LARGE)), LARGE[:200_000]).answer().status == 408
        assert server.access(1)[0].startswith("timeout 408 ")
    assert len(app.errors) == 1


def test_a_large_body_that_drips_is_a_stall(tmp_path: Path) -> None:
    app = Reading()
    settings = {"body_timeout": 0.4, "min_rate": 1000}
    with Serving(app, tmp_path, settings=settings) as server, server.client() as client:
        client.send(post(len(LARGE)), LARGE[:100_000])
        with dripping(client):
            assert client.answer().status == 408
    assert len(app.errors) == 1


def test_a_broken_large_body_is_an_os_error_and_a_400(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(request("POST", "/", "Transfer-Encoding: chunked"))
        client.send(chunked([LARGE[:100_000]])[:-5], b"nonsense\r\n")
        assert client.answer().status == 400
        assert client.rest() == b""
        assert server.access(1)[0].startswith("rejected 400 ")
    assert len(app.errors) == 1


def test_an_application_may_answer_in_spite_of_it_but_the_connection_closes(tmp_path: Path) -> None:
    app = Reading(catch=True)
    settings = {"body_timeout": 0.2}
    with Serving(app, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as client:
        answer = client.send(post(len(LARGE)), LARGE[:200_000]).answer()
        assert (answer.status, answer.fields["Connection"]) == (200, "close")
        assert client.rest() == b""


def test_a_stall_after_the_response_began_cuts_it(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"begun"
        yield environ["wsgi.input"].read()

    with Serving(app, tmp_path, settings={"body_timeout": 0.2}) as server, server.client() as client:
        answer = client.send(post(len(LARGE)), LARGE[:200_000]).answer()
        assert (answer.body, answer.whole) == (b"begun", False)
        assert server.access(1) == ["timeout 200 5 POST / HTTP/1.1"]


# Expect: 100-continue


def test_the_client_is_asked_for_its_body_when_the_application_reads(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(post(4, "Expect: 100-continue"))
        assert client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.send(b"body").answer().body == b"read"
        assert client.get().answer().status == 200
    assert app.got == [b"body"]


def test_the_client_is_not_asked_when_the_application_does_not_read(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(post(4, "Expect: 100-continue"))
        head = client.read_head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in head


def test_a_client_that_does_not_wait_is_not_asked(tmp_path: Path) -> None:
    app = Reading()
    with Serving(app, tmp_path) as server, server.client() as client:
        client.send(post(4, "Expect: 100-continue") + b"body")
        assert client.read_head().startswith(b"HTTP/1.1 200 OK\r\n")
    assert app.got == [b"body"]


def test_http_1_0_is_never_asked(tmp_path: Path) -> None:
    head = request("POST", "/", "Content-Length: 4", "Expect: 100-continue", version="1.0")
    with Serving(Reading(), tmp_path) as server, server.client() as client:
        client.send(head)
        time.sleep(0.05)
        assert client.send(b"body").read_head().startswith(b"HTTP/1.1 200 OK\r\n")


# Bodies that nobody reads


def reading_half(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read(50_000)
    return hello(environ, start_response)


@pytest.mark.parametrize(("app", "length"), [(hello, 10), (hello, 60_000), (reading_half, 100_000)])
def test_a_body_that_nobody_reads_is_dropped_and_the_connection_kept(
    tmp_path: Path, app: Callable[..., Any], length: int
) -> None:
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        for _ in range(3):
            client.send(post(length))
            client.send(b"x" * (length // 2))
            client.send(b"x" * (length // 2), request("GET", "/next"))
            assert [client.answer().body, client.answer().body] == [b"hello", b"hello"]


def test_a_body_that_nobody_reads_and_does_not_come_ends_the_connection(tmp_path: Path) -> None:
    settings = {"body_timeout": 0.2, "body_memory": 0}
    with (
        Serving(reading_half, tmp_path, keepalive=60.0, settings=settings) as server,
        server.client() as client,
    ):
        client.send(post(100_000), b"x" * 70_000)
        assert client.answer().body == b"hello"
        assert client.rest() == b""
        assert len(server.access(1)) == 1


@pytest.mark.parametrize("keepalive", [0.0, 60.0])
def test_a_client_that_is_still_sending_can_read_the_response(tmp_path: Path, keepalive: float) -> None:
    with Serving(hello, tmp_path, keepalive=keepalive) as server, server.client() as client:
        client.send(post(len(LARGE)), LARGE)
        answer = client.answer()
        assert (answer.body, answer.fields["Connection"]) == (b"hello", "close")
        assert client.rest() == b""


def test_a_client_that_sends_for_long_can_read_the_response_at_the_end(tmp_path: Path) -> None:
    """An upload over a slow line that is refused at once takes longer than anybody lingers in silence."""
    with Serving(hello, tmp_path) as server, server.client() as client:
        client.send(post(len(LARGE)))
        for _ in range(25):
            client.send(b"x" * 1000)
            time.sleep(0.1)
        assert client.answer().body == b"hello"


def test_a_client_that_drips_after_the_response_is_not_waited_for_long(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        client.send(post(len(LARGE)))
        with dripping(client):
            assert client.answer().body == b"hello"
            eventually(lambda: not server.slot.idle, 5.0)


def test_a_client_that_neither_sends_nor_closes_is_not_waited_for_long(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        assert client.get().answer().body == b"hello"
        assert client.rest() == b""
        eventually(lambda: not server.slot.idle, 5.0)


# Clients that do not read


def test_a_response_that_is_not_taken_holds_nobody(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [LARGE]

    with Serving(app, tmp_path) as server, server.client(4096) as slow:
        slow.get("/slow")
        slow.read_head()
        with server.client() as other:
            assert other.get("/other").answer().body == LARGE
        assert server.access(1) == [f"ok 200 {len(LARGE)} GET /other HTTP/1.1"]
        assert slow.rest() == LARGE
        assert server.access(2)[1] == f"ok 200 {len(LARGE)} GET /slow HTTP/1.1"


def sending_all_at_once(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [LARGE]


def sending_in_pieces(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    for start in range(0, len(LARGE), 10_000):
        yield LARGE[start : start + 10_000]


@pytest.mark.parametrize("app", [sending_all_at_once, sending_in_pieces])
def test_a_response_that_is_never_taken_is_given_up(tmp_path: Path, app: Callable[..., Any]) -> None:
    settings = {"write_timeout": 0.2}
    with Serving(app, tmp_path, settings=settings) as server, server.client(4096) as client:
        client.get()
        outcome, status, sent, *_ = server.access(1)[0].split()
        assert (outcome, status) == ("timeout", "200")
        assert 0 < int(sent) < len(LARGE)
        with contextlib.suppress(ConnectionError):
            assert len(client.rest()) < len(LARGE)


def test_a_response_that_is_taken_in_drops_is_given_up(tmp_path: Path) -> None:
    settings = {"write_timeout": 0.4, "min_rate": 1_000_000}
    with Serving(sending_all_at_once, tmp_path, settings=settings) as server, server.client(4096) as client:
        client.get()
        with contextlib.suppress(OSError):
            for _ in range(200):
                client.sock.recv(1000)
                if (tmp_path / "access.log").read_text():
                    break
                time.sleep(0.05)
        assert server.access(1)[0].startswith("timeout 200 ")


def test_an_event_reaches_a_client_that_was_slow_for_a_moment(tmp_path: Path) -> None:
    behind, go_on = threading.Event(), threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield LARGE[:200_000]
        behind.set()
        go_on.wait(PATIENCE)
        yield b"event"
        go_on.clear()
        go_on.wait(PATIENCE)

    with Serving(app, tmp_path) as server, server.client(4096) as client:
        client.send(request("GET", "/", version="1.0"))
        client.read_head()
        assert behind.wait(PATIENCE)
        assert client.read(100_000)
        go_on.set()
        assert client.read(100_005)[-5:] == b"event"
        go_on.set()


@pytest.mark.parametrize("vanish", ["close", "reset"])
def test_a_client_that_leaves_during_the_response_ends_it(tmp_path: Path, vanish: str) -> None:
    closed = []

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        try:
            while True:
                yield b"x" * 1000
        finally:
            closed.append(True)

    with Serving(app, tmp_path) as server:
        client = server.client()
        client.get()
        client.read_head()
        getattr(client, vanish)()
        assert server.access(1)[0].startswith("aborted 200 ")
        assert closed == [True]
        with server.client() as other:
            other.get().read_head()
    assert "Traceback" not in server.errors()


def test_a_thousand_clients_that_vanish_leave_nothing_behind(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    ways = [b"", b"GET", request("GET", "/"), post(10), post(200_000) + b"x" * 100]
    with Serving(app, tmp_path) as server:
        with server.client() as client:
            client.get().answer()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(1000):
            client = server.client().send(ways[number % len(ways)])
            client.reset() if number % 2 else client.close()
        with server.client() as client:
            assert client.get().answer().status == 200
        eventually(lambda: server.slot.idle == 0)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    assert "Traceback" not in server.errors()
