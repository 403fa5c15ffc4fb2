# SPDX-License-Identifier: MIT
"""A worker with an event loop over prefork's HTTP, in as few lines as a stranger would write."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import eventually
from raw_client import chunked, request
from serving import Living
from serving import Worker as Parts

from prefork.errors import ClientDisconnected
from prefork.hooks import Hooks
from prefork.http.forwarded import Forwarded
from prefork.process.scoreboard import Phase
from prefork.supervisor.messages import Order, Report
from prefork.worker import Context, Exchange, StopReason, Worker

if TYPE_CHECKING:
    from pathlib import Path

MUCH = 20 << 20
"""Bytes of a response that is more than kernel and worker hold for a client."""


class Application:
    """Answers each path in a way of its own, and leaves notes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.path.strip("/") or "hello"
        changed = asyncio.Event()
        exchange.wake = changed.set
        await getattr(self, path)(exchange, changed)

    async def hello(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        exchange.start("200 OK", [])
        exchange.finish(b"hello")

    async def scheme(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        forwarded: Forwarded = exchange.forwarded()
        exchange.start("200 OK", [])
        exchange.finish(f"{forwarded.scheme} {exchange.peer[0]} {exchange.server}".encode())

    async def echo(self, exchange: Exchange, changed: asyncio.Event) -> None:
        exchange.start("200 OK", [])
        while (piece := exchange.read(10000)) != b"":
            if piece is None:
                changed.clear()
                await changed.wait()
            else:
                exchange.write(piece)
        exchange.finish()

    async def head_first(self, exchange: Exchange, changed: asyncio.Event) -> None:
        exchange.start("200 OK", [])
        exchange.write(b"")
        while (piece := exchange.read()) is None:
            changed.clear()
            await changed.wait()
        exchange.write(b"")
        exchange.finish(piece)

    async def slow(self, exchange: Exchange, changed: asyncio.Event) -> None:
        (self.folder / "begun").touch()
        await asyncio.sleep(0.5)
        await self.hello(exchange, changed)

    async def never(self, _exchange: Exchange, changed: asyncio.Event) -> None:
        (self.folder / "begun").touch()
        while True:
            changed.clear()
            await changed.wait()

    async def gone(self, exchange: Exchange, changed: asyncio.Event) -> None:
        (self.folder / "begun").touch()
        while not exchange.is_gone:
            changed.clear()
            await changed.wait()
        (self.folder / "gone").touch()
        exchange.start("200 OK", [])
        exchange.finish(b"hello")

    async def much(self, exchange: Exchange, changed: asyncio.Event) -> None:
        exchange.start("200 OK", [])
        left = MUCH
        try:
            while left:
                exchange.write(bytes(1 << 16))
                left -= 1 << 16
                while exchange.is_behind:
                    (self.folder / "behind").touch()
                    changed.clear()
                    await changed.wait()
        except OSError as error:
            (self.folder / "error").write_text(str(error))
            raise
        exchange.finish()

    async def file(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        exchange.start("200 OK", [("Content-Length", str((self.folder / "file").stat().st_size))])
        exchange.finish_with_file((self.folder / "file").open("rb"))

    async def error(self, _exchange: Exchange, _changed: asyncio.Event) -> None:
        raise ZeroDivisionError

    async def late_error(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        exchange.start("200 OK", [])
        exchange.write(b"hel")
        raise ZeroDivisionError

    async def exit(self, _exchange: Exchange, _changed: asyncio.Event) -> None:
        raise SystemExit(3)

    async def long(self, exchange: Exchange, changed: asyncio.Event) -> None:
        exchange.extend_deadline(100.0)
        await self.never(exchange, changed)

    async def taken(self, exchange: Exchange, changed: asyncio.Event) -> None:
        sock, early = exchange.take_over()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"early " + early + b"\n")
        await loop.sock_sendall(sock, await loop.sock_recv(sock, 100))
        sock.close()
        exchange.left()
        assert not changed.is_set()

    async def garbage(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        """Answer how much of what was answered before is only found by who looks for garbage."""
        before = [each for each in gc.get_objects() if type(each) is type(exchange)]
        exchange.start("200 OK", [])
        exchange.finish(str(len(before)).encode())
        with pytest.raises(ClientDisconnected, match="has ended"):
            exchange.start("200 OK", [])
        with pytest.raises(ClientDisconnected, match="has ended"):
            exchange.write(b"more")

    async def late(self, exchange: Exchange, changed: asyncio.Event) -> None:
        await self.hello(exchange, changed)
        raise ZeroDivisionError("behind it")

    async def taken_and_failed(self, exchange: Exchange, _changed: asyncio.Event) -> None:
        sock, _ = exchange.take_over()
        sock.close()
        exchange.left(ZeroDivisionError("on purpose"))


class Looping(Worker):
    """An event loop."""

    api = 1
    begins = True
    """Whether its application starts one day."""
    asks = False
    """Whether it asks for orders itself, before each turn."""

    def run(self, ctx: Context) -> None:
        asyncio.run(self._serve(ctx))

    async def _serve(self, ctx: Context) -> None:
        loop = asyncio.get_running_loop()
        turns = asyncio.Event()
        tasks = set()

        async def life(exchange: Exchange) -> None:
            try:
                await ctx.app(exchange)
            except BaseException as error:  # noqa: BLE001 (sys.exit() must not end the worker)
                exchange.fail(error)

        def answer(exchange: Exchange) -> None:
            task = loop.create_task(life(exchange))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        exchanges = ctx.exchanges(answer, lambda seconds: loop.call_later(seconds, turns.set))
        loop.add_reader(exchanges.fd, turns.set)
        before = exchanges.stops
        if self.begins:
            exchanges.begin()
        while True:
            turns.clear()
            if self.asks:
                assert ctx.stopping is not StopReason.QUICK
            exchanges.turn()
            if exchanges.ended:
                assert exchanges.stops
                assert not before
                break
            try:
                await asyncio.wait_for(turns.wait(), exchanges.within)
            except TimeoutError:
                pass
        loop.remove_reader(exchanges.fd)
        exchanges.close()


class Curious(Looping):
    """One that wants to know first."""

    asks = True


class Starting(Looping):
    """One whose application takes its time to start."""

    begins = False


class Running(Living):
    """The worker in a process of its own."""

    kind: type[Looping] = Looping

    def __init__(self, folder: Path, at_once: int = 8, hooks: Hooks | None = None, **settings: Any) -> None:
        self.folder = folder
        settings = {"keepalive": 60.0, **settings}
        parts = Parts(Application(folder), folder, settings=settings, at_once=at_once, hooks=hooks)
        super().__init__(parts, self.kind, begins=self.kind.begins)

    def left(self, note: str) -> bool:
        """Return whether the application has left a note."""
        return (self.folder / note).exists()


class RunningCurious(Running):
    """The one that wants to know first, likewise."""

    kind = Curious


class RunningStarting(Running):
    """The one that takes its time, likewise."""

    kind = Starting


def test_requests_are_answered_counted_and_logged(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        for _ in range(3):
            assert client.get().answer().body == b"hello"
        assert worker.parts.access(3) == ["ok 200 5 GET / HTTP/1.1"] * 3
        eventually(lambda: worker.parts.slot.requests == 3)


def test_a_head_goes_out_before_there_is_a_body(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(b"POST /head_first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.read_head().startswith(b"HTTP/1.1 200 OK\r\n")
        client.send(b"2\r\nab\r\n0\r\n\r\n")
        assert client.read(12) == b"2\r\nab\r\n0\r\n\r\n"
        assert worker.parts.access(1) == ["ok 200 2 POST /head_first HTTP/1.1"]


def test_requests_that_came_together_are_answered_in_order(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(request("GET", "/slow") + request("GET", "/") + request("GET", "/scheme"))
        address = worker.parts.address
        assert [client.answer().body for _ in range(3)] == [
            b"hello",
            b"hello",
            f"http 127.0.0.1 {address}".encode(),
        ]


def test_one_that_waits_keeps_no_other_waiting(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as one, worker.parts.client() as other:
        one.get("/never")
        eventually(lambda: worker.left("begun"))
        assert other.get().answer().body == b"hello"


def test_more_requests_than_records_are_served_and_counted(tmp_path: Path) -> None:
    with Running(tmp_path, at_once=1) as worker, ExitStack() as stack:
        clients = [stack.enter_context(worker.parts.client()) for _ in range(3)]
        for client in clients:
            client.get("/slow")
        assert [client.answer().status for client in clients] == [200] * 3
        eventually(lambda: worker.parts.slot.requests == 3)


@pytest.mark.parametrize("size", [1, 50_000, 70_000, 3 << 20])
def test_a_body_arrives_whole(tmp_path: Path, size: int) -> None:
    body = os.urandom(size)
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        for begin in range(0, size, 1 << 16):
            client.send(body[begin : begin + (1 << 16)])
        assert client.answer().body == body
        assert client.get().answer().body == b"hello"


def test_a_body_in_chunks_arrives_while_it_is_sent(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"2\r\nab\r\n")
        head = client.send(chunked([b"c" * 10])).answer()
        assert head.body == b"ab" + b"c" * 10


def test_a_chunked_body_is_answered_while_it_is_sent(tmp_path: Path) -> None:
    """Nothing of it is held back until more is there."""
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        client.read_head()
        assert client.read(7) == b"2\r\nab\r\n"
        client.send(b"2\r\ncd\r\n")
        assert client.read(7) == b"2\r\ncd\r\n"
        client.send(b"0\r\n\r\n")
        assert client.read(5) == b"0\r\n\r\n"


def test_a_client_that_waits_for_it_is_told_to_go_on(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.send(b"ab").answer().body == b"ab"


HALF_A_BODY = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(70000)


def test_a_body_that_does_not_come_is_the_clients_fault(tmp_path: Path) -> None:
    with Running(tmp_path, body_timeout=0.2, body_memory=0) as worker, worker.parts.client() as client:
        answer = client.send(HALF_A_BODY).answer()
        assert not answer.whole
        assert worker.parts.access(1)[0].startswith("timeout 200 ")


def test_a_client_that_goes_away_in_its_body_is_an_error_for_the_application(tmp_path: Path) -> None:
    with Running(tmp_path, body_memory=0) as worker:
        with worker.parts.client() as client:
            client.send(HALF_A_BODY).finish_sending()
            client.rest()
        assert worker.parts.access(1)[0].startswith("aborted 200 ")


@pytest.mark.parametrize("before", [0, 1], ids=["first request", "next request"])
def test_the_application_hears_that_its_client_has_gone(tmp_path: Path, before: int) -> None:
    with Running(tmp_path) as worker:
        with worker.parts.client() as client:
            for _ in range(before):
                assert client.get().answer().status == 200
            client.get("/gone")
            eventually(lambda: worker.left("begun"))
        eventually(lambda: worker.left("gone"))


def test_a_client_that_sends_no_more_gets_its_answer(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/gone").finish_sending().answer().body == b"hello"


def test_a_slow_reader_makes_its_application_wait_and_no_other(tmp_path: Path) -> None:
    with (
        Running(tmp_path) as worker,
        worker.parts.client(receive_buffer=4096) as slow,
        worker.parts.client() as other,
    ):
        slow.get("/much")
        eventually(lambda: worker.left("behind"))
        assert other.get().answer().body == b"hello"
        assert slow.answer().body == bytes(MUCH)


def test_a_client_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    with Running(tmp_path, write_timeout=0.2) as worker, worker.parts.client(receive_buffer=4096) as client:
        client.get("/much")
        assert worker.parts.access(1)[0].startswith("timeout 200 ")
        assert (tmp_path / "error").read_text() == "the client takes the response too slowly"


def test_a_client_that_breaks_the_connection_is_an_error_for_the_application(tmp_path: Path) -> None:
    with Running(tmp_path) as worker:
        client = worker.parts.client(receive_buffer=4096)
        client.get("/much")
        eventually(lambda: worker.left("behind"))
        client.reset()
        assert worker.parts.access(1)[0].startswith("aborted 200 ")


@pytest.mark.parametrize("size", [0, 5, MUCH])
def test_a_file_is_sent_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/file").answer().body == bytes(size)
        assert client.send(request("HEAD", "/file")).answer("HEAD").fields["Content-Length"] == str(size)
        assert client.get().answer().body == b"hello"


@pytest.mark.parametrize("path", ["/error", "/exit"])
def test_an_application_that_raises_is_a_500(tmp_path: Path, path: str) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get(path).answer().status == 500
        eventually(lambda: worker.parts.slot.errors == 1)
        assert f"error in the application: GET {path}" in worker.parts.errors()
        assert worker.parts.access(1)[0].startswith("error 500 ")


def test_nothing_of_what_was_answered_is_left(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        for _ in range(20):
            assert client.get().answer().status == 200
        assert int(client.get("/garbage").answer().body) < 5
        assert client.get().answer().body == b"hello"


def test_what_an_application_raises_behind_its_response_is_logged(tmp_path: Path) -> None:
    """Frameworks answer an error with a page of their own, and raise it then."""
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/late").answer().body == b"hello"
        eventually(lambda: "ZeroDivisionError: behind it" in worker.parts.errors())
        assert "behind its response: GET /late" in worker.parts.errors()
        assert client.get().answer().status == 200


def test_a_response_that_has_begun_visibly_breaks_off(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        answer = client.get("/late_error").answer()
        assert (answer.body, answer.whole) == (b"hel", False)


def test_the_word_of_a_trusted_proxy_counts(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        assert client.get("/scheme", "X-Forwarded-Proto: https").answer().body.startswith(b"https ")
        contradiction = ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off")
        assert client.get("/scheme", *contradiction).answer().status == 400
        assert worker.parts.access(2)[1].startswith("rejected 400 ")


def test_a_connection_can_be_taken_over(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.send(request("GET", "/taken") + b"bird")
        assert client.read(11) == b"early bird\n"
        assert [current.phase for current in worker.parts.slot.current()] == [Phase.TAKEN]
        client.send(b"echo")
        assert client.rest() == b"echo"
        assert worker.parts.access(1) == ["ok 101 0 GET /taken HTTP/1.1"]
        eventually(lambda: worker.parts.slot.busy == 0)


def test_what_an_application_raises_on_a_connection_that_it_has_taken_is_logged(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get("/taken_and_failed")
        assert client.rest() == b""
        assert worker.parts.access(1) == ["error 101 0 GET /taken_and_failed HTTP/1.1"]
        assert "ZeroDivisionError: on purpose" in worker.parts.errors()


def test_a_request_may_ask_to_be_let_alone(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get("/long")
        eventually(lambda: worker.left("begun"))
        assert worker.parts.slot.current()[0].allowed > time.monotonic() + 50


def test_hooks_of_requests_run(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def note(what: str) -> None:
        with seen.open("a") as file:
            file.write(what + "\n")

    hooks = Hooks(
        pre_request=lambda _worker, req: note(f"pre {req.path}"),
        post_request=lambda _worker, req, environ, resp: note(f"post {req.path} {environ} {resp.status}"),
    )
    with Running(tmp_path, hooks=hooks) as worker, worker.parts.client() as client:
        assert client.get().answer().status == 200
        worker.parts.access(1)
        assert seen.read_text().splitlines() == ["pre /", "post / {} 200 OK"]


# Deadlines and limits of idle connections


@pytest.mark.parametrize("sent", [b"GET / HTT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"])
def test_half_a_request_costs_no_more_than_its_time(tmp_path: Path, sent: bytes) -> None:
    with Running(tmp_path, header_timeout=0.2, body_timeout=0.2) as worker, worker.parts.client() as client:
        assert client.send(sent).answer().status == 408


def test_an_idle_connection_is_closed_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, keepalive=0.2) as worker, worker.parts.client() as client:
        assert client.get("/slow").answer().status == 200
        assert client.rest() == b""


def test_at_the_limit_the_connection_that_was_idle_for_longest_makes_room(tmp_path: Path) -> None:
    with Running(tmp_path, worker_connections=2) as worker, ExitStack() as stack:
        clients = [stack.enter_context(worker.parts.client()) for _ in range(3)]
        old, young, _ = clients
        for served, client in enumerate(clients, 1):
            assert client.get().answer().status == 200
            worker.parts.access(served)  # so its connection is idle again
        assert old.rest() == b""
        assert young.get().answer().status == 200


def test_requests_in_hand_do_not_count_as_idle(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as busy, worker.parts.client() as idle:
        idle.get().answer()
        busy.get("/never")
        eventually(lambda: (worker.parts.slot.connections, worker.parts.slot.idle) == (2, 1))


# Stopping


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_stop_closes_idle_connections_and_finishes_requests(tmp_path: Path, order: Order) -> None:
    with (
        Running(tmp_path, graceful_timeout=30.0) as worker,
        worker.parts.client() as idle,
        worker.parts.client() as busy,
    ):
        assert idle.get().answer().status == 200
        busy.get("/slow")
        eventually(lambda: worker.left("begun"))
        assert worker.leaves(order)
        assert idle.rest() == b""
        answer = busy.answer()
        assert (answer.status, answer.fields["Connection"]) == (200, "close")


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN])
def test_a_stop_that_the_worker_class_has_seen_first_is_one(tmp_path: Path, order: Order) -> None:
    """Reading an order empties the stop descriptor."""
    with RunningCurious(tmp_path) as worker, worker.parts.client() as client:
        assert client.get().answer().status == 200
        assert worker.leaves(order)


@pytest.mark.parametrize("order", [Order.LEAVE, Order.DRAIN, Order.QUICK])
def test_a_stop_before_it_has_begun_ends_it_at_once(tmp_path: Path, order: Order) -> None:
    with RunningStarting(tmp_path, graceful_timeout=60.0) as worker:
        assert worker.leaves(order)


def test_what_is_queued_at_the_end_is_served_whatever_the_limit(tmp_path: Path) -> None:
    with (
        Running(tmp_path, worker_connections=1) as worker,
        worker.parts.client() as first,
        worker.parts.client() as queued,
    ):
        first.get("/slow")
        eventually(lambda: worker.left("begun"))
        queued.get()
        assert worker.leaves(Order.DRAIN)
        assert (first.answer().status, queued.answer().status) == (200, 200)


def test_a_request_that_does_not_end_is_given_up_at_the_end_of_the_time(tmp_path: Path) -> None:
    with Running(tmp_path, graceful_timeout=0.2) as worker, worker.parts.client() as client:
        client.get("/never")
        eventually(lambda: worker.left("begun"))
        assert worker.leaves(Order.LEAVE)
        assert "stopped with unfinished requests: 1" in worker.parts.errors()


def test_quick_drops_what_is_in_hand(tmp_path: Path) -> None:
    with Running(tmp_path) as worker, worker.parts.client() as client:
        client.get("/never")
        eventually(lambda: worker.left("begun"))
        assert worker.leaves(Order.QUICK)


def test_a_worker_with_enough_requests_asks_for_a_successor(tmp_path: Path) -> None:
    with Running(tmp_path, max_requests=2) as worker, worker.parts.client() as client:
        for _ in range(2):
            assert client.get().answer().status == 200
        eventually(lambda: worker.parts.heard(Report.RETIRE) == 1)


def test_a_loop_that_turns_is_due_soon(tmp_path: Path) -> None:
    with Running(tmp_path) as worker:
        before = worker.parts.slot.due
        eventually(lambda: worker.parts.slot.due > before)
