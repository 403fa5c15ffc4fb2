# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from raw_client import Client, request
from serving import Forked, Serving, Worker

from prefork.net.listener import stop_queueing
from prefork.process.scoreboard import Phase, Stage
from prefork.supervisor.messages import Order, Report
from prefork.workers.acceptor import DRAINING, QUEUE_GRACE
from prefork.workers.loop import Loop
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork.wsgi.connection import Connection

PLAIN = [("Content-Type", "text/plain")]
LARGE = b"0123456789abcdef" * (512 * 1024)
POST = request("POST", "/", "Content-Length: 6")
LATE = 1.0
"""Seconds for a head. Long, because a busy machine must get all clients connected within them."""


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [b"hello"]


def large(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", PLAIN)
    return [LARGE]


class Gated:
    """An application that answers /gate only when the gate is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.seen: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.seen.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/gate":
            self.entered.set()
            assert self.gate.wait(PATIENCE)
        return hello(environ, start_response)

    def hold(self, server: Worker) -> Client:
        """Return a client whose request is in the application."""
        client = server.client().get("/gate")
        assert self.entered.wait(PATIENCE)
        return client


def age(server: Serving, seconds: float = 60.0) -> None:
    """Have all connections be idle for so much longer."""
    for conn in server._loop._loop._open:
        conn.began -= seconds


def is_listening(server: Worker) -> bool:
    """Return whether the kernel still takes connections; they are closed again."""
    try:
        server.client().close()
    except ConnectionRefusedError:
        return False
    return True


# Accepting


def test_it_says_that_it_is_ready_once(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server:
        with server.client() as client:
            client.get().answer()
        assert server.heard(Report.READY) == 1
        assert server.slot.stage is Stage.READY


def test_it_serves_several_listeners(tmp_path: Path) -> None:
    settings = {"bind": ("127.0.0.1:0", f"unix:{tmp_path}/s", "127.0.0.1:0")}
    with Serving(hello, tmp_path, settings=settings) as server:
        for listener in server.listeners:
            with Client(listener.sock.getsockname()) as client:
                assert client.get().answer().body == b"hello"


def test_no_more_connections_are_accepted_than_allowed(tmp_path: Path) -> None:
    settings = {"worker_connections": 3}
    with Serving(hello, tmp_path, settings=settings) as server:
        parked = [server.client().send(b"GET / HTTP/1.1\r\n") for _ in range(3)]
        eventually(lambda: server.slot.idle == 3)
        waiting = server.client().get("/waiting")
        parked[0].send(b"Host: a\r\n\r\n")
        assert parked[0].answer().status == 200
        parked[0].close()
        assert waiting.answer().status == 200
        assert server.access(2) == ["ok 200 5 GET / HTTP/1.1", "ok 200 5 GET /waiting HTTP/1.1"]
        for client in [*parked, waiting]:
            client.close()


def test_a_connection_over_the_limit_waits_in_the_queue(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"worker_connections": 1}) as server:
        with server.client() as parked:
            parked.send(b"GET ")
            eventually(lambda: server.slot.idle == 1)
            waiting = server.client().get()
            waiting.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                waiting.sock.recv(1)
        waiting.sock.settimeout(PATIENCE)
        assert waiting.sock.recv(12) == b"HTTP/1.1 200"
        waiting.close()


@pytest.mark.parametrize("draining", [False, True])
def test_without_descriptors_it_pauses_and_goes_on(tmp_path: Path, draining: bool) -> None:
    """Connections wait in the queue then; the log says so now and then, and no CPU time is burnt."""
    worker = Worker(hello, tmp_path)

    def live() -> int:
        loop = worker.make_loop(os.getppid())
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, free + 2))
        loop.run()
        return 0 if time.process_time() < 1.0 else 7

    with Forked(live) as child:
        eventually(lambda: worker.heard(Report.READY))
        clients = [worker.client().send(b"GET / HTTP/1.1\r\n") for _ in range(12)]
        eventually(lambda: "cannot accept: Too many open files" in worker.errors())
        if draining:
            stop_queueing(worker.listeners[0])
            worker.order(Order.DRAIN)
            eventually(lambda: worker.slot.stage is Stage.STOPPING)
            eventually(lambda: worker.errors().count("cannot accept") >= 3)
        for client in clients:
            client.send(b"Host: a\r\nConnection: close\r\n\r\n")
        for client in clients:
            assert client.answer().status == 200
            client.close()
        assert worker.errors().count("cannot accept") < 30
        worker.order(Order.QUICK)
        assert child.status() == 0


def test_nobody_is_late_whose_request_waits_for_a_busy_worker(tmp_path: Path) -> None:
    """Also not when there are more of them than the poll set tells at once."""
    app = Gated()
    with Serving(app, tmp_path, settings={"header_timeout": LATE}) as server:
        half = [server.client().send(b"GET / HTTP/1.1\r\n") for _ in range(150)]
        eventually(lambda: server.slot.idle == 150)
        held = app.hold(server)
        late = time.monotonic() + LATE
        for client in half:
            client.send(b"Host: a\r\n\r\n")
        eventually(lambda: time.monotonic() > late)
        app.gate.set()
        assert [client.answer().status for client in [held, *half]] == [200] * 151
        for client in [held, *half]:
            client.close()


def test_half_open_and_idle_connections_are_counted(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.get().answer()
        eventually(lambda: server.slot.idle == 1)


# The scoreboard


def test_the_deadline_is_set_while_the_application_runs(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path, settings={"timeout": 30.0}) as server:
        assert server.slot.deadline == 0.0
        began = time.monotonic()
        client = app.hold(server)
        assert began + 30.0 <= server.slot.deadline <= time.monotonic() + 30.0
        current = server.slot.thread(0).request()
        assert current is not None
        assert (current.method, current.target) == ("GET", "/gate")
        app.gate.set()
        client.answer()
        eventually(lambda: server.slot.deadline == 0.0 and server.slot.thread(0).request() is None)
        client.close()


def test_no_timeout_sets_no_deadline(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path, settings={"timeout": 0.0}) as server:
        client = app.hold(server)
        assert server.slot.deadline == 0.0
        app.gate.set()
        client.answer()
        client.close()


def test_progress_moves_the_deadline(tmp_path: Path) -> None:
    seen: list[float] = []

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        for _ in range(3):
            yield b"x"
            seen.append(server.slot.deadline)

    with Serving(app, tmp_path) as server, server.client() as client:
        client.get().answer()
    assert seen == sorted(set(seen))


def test_while_the_client_is_waited_for_its_own_deadline_counts(tmp_path: Path) -> None:
    """The worker is not stuck: body_timeout ends the wait."""
    large_post = request("POST", "/", "Content-Length: 10000000")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    settings = {"timeout": 1.0, "body_timeout": 50.0}
    with Serving(app, tmp_path, settings=settings) as server, server.client() as client:
        began = time.monotonic()
        client.send(large_post)
        eventually(lambda: server.slot.deadline > began + 40.0)


def test_the_scoreboard_says_whom_a_request_waits_for(tmp_path: Path) -> None:
    may_answer = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["wsgi.input"].read()
        may_answer.wait(PATIENCE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield from (b"x" * 65536 for _ in range(400))

    def phase() -> Phase | None:
        current = server.slot.thread(0).request()
        return None if current is None else current.phase

    settings = {"body_memory": 0}
    with Serving(app, tmp_path, settings=settings) as server, server.client(4096) as client:
        client.send(request("POST", "/", "Content-Length: 100000"))
        eventually(lambda: phase() is Phase.READING)
        client.send(b"x" * 100_000)
        eventually(lambda: phase() is Phase.APPLICATION)
        may_answer.set()
        eventually(lambda: phase() is Phase.WRITING)
        assert client.answer().whole
        eventually(lambda: phase() is None)


def test_a_request_may_ask_for_time(tmp_path: Path) -> None:
    app = Gated()

    def asking(environ: dict[str, Any], start_response: Any) -> Any:
        environ["prefork.extend_deadline"](500)
        return app(environ, start_response)

    with Serving(asking, tmp_path) as server:
        began = time.monotonic()
        client = app.hold(server)
        assert began + 500.0 <= server.slot.thread(0).allowed <= time.monotonic() + 500.0
        app.gate.set()
        client.answer()
        client.close()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_what_is_no_time_cannot_be_asked_for(tmp_path: Path, seconds: float) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with pytest.raises(ValueError, match="is no time in seconds"):
            environ["prefork.extend_deadline"](seconds)
        return hello(environ, start_response)

    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.get().answer().status == 200


def test_waits_for_the_client_are_summed_up(tmp_path: Path) -> None:
    waited: list[float] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for _ in range(2):
            environ["wsgi.input"].read(1)
            (current,) = server.slot.current()
            waited.append(current.waited)
        return hello(environ, start_response)

    with Serving(app, tmp_path, settings={"body_memory": 0}) as server, server.client() as client:
        client.send(request("POST", "/", "Content-Length: 100000"))
        for count in (1, 2):
            eventually(lambda: server.slot.current() and server.slot.current()[0].phase is Phase.READING)
            began = time.monotonic()
            eventually(lambda began=began: time.monotonic() > began + 0.05)  # type: ignore[misc]
            client.send(b"x")
            eventually(lambda count=count: len(waited) == count)  # type: ignore[misc]
        client.send(b"x" * 99_998)
        assert client.answer().status == 200
    assert waited[0] >= 0.05
    assert waited[1] >= waited[0] + 0.05


def test_waiting_for_the_client_without_a_limit_is_idleness(tmp_path: Path) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    settings = {"timeout": 1.0, "body_timeout": 0.0}
    with Serving(app, tmp_path, settings=settings) as server, server.client() as client:
        client.send(request("POST", "/", "Content-Length: 10000000"))
        eventually(lambda: server.slot.thread(0).request() is not None and server.slot.deadline == 0.0)


def test_parked_connections_set_no_deadline(tmp_path: Path) -> None:
    with Serving(large, tmp_path) as server, server.client(4096) as slow, server.client() as half:
        slow.get().read_head()
        half.send(POST)
        eventually(lambda: server.slot.idle == 2)
        assert server.slot.deadline == 0.0


# Recycling


def test_after_its_requests_it_asks_for_a_successor_once_and_serves_on(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"max_requests": 3}) as server:
        for number in range(1, 6):
            with server.client() as client:
                assert client.get().answer().status == 200
            server.access(number)
            if number < 3:
                assert server.heard(Report.RETIRE) == 0
            else:
                eventually(lambda: server.heard(Report.RETIRE))
        assert server.heard(Report.RETIRE) == 1
        assert server.slot.requests == 5


def test_refused_requests_do_not_count(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"max_requests": 1}) as server:
        with server.client() as client:
            assert client.send(b"nonsense\r\n\r\n").answer().status == 400
        server.access(1)
        assert server.heard(Report.RETIRE) == 0


# Stopping


def test_before_a_stop_each_response_says_that_it_is_the_last_on_its_connection(tmp_path: Path) -> None:
    """So clients and proxies go elsewhere one by one, while new connections are still taken."""
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as idle:
        assert "Connection" not in idle.get().answer().fields
        server.slot.part()

        def parts() -> bool:
            with server.client() as client:
                return client.get().answer().fields["Connection"] == "close"

        eventually(parts)
        assert idle.get().answer().fields["Connection"] == "close"
        assert idle.rest() == b""
        assert is_listening(server)
        assert server.slot.stage is Stage.READY


def test_drain_serves_what_is_queued_and_then_ends(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path) as server:
        held = app.hold(server)
        queued = [server.client().get(f"/{number}") for number in range(5)]
        server.order(Order.DRAIN)
        app.gate.set()
        assert [client.answer().status for client in [held, *queued]] == [200] * 6
        server.ended()
        assert not is_listening(server)
        for client in [held, *queued]:
            client.close()
    assert server.slot.stage is Stage.STOPPING


def test_a_drain_waits_for_half_done_handshakes_although_a_request_has_waited_for_its_turn(
    tmp_path: Path,
) -> None:
    """Whose turn it is keeps the loop from waiting, and what it has not waited for is not missing."""
    worker = Worker(hello, tmp_path)
    context = worker.make_context(os.getppid())
    service = context.service(keepalive=60.0)
    watch = Watch(context.slot.thread(0), 0.0, context.slot, threading.Lock())

    class Calls:
        def call(self, conn: Connection, _leader: object) -> bool:
            loop.place(conn, service.respond(conn, watch))
            return True

        def in_hand(self) -> list[Connection]:
            return []

    loop: Loop[object] = Loop(context, service, Calls(), concurrent=True)
    leader = object()
    loop.begin()
    with worker.client() as client:
        while not context.slot.idle:
            loop.turn(leader)
        client.get()
        while not loop.turns:
            loop.handle(loop.wait(), None)
        began = time.monotonic()
        worker.order(Order.DRAIN)
        while not loop.stopping:
            loop.handle(loop.wait_for_all(), None)
        assert loop.turns
        while loop.acceptor.state is DRAINING:
            loop.turn(leader)
        assert time.monotonic() - began >= QUEUE_GRACE
        assert client.answer().status == 200
    loop.close_all()


@pytest.mark.parametrize(("later", "taken"), [(True, 5), (False, 1)])
def test_several_connections_are_taken_in_a_turn_where_none_is_answered_in_it(
    tmp_path: Path, *, later: bool, taken: int
) -> None:
    """Who answers in the turn itself may be done with one before the next is taken."""
    worker = Worker(hello, tmp_path)
    context = worker.make_context(os.getppid())
    held: list[Connection] = []

    class Calls:
        def call(self, conn: Connection, _leader: object) -> bool:
            held.append(conn)
            return True

        def in_hand(self) -> list[Connection]:
            return held

    loop: Loop[object] = Loop(context, context.service(keepalive=60.0), Calls(), concurrent=True, later=later)
    loop.begin()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(worker.client()).get()
        eventually(lambda: loop.acceptor.waiting() == 5)
        loop.turn(object())
        assert len(held) == taken
        while len(held) < 5:
            loop.turn(object())
    loop.close_all()


def test_leave_closes_the_listeners_at_once_and_finishes_what_runs(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path) as server:
        successor = socket.socket(fileno=os.dup(server.listeners[0].sock.fileno()))
        held = app.hold(server)
        queued = server.client().get("/queued")
        server.order(Order.LEAVE)
        app.gate.set()
        assert held.answer().status == 200
        server.ended()
        assert app.seen == ["/gate"]
        successor.settimeout(PATIENCE)
        successor.accept()[0].close()  # it is still queued, for those who stay
        successor.close()
        held.close()
        queued.close()


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_idle_connections_are_closed_and_parked_ones_finished(tmp_path: Path, order: Order) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server:
        idle, half, body = server.client(), server.client(), server.client()
        idle.get().answer()
        half.send(b"GET / HTTP/1.1\r\n")
        body.send(POST, b"abc")
        eventually(lambda: server.slot.idle == 3)
        server.order(order)
        assert idle.rest() == b""
        assert server.running
        half.send(b"Host: a\r\n\r\n")
        assert half.answer().fields["Connection"] == "close"
        body.send(b"def")
        assert body.answer().fields["Connection"] == "close"
        for client in (idle, half, body):
            client.close()
        server.ended()


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_responses_that_are_still_being_taken_are_finished(tmp_path: Path, order: Order) -> None:
    with Serving(large, tmp_path, keepalive=60.0) as server, server.client(4096) as slow:
        slow.get()
        slow.read_head()
        eventually(lambda: server.slot.requests == 1)
        server.order(order)
        assert slow.read(len(LARGE) + 100).rstrip(b"0\r\n").count(b"0123456789abcdef") > 0
        server.ended()


def test_requests_that_are_there_when_the_stop_comes_are_served(tmp_path: Path) -> None:
    """Also when there are more of them than the poll set tells at once, on connections long idle before."""
    app = Gated()
    with Serving(app, tmp_path, keepalive=60.0) as server:
        kept = [server.client() for _ in range(150)]
        for client in kept:
            client.get("/first").answer()
        eventually(lambda: server.slot.idle == 150)
        age(server)
        held = app.hold(server)
        server.order(Order.LEAVE)
        for client in kept:
            client.get("/second")
        app.gate.set()
        for client in kept:
            answer = client.answer()
            assert (answer.status, answer.fields["Connection"]) == (200, "close")
            client.close()
        held.close()
        server.ended()


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_a_client_that_was_answered_just_now_may_ask_once_more(tmp_path: Path, order: Order) -> None:
    """It cannot know of the stop, and its next request is on its way."""
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        assert "Connection" not in client.get().answer().fields
        server.order(order)
        eventually(lambda: server.slot.stage is Stage.STOPPING)
        assert client.get().answer().fields["Connection"] == "close"
        assert client.rest() == b""
        client.close()
        server.ended()


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_a_client_that_was_idle_for_longer_is_let_go_before_others(tmp_path: Path, order: Order) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as old:
        old.get().answer()
        eventually(lambda: server.slot.idle == 1)
        age(server, 60.0)
        with server.client() as young:
            young.get().answer()
            server.order(order)
            assert old.rest() == b""
            assert young.get().answer().fields["Connection"] == "close"
        server.ended()


def test_a_client_that_asks_no_more_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, keepalive=60.0) as server, server.client() as client:
        client.get().answer()
        server.order(Order.LEAVE)
        assert client.rest() == b""
        server.ended()  # long before keepalive and graceful_timeout


def test_a_new_connection_has_a_moment_to_say_what_it_wants(tmp_path: Path) -> None:
    """It was accepted just before the stop, and its request is on its way."""
    settings = {"bind": (f"unix:{tmp_path}/s",)}
    with Serving(hello, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as fresh:
        eventually(lambda: server.slot.idle == 1)
        server.order(Order.LEAVE)
        eventually(lambda: server.slot.stage is Stage.STOPPING)
        assert fresh.get().answer().status == 200
        server.ended()


def test_a_new_connection_that_says_nothing_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    settings = {"bind": (f"unix:{tmp_path}/s",)}
    with Serving(hello, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as fresh:
        eventually(lambda: server.slot.idle == 1)
        server.order(Order.LEAVE)
        assert fresh.rest() == b""
        server.ended()  # long before keepalive and graceful_timeout


def test_a_queued_connection_that_says_nothing_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    app = Gated()
    settings = {"bind": (f"unix:{tmp_path}/s",)}
    with Serving(app, tmp_path, settings=settings) as server:
        held, silent = app.hold(server), server.client()
        server.order(Order.DRAIN)
        app.gate.set()
        assert held.answer().status == 200
        held.close()
        assert silent.rest() == b""
        server.ended()
        silent.close()


def test_a_drain_does_not_wait_for_a_queue_that_others_keep_filling(tmp_path: Path) -> None:
    """It is one of several listeners, and only another of them is being removed."""
    enough = threading.Event()
    with Serving(hello, tmp_path) as server:
        successor = socket.socket(fileno=os.dup(server.listeners[0].sock.fileno()))

        def ask() -> None:
            while not enough.is_set():
                server.client().get("/", "Connection: close").close()

        asking = threading.Thread(target=ask)
        asking.start()
        server.order(Order.DRAIN)
        server.ended()
        enough.set()
        asking.join(PATIENCE)
        successor.close()


def test_quick_drops_everything(tmp_path: Path) -> None:
    with Serving(large, tmp_path, keepalive=60.0) as server:
        slow, half = server.client(4096), server.client()
        slow.get().read_head()
        half.send(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.slot.idle == 2)
        server.order(Order.QUICK)
        server.ended()
        lines = server.access(2)
        assert sorted(line.split()[0] for line in lines) == ["aborted", "aborted"]
        assert "unfinished requests: 2" in server.errors()
        slow.close()
        half.close()


def test_quick_begins_no_request(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path, keepalive=60.0) as server:
        kept = server.client()
        kept.get("/first").answer()
        eventually(lambda: server.slot.idle == 1)
        held = app.hold(server)
        server.order(Order.QUICK)
        kept.get("/second")
        app.gate.set()
        server.ended()
        assert app.seen == ["/first", "/gate"]
        held.close()
        kept.close()


@pytest.mark.parametrize("first", [Order.DRAIN, Order.LEAVE])
def test_a_second_stricter_order_counts(tmp_path: Path, first: Order) -> None:
    with Serving(hello, tmp_path) as server, server.client() as half:
        half.send(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.slot.idle == 1)
        server.order(first)
        eventually(lambda: server.slot.stage is Stage.STOPPING)
        assert server.running
        server.order(Order.QUICK)
        server.ended()


def test_a_drain_ends_with_its_time(tmp_path: Path) -> None:
    settings = {"graceful_timeout": 0.5}
    with Serving(hello, tmp_path, settings=settings) as server, server.client() as half:
        half.send(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.slot.idle == 1)
        began = time.monotonic()
        server.order(Order.DRAIN)
        server.ended()
        assert time.monotonic() - began >= 0.5
        assert server.access(1) == ["aborted - 0 -"]
    assert "unfinished requests: 1" in server.errors()


def test_a_stop_while_accepting_is_paused_serves_the_queue(tmp_path: Path) -> None:
    with Serving(hello, tmp_path, settings={"worker_connections": 1}) as server:
        half = server.client().send(b"GET / HTTP/1.1\r\n")
        eventually(lambda: server.slot.idle == 1)
        queued = [server.client().get() for _ in range(3)]
        server.order(Order.DRAIN)
        assert [client.answer().status for client in queued] == [200] * 3
        half.send(b"Host: a\r\n\r\n")
        assert half.answer().status == 200
        for client in [half, *queued]:
            client.close()
        server.ended()


def test_the_arbiters_death_is_a_drain_that_keeps_new_connections_out(tmp_path: Path) -> None:
    """Nobody else is left to do that. The worker's arbiter is a process that forks it and dies."""
    settings = {"bind": (f"unix:{tmp_path}/s",)}
    worker = Worker(hello, tmp_path, settings=settings)

    def live_as_arbiter() -> int:
        arbiter = os.getpid()
        if os.fork() == 0:
            worker.arbiter.close()
            worker.make_loop(arbiter).run()
            (tmp_path / "ended").write_text("orderly")
            os._exit(0)
        signal.pause()
        return 0

    with Forked(live_as_arbiter) as arbiter:
        eventually(lambda: worker.slot.stage is Stage.READY)
        worker.arbiter.close()
        worker.end.close()
        for listener in worker.listeners:
            listener.close(unlink=False)
        half = worker.client().send(b"GET / HTTP/1.1\r\n")
        arbiter.signal(signal.SIGKILL)
        arbiter.status()
        eventually(lambda: not (tmp_path / "s").exists())
        assert half.send(b"Host: a\r\n\r\n").answer().status == 200
        half.close()
    eventually((tmp_path / "ended").exists)
    assert f"the arbiter (pid {arbiter.pid}) is gone" in worker.errors()


# The end by force


def test_an_aborted_worker_leaves_a_line_for_the_request_in_hand(tmp_path: Path) -> None:
    app = Gated()
    with Serving(app, tmp_path) as server:
        held = app.hold(server)
        server._loop.aborted()
        assert server.access(1) == ["timeout - 0 GET /gate HTTP/1.1"]
        app.gate.set()
        held.answer()
        held.close()


def test_an_aborted_worker_without_a_request_leaves_none(tmp_path: Path) -> None:
    with Serving(hello, tmp_path) as server:
        server._loop.aborted()
        with server.client() as client:
            client.get().answer()
        assert len(server.access(1)) == 1


@pytest.mark.parametrize("kind", [hello, large])
def test_it_sleeps_when_there_is_nothing_to_do(tmp_path: Path, kind: Callable[..., Any]) -> None:
    with Serving(kind, tmp_path, keepalive=60.0) as server, server.client(4096) as client:
        client.get().read_head()
        eventually(lambda: server.slot.idle == 1)
        before = time.process_time()
        threading.Event().wait(0.5)  # not for a condition: it is about what does not happen
        assert time.process_time() - before < 0.2
