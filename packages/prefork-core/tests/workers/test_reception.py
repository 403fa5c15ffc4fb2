# SPDX-License-Identifier: MIT
"""A worker with an event loop and an HTTP of its own, in as few lines as a stranger would write."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import eventually
from serving import Living
from serving import Worker as Parts

from prefork.errors import ProtocolError
from prefork.process.scoreboard import Phase, Stage
from prefork.supervisor.messages import Order, Report
from prefork.worker import Arrival, Context, Record, StopReason, Worker

if TYPE_CHECKING:
    from pathlib import Path


class Answering(asyncio.Protocol):
    """Answers each head with its target; /slow half a second later, /never not at all."""

    def __init__(self, ctx: Context, arrival: Arrival, keeps: Any) -> None:
        self._ctx = ctx
        self._arrival = arrival
        self._keeps = keeps
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._arrival.when_late(transport.close)

    def data_received(self, data: bytes) -> None:
        self._arrival.began()
        self._received += data
        if b"\r\n\r\n" not in self._received:
            return
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
        record = self._arrival.request(method, target, version, fields)
        if target == "/taken":
            record.taken()
        if target == "/client":
            record.waiting(to_write=True)
        if target in {"/never", "/taken", "/client"}:
            return
        try:
            body = self._arrival.forwarded(fields).scheme + " " + target
        except ProtocolError as error:
            body = f"{error.status}"
        delay = 0.5 if target == "/slow" else 0.0
        asyncio.get_running_loop().call_later(delay, self._answer, record, body.encode())

    def _answer(self, record: Record, body: bytes) -> None:
        keeps = self._keeps()
        close = b"" if keeps else b"Connection: close\r\n"
        head = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (close, len(body))
        self._transport.write(head + body)
        record.end(200, len(body), [("Content-Length", str(len(body)))])
        if not keeps:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._arrival.closed()


class Looping(Worker):
    """An event loop."""

    api = 1
    asks = False
    """Whether it asks for orders itself, before each turn."""

    def run(self, ctx: Context) -> None:
        asyncio.run(self._serve(ctx))

    async def _serve(self, ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        reception = ctx.reception()
        turns = asyncio.Event()
        loop.add_reader(reception.fd, turns.set)
        reception.begin()
        while True:
            turns.clear()
            if self.asks:
                assert ctx.stopping is not StopReason.QUICK
            for arrival in reception.turn():
                make = partial(Answering, ctx, arrival, lambda: reception.keeps)
                await loop.connect_accepted_socket(make, arrival.sock)
            if reception.ended:
                break
            try:
                await asyncio.wait_for(turns.wait(), reception.within)
            except TimeoutError:
                pass
        loop.remove_reader(reception.fd)
        reception.close()


class Hasty(Looping):
    """One that says that a connection is closed before it says that its request is over."""

    async def _serve(self, ctx: Context) -> None:
        reception = ctx.reception()
        reception.begin()
        while not reception.ended:
            for arrival in reception.turn():
                record = arrival.request("GET", "/", "HTTP/1.1", ())
                arrival.sock.close()
                arrival.closed()
                record.end(0, 0, outcome="aborted")
                record.end(200, 1)
            await asyncio.sleep(0.01)
        reception.close()


class Curious(Looping):
    """One that wants to know first."""

    asks = True


class Running(Living):
    """The worker in a process of its own."""

    kind: type[Looping] = Looping

    def __init__(self, folder: Path, at_once: int = 8, **settings: Any) -> None:
        settings = {"keepalive": 60.0, **settings}
        super().__init__(Parts(print, folder, settings=settings, at_once=at_once), self.kind)

    def in_hand(self, target: str) -> bool:
        """Return whether a request can be seen on the scoreboard."""
        return any(current.target == target for current in self.parts.slot.current())


class RunningHasty(Running):
    """The one that closes first, likewise."""

    kind = Hasty


class RunningCurious(Running):
    """The one that wants to know first, likewise."""

    kind = Curious


def test_requests_are_counted_and_logged(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        for _ in range(3):
            assert client.get("/a").answer().body == b"http /a"
        assert worker.parts.access(3) == ["ok 200 7 GET /a HTTP/1.1"] * 3
        eventually(lambda: worker.parts.slot.requests == 3)


def test_more_requests_than_records_are_counted_too(tmp_path: Path) -> None:
    with Running(tmp_path, at_once=1) as worker, ExitStack() as stack:
        clients = [stack.enter_context(worker.parts.client()) for _ in range(3)]
        for client in clients:
            client.get("/slow")
        assert [client.answer().status for client in clients] == [200] * 3
        eventually(lambda: worker.parts.slot.requests == 3)


def test_a_request_in_hand_can_be_seen(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get("/never")
        eventually(lambda: worker.in_hand("/never"))
        assert [current.client for current in worker.parts.slot.current()] == ["127.0.0.1"]


@pytest.mark.parametrize(("target", "phase"), [("/taken", Phase.TAKEN), ("/client", Phase.WRITING)])
def test_what_the_worker_says_of_a_request_can_be_seen(tmp_path: Path, target: str, phase: Phase) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get(target)
        eventually(lambda: [current.phase for current in worker.parts.slot.current()] == [phase])


def test_a_request_that_ends_behind_its_connection_counts_and_leaves_nothing_idle(
    tmp_path: Path,
) -> None:
    with RunningHasty(tmp_path) as worker, worker.parts.client() as client:
        client.get()
        assert worker.parts.access(1) == ["aborted - 0 GET / HTTP/1.1"]
        eventually(lambda: worker.parts.slot.requests == 1)
        before = worker.parts.slot.due
        eventually(lambda: worker.parts.slot.due > before)  # it has turned since
        assert (worker.parts.slot.connections, worker.parts.slot.idle) == (0, 0)


def test_one_turn_takes_what_has_come_meanwhile(tmp_path: Path) -> None:
    parts = Parts(print, tmp_path, settings={"bind": [f"unix:{tmp_path}/socket"]})
    reception = parts.make_context(os.getppid()).reception()
    reception.begin()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(parts.client())
        arrivals = reception.turn()
        for arrival in arrivals:
            arrival.sock.close()
            arrival.closed()
    reception.close()
    assert len(arrivals) == 3


def test_the_word_of_a_trusted_proxy_counts(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/", "X-Forwarded-Proto: https").answer().body == b"https /"
    with Running(tmp_path, forwarded_allow_ips=("192.0.2.1",)) as worker, worker.parts.client() as client:
        assert client.get("/", "X-Forwarded-Proto: https").answer().body == b"http /"


def test_a_proxy_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    contradiction = ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off")
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/", *contradiction).answer().body == b"400"


def test_a_field_with_an_underscore_is_refused_if_it_is_to_be(tmp_path: Path) -> None:
    with Running(tmp_path, header_map="refuse") as worker, worker.parts.client() as client:
        assert client.get("/", "X_Field: 1").answer().body == b"400"


def test_half_a_head_is_dropped_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, header_timeout=0.2) as worker, worker.parts.client() as client:
        assert client.send(b"GET / HTT").rest() == b""


def test_an_idle_connection_is_closed_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, keepalive=0.2) as worker, worker.parts.client() as client:
        assert client.get().answer().status == 200
        assert client.rest() == b""


def test_a_connection_without_a_word_is_closed_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, keepalive=0.2) as worker, worker.parts.client() as client:
        assert client.rest() == b""


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_stop_that_the_worker_class_has_seen_first_is_one(tmp_path: Path, order: Order) -> None:
    """Reading an order empties the stop descriptor."""
    with RunningCurious(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/a").answer().status == 200
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
        eventually(lambda: worker.in_hand("/slow"))
        assert worker.leaves(order)
        assert idle.rest() == b""
        answer = busy.answer()
        assert (answer.status, answer.fields["Connection"]) == (200, "close")


def test_a_client_that_was_just_answered_may_ask_once_more_when_the_worker_stops(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get().answer().status == 200
        worker.parts.order(Order.LEAVE)
        eventually(lambda: worker.parts.slot.stage is Stage.STOPPING)
        answer = client.get().answer()
        assert (answer.status, answer.fields["Connection"]) == (200, "close")


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
        eventually(lambda: worker.in_hand("/slow"))
        queued.get()
        assert worker.leaves(Order.DRAIN)
        assert (first.answer().status, queued.answer().status) == (200, 200)


def test_at_the_limit_the_connection_that_was_idle_for_longest_makes_room(tmp_path: Path) -> None:
    with Running(tmp_path, worker_connections=2) as worker, ExitStack() as stack:
        clients = [stack.enter_context(worker.parts.client()) for _ in range(3)]
        old, young, _ = clients
        for served, client in enumerate(clients, 1):
            assert client.get().answer().status == 200
            worker.parts.access(served)  # so its connection is idle again
        assert old.rest() == b""
        assert young.get().answer().status == 200


def test_a_request_that_does_not_end_is_given_up_at_the_end_of_the_time(tmp_path: Path) -> None:
    with Running(tmp_path, graceful_timeout=0.2) as worker, worker.parts.client() as client:
        client.get("/never")
        eventually(lambda: worker.in_hand("/never"))
        assert worker.leaves(Order.LEAVE)
        assert "stopped with unfinished requests: 1" in worker.parts.errors()


def test_quick_drops_what_is_in_hand(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get("/never")
        eventually(lambda: worker.in_hand("/never"))
        assert worker.leaves(Order.QUICK)


def test_a_worker_with_enough_requests_asks_for_a_successor(tmp_path: Path) -> None:
    with Running(tmp_path, max_requests=2) as worker, worker.parts.client() as client:
        for _ in range(2):
            assert client.get().answer().status == 200
        eventually(lambda: worker.parts.heard(Report.RETIRE) == 1)


def test_each_response_is_the_last_one_when_the_server_is_about_to_stop(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, ExitStack() as stack:
        worker.parts.slot.part()

        def last() -> bool:
            client = stack.enter_context(worker.parts.client())
            return client.get().answer().fields["Connection"] == "close"

        eventually(last)


def test_a_loop_that_turns_is_due_soon(tmp_path: Path) -> None:
    with Running(tmp_path) as worker:
        before = worker.parts.slot.due
        eventually(lambda: worker.parts.slot.due > before)
