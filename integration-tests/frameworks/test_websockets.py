# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""WebSockets of Flask-Sock and Socket.IO work, and what they hold is accounted for.

Both serve them on the socket that is in the environ, as they do under gunicorn.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from signal import SIGHUP, SIGQUIT, SIGTERM
from typing import TYPE_CHECKING, Any, Final

import pytest
import simple_websocket
import socketio
from support.server import Server

from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATIONS: Final = Path(__file__).parent / "applications"

GTHREAD: Final = "-k gthread -w 1 --threads 8"
SYNC: Final = "-k sync -w 1"
both = pytest.mark.parametrize("workers", [GTHREAD, SYNC], ids=["gthread", "sync"])


def serve(folder: Path, workers: str, application: str = "sock_app", **environ: str) -> Server:
    arguments = f"{workers} --access-logfile - --pythonpath {APPLICATIONS} flask_talk:{application}"
    return Server(folder, arguments, environ=environ)


@contextlib.contextmanager
def talk(server: Server, path: str = "/echo", **more: Any) -> Iterator[Any]:
    """Return a WebSocket to a server."""
    assert isinstance(server.address, tuple)
    host, port = server.address
    client = simple_websocket.Client(f"ws://{host}:{port}{path}", **more)
    try:
        yield client
    finally:
        with contextlib.suppress(simple_websocket.ConnectionClosed):
            client.close()


def closed(client: Any) -> int:
    """Wait until the server closes a WebSocket; return the code that it gives for it."""
    with pytest.raises(simple_websocket.ConnectionClosed) as caught:
        raise AssertionError(f"received {client.receive(timeout=PATIENCE)!r}")
    return int(caught.value.reason)


class TestFlaskSock:
    @both
    def test_what_is_sent_comes_back_and_leaves_one_line_in_the_log(
        self, tmp_path: Path, workers: str
    ) -> None:
        with serve(tmp_path, workers) as server:
            with talk(server) as client:
                for message in ("tea", "täglich", b"\x00\xff" * 50_000):
                    client.send(message)
                    assert client.receive(timeout=PATIENCE) == message
            server.wait_log('"GET /echo HTTP/1.1" 101 0 ')
            assert server.ask("/plain").status == 200
        assert "Traceback" not in server.log()
        assert server.log().count("GET /echo") == 1

    @both
    def test_the_application_can_end_it_with_a_close_frame(self, tmp_path: Path, workers: str) -> None:
        with serve(tmp_path, workers) as server, talk(server) as client:
            client.send("that is all")
            assert closed(client) == 1000
            server.wait_log('"GET /echo HTTP/1.1" 101 0 ')

    @both
    def test_an_error_of_the_application_is_logged_once(self, tmp_path: Path, workers: str) -> None:
        with serve(tmp_path, workers) as server, talk(server, "/fail") as client:
            client.send("broken on purpose")
            closed(client)
            server.wait_log("ValueError: broken on purpose")
            server.wait_log('"GET /fail HTTP/1.1" 101 0 ')
            assert server.ask("/plain").status == 200

    def test_a_request_that_is_no_websocket_is_refused_by_flask(self, tmp_path: Path) -> None:
        with serve(tmp_path, GTHREAD) as server:
            assert server.ask("/echo").status == 400

    def test_other_threads_answer_meanwhile(self, tmp_path: Path) -> None:
        with serve(tmp_path, GTHREAD) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(talk(server)) for _ in range(7)]
            for number in range(20):
                assert server.ask("/plain").status == 200
                client = clients[number % 7]
                client.send(str(number))
                assert client.receive(timeout=PATIENCE) == str(number)

    @both
    def test_the_time_limit_of_requests_does_not_end_it(self, tmp_path: Path, workers: str) -> None:
        with serve(tmp_path, f"{workers} --timeout 1", PING="0.5") as server, talk(server) as client:
            assert client.receive(timeout=3) is None  # the time itself is what is tested
            client.send("still there")
            assert client.receive(timeout=PATIENCE) == "still there"

    @both
    def test_a_client_that_vanishes_ends_it(self, tmp_path: Path, workers: str) -> None:
        with serve(tmp_path, workers) as server, talk(server) as client:
            client.sock.shutdown(2)
            server.wait_log('"GET /echo HTTP/1.1" 101 0 ')
        assert "Traceback" not in server.log()

    @both
    @pytest.mark.parametrize("signal", [SIGTERM, SIGQUIT], ids=lambda signal: signal.name)
    def test_an_idle_client_does_not_hold_up_the_stop(
        self, tmp_path: Path, workers: str, signal: Any
    ) -> None:
        with serve(tmp_path, workers) as server, talk(server) as client:
            client.send("hello")
            client.receive(timeout=PATIENCE)
            server.signal(signal)
            closed(client)
            server.wait_exit()  # long before graceful_timeout
            server.wait_log("GET /echo")

    @both
    def test_a_reload_ends_it_too_so_that_clients_come_to_the_new_workers(
        self, tmp_path: Path, workers: str
    ) -> None:
        with serve(tmp_path, workers) as server, talk(server) as client:
            old = server.wait_workers(1)
            client.send("hello")
            client.receive(timeout=PATIENCE)
            server.signal(SIGHUP)
            closed(client)
            until(lambda: server.workers() not in (old, []) and len(server.workers()) == 1, "the new worker")
            with talk(server) as again:
                again.send("hello again")
                assert again.receive(timeout=PATIENCE) == "hello again"


class TestSocketIO:
    @pytest.mark.parametrize(
        ("transports", "used"),
        [
            (["websocket"], "websocket"),
            (["polling"], "polling"),
            (["polling", "websocket"], "websocket"),  # begins with the one, and changes to the other
        ],
        ids=["websocket", "polling", "upgrade"],
    )
    def test_messages_go_both_ways_over_each_transport(
        self, tmp_path: Path, transports: list[str], used: str
    ) -> None:
        heard: list[str] = []
        with serve(tmp_path, "-k gthread -w 1 --threads 20", "socketio_app") as server:
            assert isinstance(server.address, tuple)
            client = socketio.Client()
            client.on("shouted", heard.append)
            client.connect("http://{}:{}".format(*server.address), transports=transports)
            try:
                until(lambda: client.transport() == used, f"the transport {used}")
                assert client.call("shout", "tea", timeout=PATIENCE) == used
                until(lambda: heard == ["TEA"], "the broadcast")
            finally:
                client.disconnect()
            server.wait_log("transport=websocket" if used == "websocket" else "transport=polling")
        assert "Traceback" not in server.log()

    def test_clients_hear_each_other(self, tmp_path: Path) -> None:
        heard: list[tuple[int, str]] = []
        with serve(tmp_path, "-k gthread -w 1 --threads 20", "socketio_app") as server:
            assert isinstance(server.address, tuple)
            clients = [socketio.Client() for _ in range(5)]
            for number, client in enumerate(clients):
                client.on("shouted", lambda words, number=number: heard.append((number, words)))
                client.connect("http://{}:{}".format(*server.address), transports=["websocket"])
            clients[0].call("shout", "all", timeout=PATIENCE)
            until(lambda: sorted(heard) == [(number, "ALL") for number in range(5)], "all have heard it")
            server.stop()  # long before graceful_timeout
            for client in clients:
                client.disconnect()
