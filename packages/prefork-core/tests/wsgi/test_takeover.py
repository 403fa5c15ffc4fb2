# SPDX-License-Identifier: MIT
"""Connections that the application takes over, in one thread and in several."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from raw_client import request
from serving import Serving

from prefork.hooks import Hooks
from prefork.process.scoreboard import Phase
from prefork.supervisor.messages import Order, Report
from prefork.wsgi.takeover import is_normal_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from raw_client import Client

UPGRADE = ("Connection: Upgrade", "Upgrade: echo")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

both = pytest.mark.parametrize("threads", [1, 3])
"""As sync serves, and as gthread does."""


def serve(app: Callable[..., Any], folder: Path, threads: int = 1, **settings: Any) -> Serving:
    return Serving(app, folder, keepalive=75.0, settings={"threads": threads, **settings})


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def talk(sock: socket.socket) -> None:
    """Say hello and echo until the client has no more to say."""
    sock.sendall(SWITCH)
    while data := sock.recv(1024):
        sock.sendall(b"<" + data + b">")
    sock.sendall(b"bye")


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] != "/echo":
        return hello(environ, start_response)
    talk(environ["gunicorn.socket"])
    raise StopIteration


def switch(client: Client) -> None:
    """Ask for the echo, and get it."""
    client.get("/echo", *UPGRADE)
    assert client.read_head() == SWITCH


# The socket in the environ


@both
def test_the_application_can_take_the_connection_over(tmp_path: Path, threads: int) -> None:
    with serve(echo, tmp_path, threads) as server, server.client() as client:
        client.get()
        assert client.answer().body == b"hello"
        switch(client)
        for word in (b"one", b"two"):
            assert client.send(word).read(5) == b"<" + word + b">"
        assert client.finish_sending().rest() == b"bye"
        assert server.access(2)[1] == "ok 101 0 GET /echo HTTP/1.1"
        eventually(lambda: not server.slot.connections)
    assert (server.slot.requests, server.slot.errors) == (2, 0)
    assert server.errors() == ""


def test_over_a_unix_socket_too(tmp_path: Path) -> None:
    with serve(echo, tmp_path, bind=(f"unix:{tmp_path}/s",)) as server, server.client() as client:
        client.send(request("GET", "/echo", *UPGRADE), b"early")
        assert client.read_head() == SWITCH
        assert client.read(7) == b"<early>"
        server.order(Order.DRAIN)
        assert client.rest() == b"bye"


def test_both_names_are_of_one_socket(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append((environ["prefork.socket"], environ["gunicorn.socket"]))
        return hello(environ, start_response)

    with serve(app, tmp_path) as server, server.client() as client:
        client.get("/", *UPGRADE).answer()
    assert isinstance(seen[0][0], socket.socket)
    assert seen[0][0] is seen[0][1]


def test_without_an_upgrade_there_is_none(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append([name for name in environ if name.endswith(".socket")])
        return hello(environ, start_response)

    with serve(app, tmp_path) as server, server.client() as client:
        client.get("/").answer()
        client.get("/", "Upgrade: echo").answer()
        client.send(request("POST", "/", *UPGRADE, body=b"x")).answer()
    assert seen == [[], [], []]


@both
def test_who_only_looks_at_it_answers_as_ever(tmp_path: Path, threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sock = environ["gunicorn.socket"]
        start_response("200 OK", [])
        return [f"{sock!r} {sock.getpeername()[0]}".encode()]

    with serve(app, tmp_path, threads) as server, server.client() as client:
        for _ in range(3):  # and the connection stays
            client.get("/", *UPGRADE)
            assert client.answer().body == b"<HandedSocket, offered> 127.0.0.1"
        assert server.access(3) == ["ok 200 33 GET / HTTP/1.1"] * 3


def test_when_the_request_is_over_and_it_was_not_used_it_is_nobodys(tmp_path: Path) -> None:
    kept = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append(environ["gunicorn.socket"])
        return hello(environ, start_response)

    with serve(app, tmp_path) as server, server.client() as client:
        client.get("/", *UPGRADE).answer()
        server.access(1)
        with pytest.raises(OSError, match="over") as caught:
            kept[0].send(b"x")
        assert caught.value.errno == errno.EBADF
        assert client.get("/", *UPGRADE).answer().body == b"hello"


@both
def test_what_the_client_has_sent_early_comes_first(tmp_path: Path, threads: int) -> None:
    with serve(echo, tmp_path, threads) as server, server.client() as client:
        client.send(request("GET", "/echo", *UPGRADE), b"early")
        assert client.read_head() == SWITCH
        assert client.read(7) == b"<early>"


def test_the_input_has_no_bytes_of_it(tmp_path: Path) -> None:
    seen = []

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        sock = environ["gunicorn.socket"]
        seen.extend([environ["wsgi.input"].read(), sock.recv(5), environ["wsgi.input"].read()])
        return []

    with serve(app, tmp_path) as server, server.client() as client:
        client.send(request("GET", "/", *UPGRADE), b"early")
        assert client.rest() == b""
    assert seen == [b"", b"early", b""]


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sock = environ["gunicorn.socket"]
        if environ["PATH_INFO"] == "/look":
            return hello(environ, start_response)
        sock.dup().sendall(b"x")
        return []

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with serve(app, tmp_path) as server:
        before = descriptors()
        for path in ("/look", "/take") * 20:
            with server.client() as client:
                client.get(path, *UPGRADE, "Connection: close")
                client.rest()
        eventually(lambda: descriptors() <= before)


# What the application does afterwards


class Body:
    """A body that says when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"unheard"

    def close(self) -> None:
        self.closed += 1


ENDS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda _: None,
    "no bytes": lambda _: [],
    "a list": lambda _: [b"unheard"],
    "a response": lambda start_response: hello({}, start_response),
    "an iterator": lambda _: iter([b"unheard"]),
    "a written response": lambda start_response: start_response("200 OK", [])(b"unheard"),
}


@both
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_nothing_is_sent_of_what_it_returns(tmp_path: Path, threads: int, end: Callable[[Any], Any]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["gunicorn.socket"].sendall(b"mine")
        return end(start_response)

    with serve(app, tmp_path, threads) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["ok 101 0 GET / HTTP/1.1"]
    assert server.errors() == ""


def test_a_response_that_was_started_and_not_sent_is_forgotten(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = hello(environ, start_response)
        environ["gunicorn.socket"].sendall(b"mine")
        return body

    layout = "%(s)s %({content-type}o)s"
    with serve(app, tmp_path, access_log_format=layout) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["101 -"]


def test_close_of_what_it_returns_is_called_once(tmp_path: Path) -> None:
    body = Body()

    def app(environ: dict[str, Any], _start_response: Any) -> Body:
        environ["gunicorn.socket"].sendall(b"mine")
        return body

    with serve(app, tmp_path) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        server.access(1)
    assert body.closed == 1


def test_it_may_take_the_connection_while_its_body_is_iterated_over(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> Iterator[bytes]:
        environ["gunicorn.socket"].sendall(b"mine")
        yield b"unheard"

    with serve(app, tmp_path) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["ok 101 0 GET / HTTP/1.1"]
    assert server.errors() == ""


@both
def test_once_its_response_has_begun_it_cannot(tmp_path: Path, threads: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        environ["gunicorn.socket"].sendall(b"mine")

    with serve(app, tmp_path, threads) as server, server.client() as client:
        answer = client.get("/", *UPGRADE).answer()
        assert (answer.status, answer.body, answer.whole) == (200, b"begun", False)
        assert server.access(1) == ["error 200 5 GET / HTTP/1.1"]
    assert "the connection cannot be taken over any more" in server.errors()


NORMAL = [
    StopIteration(),
    BrokenPipeError(errno.EPIPE, "gone"),
    ConnectionResetError(),
    TimeoutError(),
    ConnectionError(),
]


@both
@pytest.mark.parametrize("error", NORMAL, ids=lambda error: type(error).__name__)
def test_it_may_end_with_what_libraries_end_with(tmp_path: Path, threads: int, error: Exception) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        environ["gunicorn.socket"].sendall(b"mine")
        raise error

    with serve(app, tmp_path, threads) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["ok 101 0 GET / HTTP/1.1"]
    assert (server.errors(), server.slot.errors) == ("", 0)


def test_stop_iteration_in_a_generator_is_a_normal_end_too(tmp_path: Path) -> None:
    """PEP 479 makes a RuntimeError of it; middleware is often a generator."""

    def app(environ: dict[str, Any], _start_response: Any) -> Iterator[bytes]:
        environ["gunicorn.socket"].sendall(b"mine")
        yield next(iter(()))

    with serve(app, tmp_path) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["ok 101 0 GET / HTTP/1.1"]
    assert server.errors() == ""


def test_other_errors_are_no_normal_end() -> None:
    others = [ValueError(), RuntimeError(), AssertionError(), SystemExit()]
    assert not any(is_normal_end(error) for error in others)


@both
def test_an_error_of_the_application_is_logged_and_no_page_sent(tmp_path: Path, threads: int) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        environ["gunicorn.socket"].sendall(b"mine")
        raise ValueError("broken")

    with serve(app, tmp_path, threads) as server, server.client() as client:
        assert client.get("/", *UPGRADE).rest() == b"mine"
        assert server.access(1) == ["error 101 0 GET / HTTP/1.1"]
    assert "error in the application: GET /" in server.errors()
    assert "ValueError: broken" in server.errors()
    assert server.slot.errors == 1


def test_an_error_before_it_has_taken_the_connection_is_a_500(tmp_path: Path) -> None:
    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise StopIteration

    with serve(app, tmp_path) as server, server.client() as client:
        assert client.get("/", *UPGRADE).answer().status == 500
        assert server.access(1) == ["error 500 26 GET / HTTP/1.1"]


def test_a_client_that_still_sends_can_read_the_last_words(tmp_path: Path) -> None:
    """A socket that is closed with bytes unread makes a reset, which would destroy them."""

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        environ["gunicorn.socket"].sendall(b"last words")
        return []

    with serve(app, tmp_path) as server, server.client() as client:
        client.send(request("GET", "/", *UPGRADE, "Connection: close"), b"unread")
        server.access(1)
        client.send(b"x" * 10_000)
        assert client.rest() == b"last words"


def test_a_thread_that_goes_on_receiving_is_ended_with_the_connection(tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        threads.append(threading.Thread(target=environ["gunicorn.socket"].recv, args=(1,), daemon=True))
        threads[0].start()
        eventually(lambda: "taken" in repr(environ["gunicorn.socket"]))
        return []

    with serve(app, tmp_path) as server, server.client() as client:
        client.get("/", *UPGRADE)
        assert client.rest() == b""
        threads[0].join(PATIENCE)  # although the client does not close
        assert not threads[0].is_alive()


# What is counted


def test_it_has_no_deadline_and_a_phase_of_its_own(tmp_path: Path) -> None:
    with serve(echo, tmp_path, timeout=0.2) as server, server.client() as client:
        switch(client)
        current = server.slot.current()[0]
        assert (current.phase, current.deadline, current.target) == (Phase.TAKEN, 0.0, "/echo")
        client.finish_sending().rest()
        eventually(lambda: not server.slot.current())


def test_what_it_writes_as_a_response_sets_no_deadline(tmp_path: Path) -> None:
    written, over = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        environ["gunicorn.socket"].sendall(b"mine")
        write(b"unheard")
        written.set()
        over.wait(PATIENCE)
        return []

    with serve(app, tmp_path, timeout=30) as server, server.client() as client:
        client.get("/", *UPGRADE)
        assert written.wait(PATIENCE)
        assert server.slot.deadline == 0.0
        over.set()
        assert client.rest() == b"mine"


def test_it_counts_as_a_request_of_max_requests(tmp_path: Path) -> None:
    with serve(echo, tmp_path, max_requests=1) as server, server.client() as client:
        switch(client)
        assert not server.heard(Report.RETIRE)
        client.finish_sending().rest()
        eventually(lambda: server.heard(Report.RETIRE))


def test_the_other_threads_go_on_serving(tmp_path: Path) -> None:
    with serve(echo, tmp_path, 3) as server:
        taken = [server.client() for _ in range(2)]
        for client in taken:
            switch(client)
        with server.client() as other:
            for _ in range(20):
                assert other.get().answer().body == b"hello"
            eventually(lambda: server.slot.connections == 3)
        for client in taken:
            assert client.send(b"on").read(4) == b"<on>"
            client.close()


def test_siblings_do_not_get_all_new_connections_because_of_it(tmp_path: Path) -> None:
    """They would, for hours, if it counted as a long request, whether it was expected to be one or not."""
    counts = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/echo":
            counts.append(server.slot.away)
            return echo(environ, start_response)
        time.sleep(0.01)  # so that the next is expected to take long too
        return hello(environ, start_response)

    with serve(app, tmp_path, 4) as server, server.client() as quick, server.client() as client:
        quick.get().answer()
        eventually(lambda: server.slot.away == 0)  # a moment after the answer
        switch(client)
        assert (counts, server.slot.away) == ([1], 0)
        quick.get().answer()
        client.finish_sending().rest()
        eventually(lambda: not server.slot.busy)
        eventually(lambda: server.slot.away == 0)  # a moment after the request


def test_hooks_see_it_as_a_request(tmp_path: Path) -> None:
    seen = []
    hooks = Hooks(
        pre_request=lambda _worker, req: seen.append(req.path),
        post_request=lambda _worker, req, _environ, resp: seen.append((req.path, resp.sent)),
    )
    with Serving(echo, tmp_path, hooks=hooks) as server, server.client() as client:
        switch(client)
        assert client.finish_sending().rest() == b"bye"
        server.access(1)
    assert seen == ["/echo", ("/echo", 0)]


# The stop


@both
@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_at_the_stop_the_application_gets_the_end_of_file_and_can_say_good_bye(
    tmp_path: Path, threads: int, order: Order
) -> None:
    with serve(echo, tmp_path, threads) as server, server.client() as client:
        switch(client)
        client.send(b"last").read(6)
        server.order(order)
        assert client.rest() == b"bye"
        client.close()
        server.ended()  # long before graceful_timeout
        assert server.access(1) == ["ok 101 0 GET /echo HTTP/1.1"]


@both
def test_what_has_arrived_before_the_stop_is_received(tmp_path: Path, threads: int) -> None:
    go_on = threading.Event()

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        sock = environ["gunicorn.socket"]
        sock.sendall(SWITCH)
        go_on.wait(PATIENCE)
        talk(sock)
        return []

    with serve(app, tmp_path, threads) as server, server.client() as client:
        client.get("/", *UPGRADE)
        assert client.read_head() == SWITCH
        client.send(b"word")
        server.order(Order.LEAVE)
        go_on.set()
        assert client.rest() == SWITCH + b"<word>bye"


def test_a_connection_taken_during_the_stop_is_ended_too(tmp_path: Path) -> None:
    called, go_on = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/idle":
            return hello(environ, start_response)
        called.set()
        go_on.wait(PATIENCE)
        talk(environ["gunicorn.socket"])
        return []

    with serve(app, tmp_path, 3) as server, server.client() as client, server.client() as idle:
        client.get("/", *UPGRADE)
        assert called.wait(PATIENCE)
        idle.get("/idle").answer()
        server.order(Order.DRAIN)
        assert idle.rest() == b""  # by now the order is known
        go_on.set()
        assert client.rest() == SWITCH + b"bye"
        server.ended()


def test_quick_does_not_wait_for_it(tmp_path: Path) -> None:
    ended = threading.Event()

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        sock = environ["gunicorn.socket"]
        sock.sendall(SWITCH)
        sock.recv(1)
        ended.set()
        return []

    with serve(app, tmp_path, 3) as server, server.client() as client:
        client.get("/", *UPGRADE)
        assert client.read_head() == SWITCH
        server.order(Order.QUICK)
        assert client.rest() == b""
        server.ended()
        assert ended.wait(PATIENCE)  # so a thread that is no daemon does not keep the process
        eventually(lambda: server.slot.requests)
        assert server.access(1) == ["aborted 101 0 GET / HTTP/1.1"]


def test_an_application_that_does_not_end_has_its_graceful_timeout(tmp_path: Path) -> None:
    over = threading.Event()

    def app(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        environ["gunicorn.socket"].sendall(SWITCH)
        over.wait(PATIENCE)
        return []

    with serve(app, tmp_path, 2, graceful_timeout=0.3, accesslog=None) as server, server.client() as client:
        client.get("/", *UPGRADE)
        assert client.read_head() == SWITCH
        server.order(Order.LEAVE)
        assert client.rest() == b""
        server.ended()
        over.set()
    assert "stopped with unfinished requests: 1" in server.errors()
