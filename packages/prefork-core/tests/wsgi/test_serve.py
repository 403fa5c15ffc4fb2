# SPDX-License-Identifier: MIT
"""Requests and responses of well-behaved clients; the others are in `test_serve_clients`."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

import pytest
from deadlines import eventually
from raw_client import chunked, request
from serving import Serving

from prefork.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

PLAIN = [("Content-Type", "text/plain")]


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", PLAIN)
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode(), body]


class Body:
    """An iterable body that counts how often it is closed, and may fail.

    Args:
        pieces: exceptions among them are raised.
    """

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = pieces
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1


def answering(
    body: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None
) -> Callable[..., Any]:
    """Return an application that always answers the same."""

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, PLAIN if headers is None else headers)
        return body

    return app


# One request


def test_a_request_is_answered_and_logged(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        answer = client.get("/a?b").answer()
        assert (answer.status, answer.body, answer.whole) == (200, b"hello", True)
        assert answer.fields["Date"]
        assert answer.fields["Server"] == "prefork"
        assert server.access(1) == ["ok 200 5 GET /a?b HTTP/1.1"]
    assert server.slot.requests == 1
    assert server.errors() == ""


def test_the_connection_closes_after_the_response_and_says_so(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        assert client.get().answer().fields["Connection"] == "close"
        assert client.rest() == b""


def test_with_keep_alive_it_stays_open_until_it_was_idle_too_long(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=0.3) as server, server.client() as client:
        for _ in range(3):
            answer = client.get().answer()
            assert "Connection" not in answer.fields
        began = time.monotonic()
        assert client.rest() == b""
        assert time.monotonic() - began >= 0.29
        assert len(server.access(3)) == 3


def test_a_client_may_close_a_connection_that_would_be_kept(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        assert client.get("/", "Connection: close").answer().fields["Connection"] == "close"
        assert client.rest() == b""


def test_http_1_0_is_kept_only_if_it_asks(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(request("GET", "/", "Connection: keep-alive", version="1.0"))
        assert client.answer().fields["Connection"] == "keep-alive"
        client.send(request("GET", "/", version="1.0"))
        assert client.answer().fields["Connection"] == "close"
        assert client.rest() == b""


def test_the_server_header_can_be_left_out(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"server_header": ""}) as server, server.client() as client:
        assert "Server" not in client.get().answer().fields


def test_over_a_unix_socket_the_peer_has_no_address(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    settings = {"bind": (f"unix:{tmp_path}/s",)}
    with Serving(app, tmp_path, settings=settings) as server, server.client() as client:
        assert client.get().answer().body == b"hello"
    assert (seen[0]["REMOTE_ADDR"], seen[0]["SERVER_NAME"]) == ("", "test")


def test_an_absolute_target_names_the_host(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ["HTTP_HOST"], environ["PATH_INFO"], environ["RAW_URI"]))
        return hello(environ, start_response)

    with Serving(app, tmp_path) as server, server.client() as client:
        client.get("http://other.example/x").answer()
    assert seen == [("other.example", "/x", "http://other.example/x")]


def test_connect_is_for_proxies(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server, server.client() as client:
        client.send(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")
        assert client.answer().status == 501
        assert server.access(1) == ["rejected 501 20 CONNECT a.example:443 HTTP/1.1"]


# Pipelines


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with Serving(echo, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(
            request("GET", "/1"),
            request("POST", "/2", body=b"two"),
            request("POST", "/3", "Transfer-Encoding: chunked") + chunked([b"th", b"ree"]),
            request("GET", "/4"),
        )
        assert [client.answer().body for _ in range(4)] == [
            b"GET /1 ",
            b"POST /2 two",
            b"POST /3 three",
            b"GET /4 ",
        ]


def test_a_pipeline_gives_way_to_others(tmp_path: Path) -> None:
    """Whoever sends a thousand requests at once is served one in each turn."""
    order: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        order.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    gate, entered = threading.Event(), threading.Event()

    def gated(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/gate":
            entered.set()
            gate.wait(20)
        return app(environ, start_response)

    with Serving(gated, tmp_path, keepalive=60.0) as server, server.client() as many, server.client() as one:
        many.send(request("GET", "/gate"), *(request("GET", "/many") for _ in range(50)))
        assert entered.wait(20)
        one.get("/one")
        gate.set()
        one.answer()
    assert order.index("/one") < 40


def test_without_keep_alive_nothing_after_the_first_request_is_looked_at(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with Serving(app, tmp_path) as server, server.client() as client:
        client.send(request("GET", "/1") + request("GET", "/2") + b"nonsense\r\n\r\n")
        assert client.answer().body == b"hello"
        assert client.rest() == b""
        assert len(server.access(1)) == 1
    assert seen == ["/1"]


def test_nothing_after_a_refused_request_is_looked_at(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(request("GET", "/1") + b"GET /bad HTTP/1.1\r\n\r\n" + request("GET", "/2"))
        assert [client.answer().status, client.answer().status] == [200, 400]
        assert client.rest() == b""
        assert server.access(2) == ["ok 200 5 GET /1 HTTP/1.1", "rejected 400 16 -"]
    assert seen == ["/1"]


# Applications that fail


def test_an_error_before_the_head_is_a_500_and_one_record(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], _start: Any) -> list[bytes]:
        raise ValueError("the application's own")

    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        answer = client.get("/x").answer()
        assert answer.status == 500
        assert b"own" not in answer.body
        assert answer.fields["Connection"] == "close"
        assert server.access(1) == [f"error 500 {len(answer.body)} GET /x HTTP/1.1"]
    log = server.errors()
    assert log.count("error in the application: GET /x") == 1
    assert log.count("ValueError: the application's own") == 1
    assert server.slot.errors == 1


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), RecursionError()], ids=repr
)
def test_no_exception_of_an_application_ends_the_worker(tmp_path: Path, error: BaseException) -> None:
    """A view that calls sys.exit(), or lets a CancelledError out, fails alone."""
    fail = [error]

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if fail:
            raise fail.pop()
        return hello(environ, start_response)

    with Serving(app, tmp_path) as server:
        with server.client() as client:
            assert client.get().answer().status == 500
        with server.client() as client:
            assert client.get().answer().status == 200
    assert type(error).__name__ in server.errors()


@pytest.mark.parametrize("headers", [[("X", "a\r\nb")], [("Connection", "close")], [("a b", "c")]])
def test_a_wrong_header_is_a_500(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    with Serving(answering([b""], headers=headers), tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 500
    assert server.errors().count("error in the application") == 1


@pytest.mark.parametrize("body", [None, 5, ["text"], iter(["text"])])
def test_a_body_that_is_none_is_a_500(tmp_path: Path, body: Any) -> None:
    with Serving(answering(body), tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 500
    assert server.errors().count("\n  TypeError: ") == 1


def test_a_response_that_never_started_is_a_500(tmp_path: Path) -> None:
    with Serving(lambda _environ, _start: [b"x"], tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 500
    assert "without calling start_response" in server.errors()


@pytest.mark.parametrize("keepalive", [0.0, 60.0])
def test_an_error_in_a_chunked_body_cuts_it_without_a_last_chunk(tmp_path: Path, keepalive: float) -> None:
    body = Body(b"part", ValueError("own"))
    with Serving(answering(body), tmp_path, keepalive=keepalive) as server, server.client() as client:
        client.get("/x")
        assert b"chunked" in client.read_head()
        assert client.rest() == b"4\r\npart\r\n"
        assert server.access(1) == ["error 200 4 GET /x HTTP/1.1"]
    assert body.closed == 1
    assert server.errors().count("ValueError: own") == 1


def test_an_error_in_a_body_with_a_length_cuts_it(tmp_path: Path) -> None:
    app = answering(Body(b"part", ValueError("own")), headers=[("Content-Length", "100")])
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        answer = client.get().answer()
        assert (answer.body, answer.whole) == (b"part", False)


@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive"])
def test_an_error_in_a_body_that_ends_with_the_connection_resets_it(tmp_path: Path, line: str) -> None:
    """An orderly close would say that the response is complete."""
    release = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"part"
        release.wait(20)
        raise ValueError

    with Serving(answering(body()), tmp_path, keepalive=60.0) as server, server.client() as client:
        client.send(request("GET", "/", line, version="1.0"))
        client.read_head()
        assert client.read(4) == b"part"
        release.set()
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_an_error_page_may_replace_a_response_that_did_not_begin(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            raise ValueError
        except ValueError:
            start_response("503 Busy", PLAIN, sys.exc_info())
        return [b"later"]

    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.get().answer()[0::2] == (503, b"later")
        assert server.access(1)[0].startswith("ok 503 ")


def test_an_error_page_for_a_response_that_began_cuts_it(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"part")
        try:
            raise ValueError("own")
        except ValueError:
            start_response("503 Busy", PLAIN, sys.exc_info())
        return [b"never"]

    with Serving(app, tmp_path) as server, server.client() as client:
        answer = client.get().answer()
        assert (answer.status, answer.body, answer.whole) == (200, b"part", False)
    assert "ValueError: own" in server.errors()


@pytest.mark.parametrize(
    ("body", "words"), [([b"toolong"], "more bytes than its Content-Length"), ([b"a"], "fewer bytes than")]
)
def test_a_wrong_length_is_told(tmp_path: Path, body: list[bytes], words: str) -> None:
    app = answering(body, headers=[("Content-Length", "4")])
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client() as client:
        answer = client.get("/x").answer()
        assert answer.whole == (len(body[0]) > 4)
        assert len(answer.body) <= 4
    assert f"GET /x: the application sent {words}" in server.errors()


# Closing the body


class OwnList(list[bytes]):
    """A list with a close(), as frameworks have them."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    "body",
    [OwnList([b"a", b"b"]), Body(b"a", b"b"), Body(), Body(b"a", ValueError()), Body(ValueError())],
    ids=["list", "iterable", "empty", "fails late", "fails early"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once_whatever_happens(tmp_path: Path, body: Any, method: str) -> None:
    body.closed = 0
    with Serving(answering(body), tmp_path) as server, server.client() as client:
        client.send(request(method, "/"))
        client.rest()
        server.access(1)
    assert body.closed == 1


def test_close_is_called_when_the_body_is_none(tmp_path: Path) -> None:
    body = Body()
    with Serving(lambda _environ, _start: body, tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 500
    assert body.closed == 1


def test_a_generator_is_closed_when_it_is_not_run_to_its_end(tmp_path: Path) -> None:
    closed = []

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    with Serving(answering(body()), tmp_path) as server, server.client() as client:
        client.send(request("HEAD", "/")).rest()
        eventually(lambda: closed)


def test_an_error_in_close_is_told_and_harms_nothing(tmp_path: Path) -> None:
    class Failing(Body):
        def close(self) -> None:
            raise ValueError("in close")

    with Serving(answering(Failing(b"all")), tmp_path, keepalive=60.0) as server, server.client() as client:
        answer = client.get().answer()
        assert (answer.body, answer.whole) == (b"all", True)
        assert client.get().answer().whole
        assert server.access(2)[0] == "ok 200 3 GET / HTTP/1.1"
    assert server.errors().count("ValueError: in close") == 2


# Requests that are refused after their head was read


def test_a_request_that_a_setting_forbids_calls_nobody(tmp_path: Path) -> None:
    seen: list[object] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start_response)

    hooks = Hooks(
        pre_request=lambda _worker, req: seen.append(req),
        post_request=lambda _worker, req, _environ, _resp: seen.append(req),
    )
    settings = {"header_map": "refuse"}
    with Serving(app, tmp_path, hooks=hooks, settings=settings) as server, server.client() as client:
        assert client.get("/", "X_Own: 1").answer().status == 400
        assert server.access(1)[0].startswith("rejected 400 ")
    assert seen == []


def test_a_path_outside_of_the_mount_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/app")
    with Serving(echo, tmp_path, keepalive=60.0) as server, server.client() as client:
        assert client.get("/app/x").answer().body == b"GET /x "
        assert client.get("/other").answer().status == 500
        assert client.rest() == b""


# Hooks


def test_hooks_see_each_request_with_gunicorns_names(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def pre_request(worker: Any, req: Any) -> None:
        seen.append(("pre", worker, req.method, req.uri, req.path, req.query, req.version, req.headers))

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        seen.append(("post", worker, req.path, environ["PATH_INFO"], resp.status, resp.status_code))
        seen.append(("resp", resp.headers, resp.sent, resp.response_length))

    hooks = Hooks(pre_request=pre_request, post_request=post_request)
    with Serving(hello, tmp_path, hooks=hooks) as server, server.client() as client:
        client.get("/a%20?b=c", "X-Own: 1").answer()
        server.access(1)
    headers = [("HOST", "test"), ("X-OWN", "1")]
    assert seen == [
        ("pre", server, "GET", "/a%20?b=c", "/a%20", "b=c", (1, 1), headers),
        ("post", server, "/a%20", "/a ", "200 OK", 200),
        ("resp", PLAIN, 5, None),
    ]


def test_a_failing_pre_request_fails_the_request(tmp_path: Path) -> None:
    def pre_request(_worker: Any, _req: Any) -> None:
        raise ValueError("own")

    with (
        Serving(hello, tmp_path, hooks=Hooks(pre_request=pre_request)) as server,
        server.client() as client,
    ):
        assert client.get().answer().status == 500
    assert "ValueError: own" in server.errors()


def test_a_failing_post_request_is_told_and_harms_nothing(tmp_path: Path) -> None:
    def post_request(_worker: Any, _req: Any, _environ: Any, _resp: Any) -> None:
        raise ValueError("own")

    with (
        Serving(hello, tmp_path, hooks=Hooks(post_request=post_request)) as server,
        server.client() as client,
    ):
        assert client.get().answer().status == 200
        server.access(1)
    assert "error in the hook post_request" in server.errors()


def test_a_post_request_that_exits_does_not_end_the_worker(tmp_path: Path) -> None:
    hooks = Hooks(post_request=lambda *_: sys.exit(3))
    with Serving(hello, tmp_path, hooks=hooks) as server:
        for _ in range(2):
            with server.client() as client:
                assert client.get().answer().status == 200


def test_post_request_runs_for_failed_requests_too(tmp_path: Path) -> None:
    seen = []

    def app(_environ: dict[str, Any], _start: Any) -> list[bytes]:
        raise ValueError

    hooks = Hooks(post_request=lambda _w, _req, _environ, resp: seen.append(resp.status_code))
    with Serving(app, tmp_path, hooks=hooks) as server, server.client() as client:
        client.get().answer()
        server.access(1)
    assert seen == [0]


# wsgi.errors


def test_what_the_application_writes_to_wsgi_errors_is_in_the_error_log(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        print("from the application", file=environ["wsgi.errors"])
        return hello(environ, start_response)

    with Serving(app, tmp_path) as server, server.client() as client:
        client.get().answer()
    assert "from the application" in server.errors()


# The standard library's opinion


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["none", "length", "large", "chunked"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
def test_the_validator_of_wsgiref_finds_no_fault(
    tmp_path: Path, method: str, kind: str, version: str
) -> None:
    def inner(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH") == "":
            raise AssertionError
        data = environ["wsgi.input"]
        lines = [data.readline(3), *data.readlines(4), data.read(10), *iter(data), data.read(-1)]
        write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
        if environ["QUERY_STRING"] == "write":
            write(b"")
        environ["wsgi.errors"].flush()
        return [b"", b"".join(lines)]

    if kind == "chunked" and version == "1.0":
        version = "1.1"  # HTTP/1.0 has none
    bodies = {
        "none": b"",
        "length": b"one\ntwo\nthree",
        "large": b"line\n" * 40_000,
        "chunked": b"one\ntwo\n",
    }
    body = bodies[kind]
    if kind == "chunked":
        sent = request(method, "/a%20b?write", "Transfer-Encoding: chunked") + chunked([b"one\n", b"two\n"])
    else:
        sent = request(method, "/a%20b?c", body=body, version=version)
    with Serving(validator(inner), tmp_path) as server, server.client() as client:
        answer = client.send(sent).answer(method)
        assert answer.status == 200
        assert answer.body == (b"" if method == "HEAD" else body)
    assert server.errors() == ""


def test_the_validator_accepts_options_of_the_whole_server(tmp_path: Path) -> None:
    app = validator(answering([b""]))
    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").answer().status == 200
