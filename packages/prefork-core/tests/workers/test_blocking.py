# SPDX-License-Identifier: MIT
"""A worker that gives each connection a thread, in as few lines as a stranger would write."""

from __future__ import annotations

import select
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from serving import Living
from serving import Worker as Parts

from prefork.process.scoreboard import Stage
from prefork.supervisor.messages import Order, Report
from prefork.worker import Context, Worker
from prefork.workers.ending import LAST_CALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Patient(Worker):
    """A thread for each connection."""

    api = 1

    def run(self, ctx: Context) -> None:
        while (accepted := ctx.accept()) is not None:
            threading.Thread(target=accepted.serve, daemon=True).start()


class Curious(Worker):
    """Waits for an order itself, when it has served a connection."""

    api = 1

    def run(self, ctx: Context) -> None:
        accepted = ctx.accept()
        assert accepted is not None
        accepted.serve()
        select.select([ctx.stop_fd], [], [])
        assert ctx.stopping is not None
        assert ctx.accept() is None


class Hello:
    """Answers with what it was sent, and with /slow late; leaves a note when it has begun."""

    def __init__(self, folder: Path) -> None:
        self.note = folder / "note"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.note.touch()
            time.sleep(0.5)
        body = environ["wsgi.input"].read() or b"hello"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


class Running(Living):
    """The worker in a process of its own."""

    kind: type[Worker] = Patient

    def __init__(
        self, folder: Path, app: Callable[..., Any] | None = None, at_once: int = 8, **settings: Any
    ) -> None:
        settings = {"keepalive": 60.0, **settings}
        super().__init__(Parts(app or Hello(folder), folder, settings=settings, at_once=at_once), self.kind)


class RunningCurious(Running):
    """The one that waits for an order itself, likewise."""

    kind = Curious


def test_requests_are_answered_on_a_connection_that_stays_open(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        for _ in range(3):
            assert client.get().answer().body == b"hello"
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n", b"x" * 70000)
        assert client.answer().body == b"x" * 70000
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert [client.answer().body for _ in range(2)] == [b"hello", b"hello"]
        assert len(worker.parts.access(6)) == 6
        assert worker.leaves(Order.LEAVE)


def barrier(parties: int, folder: Path) -> Callable[..., Any]:
    """Return an application that answers when so many requests are there."""
    all_here = threading.Barrier(parties)

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        (folder / "note").touch()
        all_here.wait(PATIENCE)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    return app


def test_connections_are_served_beside_each_other(tmp_path: Path) -> None:
    with Running(tmp_path, barrier(2, tmp_path)) as worker:
        with worker.parts.client() as one, worker.parts.client() as other:
            one.get()
            other.get()
            assert (one.answer().status, other.answer().status) == (200, 200)
        assert worker.leaves(Order.LEAVE)


def test_no_more_requests_are_in_hand_than_the_worker_class_says(tmp_path: Path) -> None:
    most = []
    running: list[int] = []

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        body = str(max(most)).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with Running(tmp_path, app, at_once=1) as worker:
        with worker.parts.client() as one, worker.parts.client() as other:
            for client in (one, other, one, other):
                client.get()
            answers = [client.answer().body for client in (one, other, one, other)]
        assert answers == [b"1"] * 4


HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("sent", [b"GET / HTT", HALF_A_BODY])
def test_half_a_request_costs_no_more_than_its_time(tmp_path: Path, sent: bytes) -> None:
    with Running(tmp_path, header_timeout=0.2, body_timeout=0.2) as worker, worker.parts.client() as client:
        client.send(sent)
        assert client.answer().status == 408


def test_an_idle_connection_is_closed_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, keepalive=0.2) as worker, worker.parts.client() as client:
        assert client.get().answer().status == 200
        assert client.rest() == b""


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_stop_that_the_worker_class_has_seen_first_is_one(tmp_path: Path, order: Order) -> None:
    """Reading an order empties the stop descriptor."""
    with RunningCurious(tmp_path) as worker:
        with worker.parts.client() as client:
            assert client.get().answer().body == b"hello"
        assert worker.leaves(order)


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_stop_closes_idle_connections_and_finishes_requests(tmp_path: Path, order: Order) -> None:
    with (
        Running(tmp_path, graceful_timeout=30.0) as worker,
        worker.parts.client() as idle,
        worker.parts.client() as busy,
    ):
        assert idle.get().answer().status == 200
        busy.get("/slow")
        eventually((tmp_path / "note").exists)
        assert worker.leaves(order)
        assert idle.rest() == b""
        answer = busy.answer()
        assert (answer.status, answer.fields["Connection"]) == (200, "close")


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_client_that_was_answered_just_now_may_ask_once_more(tmp_path: Path, order: Order) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert "Connection" not in client.get().answer().fields
        worker.parts.order(order)
        eventually(lambda: worker.parts.slot.stage is Stage.STOPPING)
        assert client.get().answer().fields["Connection"] == "close"
        client.close()
        assert worker.status() == 0


def test_a_client_that_was_idle_for_longer_is_let_go_before_others(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as old, worker.parts.client() as young:
        assert old.get().answer().status == 200
        idle_until = time.monotonic() + LAST_CALL
        eventually(lambda: time.monotonic() > idle_until)
        assert young.get().answer().status == 200
        worker.parts.order(Order.LEAVE)
        assert old.rest() == b""
        assert young.get().answer().fields["Connection"] == "close"


def test_a_connection_that_has_just_come_is_given_time_for_its_request(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        eventually(lambda: worker.parts.slot.connections == 1)
        worker.parts.order(Order.LEAVE)
        eventually(lambda: worker.parts.slot.stage is Stage.STOPPING)
        assert client.get().answer().status == 200


def test_what_is_queued_at_the_end_is_served_whatever_the_limit(tmp_path: Path) -> None:
    with (
        Running(tmp_path, worker_connections=1) as worker,
        worker.parts.client() as first,
        worker.parts.client() as queued,
    ):
        first.get("/slow")
        eventually((tmp_path / "note").exists)
        queued.get()
        assert worker.leaves(Order.DRAIN)
        assert (first.answer().status, queued.answer().status) == (200, 200)


def test_a_connection_that_closes_makes_room_for_the_next(tmp_path: Path) -> None:
    with Running(tmp_path, worker_connections=1) as worker:
        for _ in range(5):
            with worker.parts.client() as client:
                assert client.get().answer().status == 200


def test_at_the_limit_the_connection_that_was_idle_for_longest_makes_room(tmp_path: Path) -> None:
    with Running(tmp_path, worker_connections=2) as worker, ExitStack() as stack:
        clients = [stack.enter_context(worker.parts.client()) for _ in range(3)]
        old, young, _ = clients
        for served, client in enumerate(clients, 1):
            assert client.get().answer().status == 200
            worker.parts.access(served)  # so its connection is idle again
        assert old.rest() == b""
        assert young.get().answer().status == 200


def test_quick_drops_what_is_in_hand_and_says_so(tmp_path: Path) -> None:
    with Running(tmp_path, barrier(2, tmp_path)) as worker, worker.parts.client() as client:
        client.get()
        eventually((tmp_path / "note").exists)
        assert worker.leaves(Order.QUICK)
        assert "stopped with unfinished requests: 1" in worker.parts.errors()


def test_a_worker_with_enough_requests_asks_for_a_successor(tmp_path: Path) -> None:
    with Running(tmp_path, max_requests=2) as worker, worker.parts.client() as client:
        for _ in range(2):
            assert client.get().answer().status == 200
        eventually(lambda: worker.parts.heard(Report.RETIRE) == 1)
