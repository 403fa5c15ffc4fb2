# SPDX-License-Identifier: MIT
"""Requests in greenlets, with a library of them that is made for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from batons import Batons
from deadlines import PATIENCE, eventually
from serving import Serving

from prefork.process.scoreboard import Stage
from prefork.process.suspended import shown
from prefork.supervisor.messages import Order
from prefork.workers.greens import Greens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
EXPECTING = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
"""Its body is not read ahead: only the application can ask for it."""


class Cooperative(Serving):
    """A worker with greenlets, in a thread of the test."""

    def __init__(self, app: Callable[..., Any], folder: Path, *, at_once: int = 8, **settings: Any) -> None:
        self.batons = Batons()
        super().__init__(app, folder, keepalive=75.0, settings=settings, at_once=at_once)

    def make_loop(self, arbiter: int) -> Greens:
        context = self.make_context(arbiter)
        greens = Greens(context, self.batons)
        context.on_abort = greens.aborted
        return greens

    def _run(self) -> None:
        self.batons.enter()
        super()._run()


class Gate:
    """An application that holds requests to /hold, cooperatively, and answers with its path."""

    def __init__(self) -> None:
        self.held = threading.Semaphore(0)
        self.holding: list[str] = []
        self.most = 0
        self.server: Cooperative

    def serve(self, folder: Path, **settings: Any) -> Cooperative:
        self.server = Cooperative(self, folder, **settings)
        return self.server

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/hold"):
            self.holding.append(path)
            self.most = max(self.most, len(self.holding))
            assert self.server.batons.give_way(lambda: self.held.acquire(timeout=PATIENCE))
            self.holding.remove(path)
        elif path == "/echo":
            path = environ["wsgi.input"].read().decode()
        elif path == "/exit":
            raise SystemExit
        start_response("200 OK", [("Content-Length", str(len(path)))])
        return [path.encode()]


def test_requests_are_answered_on_a_connection_that_stays_open(tmp_path: Path) -> None:
    with Gate().serve(tmp_path) as server, server.client() as client:
        for number in range(50):
            client.send(GET % b"/%d" % number)
            assert client.answer().body == b"/%d" % number


def test_many_requests_wait_at_once(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server:
        clients = [server.client() for _ in range(8)]
        for number, client in enumerate(clients):
            client.send(GET % b"/hold/%d" % number)
        eventually(lambda: len(gate.holding) == 8)
        assert len(server.slot.current()) == 8
        gate.held.release(8)
        assert [client.answer().body for client in clients] == [b"/hold/%d" % number for number in range(8)]
        for client in clients:
            client.close()
    assert server.slot.requests == 8


def test_a_request_beyond_the_most_waits_until_one_is_answered(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path, at_once=2) as server:
        clients = [server.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(GET % b"/hold/%d" % number)
        eventually(lambda: len(gate.holding) == 2)
        gate.held.release(5)
        assert sorted(client.answer().body for client in clients) == [
            b"/hold/%d" % number for number in range(5)
        ]
        for client in clients:
            client.close()
    assert gate.most == 2


def test_pipelined_requests_are_answered_in_order_and_do_not_keep_others_out(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server, server.client() as many, server.client() as other:
        many.send(b"".join(GET % b"/%d" % number for number in range(200)))
        other.send(GET % b"/other")
        assert other.answer().body == b"/other"
        assert [many.answer().body for _ in range(200)] == [b"/%d" % number for number in range(200)]


def test_half_a_head_and_an_idle_connection_cost_no_greenlet(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path, at_once=1) as server, server.client() as idle, server.client() as slow:
        idle.send(GET % b"/idle")
        assert idle.answer().body == b"/idle"
        slow.send(b"GET /slow HT")
        with server.client() as quick:
            quick.send(GET % b"/quick")
            assert quick.answer().body == b"/quick"
        slow.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert slow.answer().body == b"/slow"


def test_a_body_that_comes_slowly_lets_others_run(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server, server.client() as slow, server.client() as quick:
        slow.send(EXPECTING)
        assert slow.read_head().startswith(b"HTTP/1.1 100 ")
        slow.send(b"3\r\nab")
        quick.send(GET % b"/quick")
        assert quick.answer().body == b"/quick"
        slow.send(b"c\r\n0\r\n\r\n")
        assert slow.answer().body == b"abc"


def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    with Gate().serve(tmp_path, body_timeout=0.2) as server, server.client() as slow:
        slow.send(EXPECTING)
        assert slow.read_head().startswith(b"HTTP/1.1 100 ")
        assert slow.answer().status == 408


def test_an_application_that_exits_ends_its_request_only(tmp_path: Path) -> None:
    with Gate().serve(tmp_path) as server, server.client() as client, server.client() as other:
        client.send(GET % b"/exit")
        assert client.answer().status == 500
        other.send(GET % b"/other")
        assert other.answer().body == b"/other"


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_what_is_in_hand_is_finished_before_the_end(tmp_path: Path, order: Order) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server, server.client() as busy, server.client() as idle:
        idle.send(GET % b"/idle")
        assert idle.answer().body == b"/idle"
        busy.send(GET % b"/hold")
        eventually(lambda: gate.holding)
        server.order(order)
        assert idle.rest() == b""
        assert server.running
        gate.held.release()
        answer = busy.answer()
        assert (answer.body, answer.fields["Connection"]) == (b"/hold", "close")
        server.ended()


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_a_client_that_was_answered_just_now_may_ask_once_more(tmp_path: Path, order: Order) -> None:
    with Gate().serve(tmp_path) as server, server.client() as client:
        client.send(GET % b"/first")
        assert "Connection" not in client.answer().fields
        server.order(order)
        eventually(lambda: server.slot.stage is Stage.STOPPING)
        client.send(GET % b"/second")
        assert client.answer().fields["Connection"] == "close"
        client.close()
        server.ended()


def test_requests_that_wait_are_shown_with_where(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server, server.client() as idle, server.client() as busy:
        idle.send(GET % b"/idle")
        assert idle.answer().body == b"/idle"
        busy.send(GET % b"/hold/1")
        eventually(lambda: gate.holding)
        greens = server._loop
        assert isinstance(greens, Greens)
        [(name, _)] = greens.waiting()
        assert name == "GET /hold/1"
        assert f'File "{__file__}"' in shown(greens.waiting())
        gate.held.release()
        assert busy.answer().status == 200
        eventually(lambda: not greens.waiting())


def test_a_worker_that_is_given_up_leaves_a_line_for_each_request(tmp_path: Path) -> None:
    gate = Gate()
    with gate.serve(tmp_path) as server, server.client() as first, server.client() as second:
        first.send(GET % b"/hold/1")
        second.send(GET % b"/hold/2")
        eventually(lambda: len(gate.holding) == 2)
        server._loop.aborted()
        assert len(server.access(2)) == 2
        gate.held.release(2)


def test_a_fault_of_its_own_ends_the_worker(tmp_path: Path) -> None:
    class Broken(Cooperative):
        def make_loop(self, arbiter: int) -> Greens:
            greens = super().make_loop(arbiter)
            greens._service.respond = None  # type: ignore[method-assign, assignment]
            return greens

    def ask() -> None:
        with Broken(Gate(), tmp_path) as server, server.client() as client:
            client.send(GET % b"/")
            server.ended()

    with pytest.raises(TypeError):
        ask()
