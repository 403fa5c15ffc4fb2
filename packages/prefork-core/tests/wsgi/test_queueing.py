# SPDX-License-Identifier: MIT
"""Time in queues, over real sockets: what is measured, and who is turned away."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from raw_client import Client, request
from serving import Serving

from prefork.supervisor.messages import Order

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 0.2
LONG = 1_000.0
"""Seconds beyond any limit, which only a proxy can have seen."""


class Held:
    """An application that holds every request until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.calls += 1
        assert self.gate.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


def serving(app: Any, folder: Path, **settings: Any) -> Serving:
    formatted = {"access_log_format": "%(r)s %(s)s %(O)s %(Q)s", **settings}
    return Serving(app, folder, keepalive=75.0, settings=formatted)


def open_app() -> Held:
    app = Held()
    app.gate.set()
    return app


def busy(server: Serving, app: Held, threads: int) -> list[Client]:
    """Return clients whose requests keep all threads of a worker in the application."""
    clients = [server.client().get("/held") for _ in range(threads)]
    eventually(lambda: app.calls == threads)
    return clients


def queue_time(line: str) -> int:
    """Return the milliseconds at the end of an access line."""
    return int(line.rsplit(" ", 1)[1])


def test_a_request_that_is_taken_at_once_has_not_waited(tmp_path: Path) -> None:
    with serving(open_app(), tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 200
        assert queue_time(server.access(1)[0]) < 50


def test_time_in_the_queue_of_the_listener_counts(tmp_path: Path) -> None:
    app = Held()
    with serving(app, tmp_path) as server:
        (held,) = busy(server, app, 1)
        waiting = server.client().get("/waits")
        sent = time.monotonic()
        eventually(lambda: time.monotonic() > sent + 0.15)
        app.gate.set()
        assert waiting.answer().status == 200
        assert 100 <= queue_time(server.access(2)[1]) < 5_000
        for client in (held, waiting):
            client.close()


def test_time_on_an_open_connection_counts(tmp_path: Path) -> None:
    app = open_app()
    with serving(app, tmp_path) as server, server.client() as waiting:
        assert waiting.get("/first").answer().status == 200
        app.gate.clear()
        app.calls = 0
        (held,) = busy(server, app, 1)
        waiting.get("/second")
        sent = time.monotonic()
        eventually(lambda: time.monotonic() > sent + 0.15)
        app.gate.set()
        assert waiting.answer().status == 200
        assert queue_time(server.access(3)[2]) >= 100
        held.close()


def test_time_that_a_client_takes_to_send_does_not_count(tmp_path: Path) -> None:
    with serving(open_app(), tmp_path) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        sent = time.monotonic()
        eventually(lambda: time.monotonic() > sent + 0.2)
        client.send(b"cd")
        assert client.answer().status == 200
        assert queue_time(server.access(1)[0]) < 100


@pytest.mark.parametrize(("trusted", "waited"), [(("127.0.0.1",), True), (("192.0.2.1",), False)])
def test_the_word_of_a_proxy_counts_if_it_is_trusted(
    tmp_path: Path, trusted: tuple[str, ...], waited: bool
) -> None:
    with serving(open_app(), tmp_path, forwarded_allow_ips=trusted) as server, server.client() as client:
        client.get("/", f"X-Request-Start: t={time.time() - LONG:.3f}").answer()
        assert (queue_time(server.access(1)[0]) >= LONG * 900) is waited


@pytest.mark.parametrize("offset", [60.0, -86_400.0])
def test_a_proxy_whose_clock_is_wrong_is_not_believed(tmp_path: Path, offset: float) -> None:
    with serving(open_app(), tmp_path) as server, server.client() as client:
        client.get("/", f"X-Request-Start: t={time.time() + offset:.3f}").answer()
        assert queue_time(server.access(1)[0]) < 50


def test_the_scoreboard_has_the_sum_of_what_was_measured(tmp_path: Path) -> None:
    with serving(open_app(), tmp_path) as server, server.client() as client:
        for _ in range(3):
            client.get("/", f"X-Request-Start: t={time.time() - LONG:.3f}").answer()
        assert server.slot.measured == 3
        assert server.slot.queued == pytest.approx(3 * LONG, abs=PATIENCE)


def test_without_need_a_request_is_measured_now_and_then(tmp_path: Path) -> None:
    settings = {"access_log_format": "%(s)s"}
    with serving(open_app(), tmp_path, **settings) as server, server.client() as client:
        for _ in range(200):
            assert client.get().answer().status == 200
        assert 1 <= server.slot.measured < 100


def test_the_scoreboard_has_the_queue_of_the_listener(tmp_path: Path) -> None:
    app = Held()
    with serving(app, tmp_path, threads=2) as server:
        clients = busy(server, app, 2) + [server.client().get("/waits") for _ in range(3)]
        eventually(lambda: server.slot.backlog == 3)
        app.gate.set()
        for client in clients:
            assert client.answer().status == 200
            client.close()
        eventually(lambda: server.slot.backlog == 0)


# Turning away


def late(number: int = 0) -> bytes:
    return request("GET", f"/{number}", f"X-Request-Start: t={time.time() - LONG:.3f}")


def test_who_has_waited_too_long_is_told_when_to_come_back(tmp_path: Path) -> None:
    app = open_app()
    with serving(app, tmp_path, queue_timeout=1.5) as server, server.client() as client:
        answer = client.send(late()).answer()
        assert (answer.status, answer.fields["Retry-After"]) == (503, "2")
        assert answer.fields["Connection"] is None
        assert client.get().answer().status == 200  # the connection is as good as before
        assert server.access(2)[0].startswith("GET /0 HTTP/1.1 503 shed ")
        assert (app.calls, server.slot.shed, server.slot.requests) == (1, 1, 1)


def test_the_body_of_who_is_turned_away_is_not_taken_for_a_request(tmp_path: Path) -> None:
    with serving(open_app(), tmp_path, queue_timeout=1.0) as server, server.client() as client:
        start = f"X-Request-Start: t={time.time() - LONG:.3f}"
        body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(request("POST", "/", start, f"Content-Length: {len(body)}"), body)
        assert client.answer().status == 503
        assert client.get("/next").answer().body == b"ok"
        assert len(server.access(2)) == 2


def test_sync_turns_away_and_closes(tmp_path: Path) -> None:
    app = Held()
    with Serving(app, tmp_path, settings={"queue_timeout": LIMIT}) as server:
        (held,) = busy(server, app, 1)
        waiting = server.client().get("/waits")
        sent = time.monotonic()
        eventually(lambda: time.monotonic() > sent + LIMIT * 1.5)
        app.gate.set()
        answer = waiting.answer()
        assert (answer.status, answer.fields["Connection"], app.calls) == (503, "close", 1)
        for client in (held, waiting):
            client.close()


def test_new_connections_are_turned_away_while_all_threads_are_busy(tmp_path: Path) -> None:
    """Nobody has to wait until a thread is free to be told that none is."""
    app = Held()
    with serving(app, tmp_path, threads=2, queue_timeout=LIMIT) as server:
        clients = busy(server, app, 2)
        waiting = [server.client().get(f"/{number}") for number in range(5)]
        assert [client.answer().status for client in waiting] == [503] * 5
        assert all(queue_time(line) >= LIMIT * 1000 * 0.9 for line in server.access(5))
        assert app.calls == 2
        app.gate.set()
        assert [client.answer().status for client in clients] == [200, 200]
        for client in (*clients, *waiting):
            client.close()


def test_so_are_requests_on_open_connections(tmp_path: Path) -> None:
    app = open_app()
    with serving(app, tmp_path, threads=2, queue_timeout=LIMIT) as server:
        waiting = [server.client().get() for _ in range(5)]
        assert [client.answer().status for client in waiting] == [200] * 5
        app.gate.clear()
        app.calls = 0
        clients = busy(server, app, 2)
        for client in waiting:
            client.send(request("GET", "/a") + request("GET", "/b"))
        # The second one, which was sent with the first, has waited as long.
        assert [client.answer().status for client in waiting for _ in range(2)] == [503] * 10
        assert server.slot.shed == 10
        app.gate.set()
        for client in clients:
            assert client.answer().status == 200
        for client in (*clients, *waiting):
            client.close()


def test_a_request_within_the_limit_waits_for_its_thread(tmp_path: Path) -> None:
    app = Held()
    with serving(app, tmp_path, threads=2, queue_timeout=PATIENCE) as server:
        clients = busy(server, app, 2) + [server.client().get() for _ in range(3)]
        eventually(lambda: server.slot.backlog == 3)
        app.gate.set()
        assert [client.answer().status for client in clients] == [200] * 5
        for client in clients:
            client.close()


def test_the_log_says_so_once_in_a_while(tmp_path: Path) -> None:
    with serving(open_app(), tmp_path, queue_timeout=1.0) as server, server.client() as client:
        for number in range(20):
            assert client.send(late(number)).answer().status == 503
        assert server.errors().count("turned away with 503: 1 (waited longer than queue_timeout of 1 s") == 1
        assert server.errors().count("503") == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_client_that_leaves_while_it_waits_does_no_harm(tmp_path: Path, threads: int) -> None:
    app = Held()
    with serving(app, tmp_path, threads=threads, queue_timeout=LIMIT) as server:
        clients = busy(server, app, threads)
        for number in range(10):
            server.client().get(f"/{number}").reset()
        server.order(Order.LEAVE)
        app.gate.set()
        assert [client.answer().status for client in clients] == [200] * threads
        for client in clients:
            client.close()
        server.ended()
