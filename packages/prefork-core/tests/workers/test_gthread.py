# SPDX-License-Identifier: MIT
"""Threads, one poll set: what differs from the loop with one thread (`test_loop.py`)."""

from __future__ import annotations

import selectors
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from serving import Serving

from prefork.process.scoreboard import Stage
from prefork.supervisor.messages import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from raw_client import Client

GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


class Gate:
    """An application that holds requests to /hold until they are let go, and answers with its path."""

    def __init__(self) -> None:
        self.held = threading.Semaphore(0)
        self.holding: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/hold"):
            self.holding.append(path)
            assert self.held.acquire(timeout=PATIENCE)
        body = f"{path} {environ['wsgi.multithread']}".encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


def threads(app: Callable[..., Any], folder: Path, count: int = 2, **settings: Any) -> Serving:
    return Serving(app, folder, keepalive=75.0, settings={"threads": count, **settings})


def test_requests_are_answered_on_a_connection_that_stays_open(tmp_path: Path) -> None:
    with threads(Gate(), tmp_path) as server, server.client() as client:
        for number in range(200):
            client.send(GET % b"/%d" % number)
            assert client.answer().body == b"/%d True" % number


def test_a_request_that_takes_long_does_not_hold_up_others(tmp_path: Path) -> None:
    gate = Gate()
    with threads(gate, tmp_path) as server, server.client() as slow, server.client() as quick:
        slow.send(GET % b"/hold")
        eventually(lambda: gate.holding)
        for _ in range(50):
            quick.send(GET % b"/quick")
            assert quick.answer().body == b"/quick True"
        gate.held.release()
        assert slow.answer().body == b"/hold True"


def test_siblings_see_how_many_threads_are_in_long_requests(tmp_path: Path) -> None:
    """The first loses the lead, the second is expected to take long: both count."""
    gate = Gate()
    with threads(gate, tmp_path, 3) as server:
        clients = [server.client(), server.client()]
        clients[0].send(GET % b"/hold")
        eventually(lambda: server.slot.away == 1)
        clients[1].send(GET % b"/hold")
        eventually(lambda: server.slot.away == 2)
        for _ in clients:
            gate.held.release()
        assert [client.answer().body for client in clients] == [b"/hold True"] * 2
        eventually(lambda: server.slot.away == 0)
        for client in clients:
            client.close()


def test_as_many_requests_run_at_once_as_there_are_threads_and_the_next_waits(tmp_path: Path) -> None:
    gate = Gate()
    with threads(gate, tmp_path, 3) as server:
        clients = [server.client() for _ in range(4)]
        for client in clients:
            client.send(GET % b"/hold")
        eventually(lambda: len(gate.holding) == 3)
        eventually(lambda: server.slot.busy == 3)
        for _ in clients:
            gate.held.release()
        assert [client.answer().body for client in clients] == [b"/hold True"] * 4
        for client in clients:
            client.close()


def test_while_all_threads_are_busy_what_arrives_is_read_and_answered_in_its_turn(tmp_path: Path) -> None:
    gate = Gate()
    with threads(gate, tmp_path) as server:
        waiting = [server.client() for _ in range(5)]
        for client in waiting:  # their connections are known before the threads are gone
            client.send(GET % b"/first")
            assert client.answer().body == b"/first True"
        busy = [server.client() for _ in range(2)]
        for client in busy:
            client.send(GET % b"/hold")
        eventually(lambda: len(gate.holding) == 2)
        for client in waiting:
            client.send(GET % b"/second")
        gate.held.release()
        assert [client.answer().body for client in waiting] == [b"/second True"] * 5
        gate.held.release()
        assert [client.answer().body for client in busy] == [b"/hold True"] * 2
        for client in (*waiting, *busy):
            client.close()


def test_clients_that_keep_asking_do_not_starve_new_ones(tmp_path: Path) -> None:
    """20 clients ask again at once, 2 threads: each of 20 that come later is served too."""
    over = threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(0.003)  # what makes the request a long one
        start_response("200 OK", [("Content-Length", "0")])
        return []

    def ask(client: Client) -> None:
        while not over.is_set():
            client.send(GET % b"/")
            client.answer()

    with threads(app, tmp_path) as server:
        asking = [threading.Thread(target=ask, args=(server.client(),)) for _ in range(20)]
        for thread in asking:
            thread.start()
        eventually(lambda: server.slot.requests > 100)
        try:
            for _ in range(20):
                with server.client() as client:
                    before = server.slot.requests
                    client.send(GET % b"/new")
                    assert client.answer().status == 200
                    assert server.slot.requests - before < 100
        finally:
            over.set()
            for thread in asking:
                thread.join()


def test_nobody_is_served_twice_while_another_waits(tmp_path: Path) -> None:
    """One client asks for all 20 connections, so nothing but the worker's order decides who comes next."""
    served: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(0.003)  # what makes the request a long one
        start_response("200 OK", [("Content-Length", str(len(environ["PATH_INFO"])))])
        return [environ["PATH_INFO"].encode()]

    with threads(app, tmp_path) as server, selectors.DefaultSelector() as selector:
        for number in range(20):
            client = server.client().send(GET % b"/%d" % number)
            selector.register(client.sock, selectors.EVENT_READ, client)
        while len(served) < 400:
            for key, _ in selector.select(PATIENCE):
                served.append(key.data.answer().body)
                key.data.send(GET % served[-1])
        # The first rounds are those of new connections, which come before old ones every second time.
        rounds = served[200:]
        counts = [rounds.count(b"/%d" % number) for number in range(20)]
        assert max(counts) - min(counts) <= 2
        for key in list(selector.get_map().values()):
            key.data.close()


def uploads(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = str(len(_environ["wsgi.input"].read())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_slow_uploads_hold_no_thread(tmp_path: Path) -> None:
    size = 1_000_000
    with threads(uploads, tmp_path) as server:
        slow = [server.client().send(POST % size, b"x" * (size // 2)) for _ in range(10)]
        eventually(lambda: server.slot.idle == 10)
        with server.client() as quick:
            for _ in range(20):
                assert quick.send(POST % 3, b"abc").answer().body == b"3"
        for client in slow:
            client.send(b"x" * (size - size // 2))
        assert [client.answer().body for client in slow] == [b"%d" % size] * 10
        for client in slow:
            client.close()


@pytest.mark.parametrize("end", ["answered", "left", "reset", "too late"])
def test_the_room_of_an_upload_is_free_again(tmp_path: Path, end: str) -> None:
    """There is room for eight of these. Whatever becomes of a hundred, the next are held too."""
    size = 100_000
    settings: dict[str, Any] = {"body_memory": size * 8, "body_timeout": 0.3}
    with threads(uploads, tmp_path, **settings) as server:
        for _ in range(10):
            clients = [server.client().send(POST % size, b"x" * (size // 2)) for _ in range(8)]
            eventually(lambda: server.slot.idle == 8)
            assert server.slot.busy == 0
            for client in clients:
                if end == "reset":
                    client.reset()
                    continue
                if end == "answered":
                    assert client.send(b"x" * (size // 2)).answer().body == b"%d" % size
                elif end == "too late":
                    assert client.answer().status == 408
                client.close()
            eventually(lambda: server.slot.connections == 0)


def test_an_upload_without_room_is_read_by_the_application(tmp_path: Path) -> None:
    size = 100_000
    with threads(uploads, tmp_path, body_memory=size * 8) as server:
        held = [server.client().send(POST % size, b"x") for _ in range(8)]
        eventually(lambda: server.slot.idle == 8)
        with server.client() as ninth:
            ninth.send(POST % size, b"x")
            eventually(lambda: server.slot.busy == 1)
            assert ninth.send(b"x" * (size - 1)).answer().body == b"%d" % size
        for client in held:
            assert client.send(b"x" * (size - 1)).answer().body == b"%d" % size
            client.close()


def test_at_the_limit_of_connections_the_one_that_is_idle_for_longest_makes_room(tmp_path: Path) -> None:
    with threads(Gate(), tmp_path, worker_connections=3) as server:
        old = [server.client().send(GET % b"/%d" % number) for number in range(3)]
        for number, client in enumerate(old):
            assert client.answer().body == b"/%d True" % number
        assert old[0].send(GET % b"/again").answer().body == b"/again True"
        with server.client() as new:
            assert new.send(GET % b"/new").answer().body == b"/new True"
        assert old[1].rest() == b""
        for client in (old[0], old[2]):
            assert client.send(GET % b"/last").answer().body == b"/last True"
        for client in old:
            client.close()


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with threads(Gate(), tmp_path, 4) as server, server.client() as client:
        client.send(b"".join(GET % b"/%d" % number for number in range(100)))
        assert [client.answer().body for _ in range(100)] == [b"/%d True" % n for n in range(100)]


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_a_worker_that_must_stop_finishes_what_its_threads_have(tmp_path: Path, order: Order) -> None:
    gate = Gate()
    with threads(gate, tmp_path) as server, server.client() as client, server.client() as idle:
        idle.send(GET % b"/idle")
        assert idle.answer().body == b"/idle True"
        client.send(GET % b"/hold")
        eventually(lambda: gate.holding)
        server.order(order)
        assert idle.rest() == b""
        gate.held.release()
        answer = client.answer()
        assert (answer.body, answer.fields["Connection"]) == (b"/hold True", "close")
        server.ended()


def test_a_client_that_resets_while_its_request_runs_harms_nobody(tmp_path: Path) -> None:
    gate = Gate()
    with threads(gate, tmp_path) as server, server.client() as other:
        for _ in range(20):
            with server.client() as client:
                client.send(GET % b"/hold")
                eventually(lambda: gate.holding)
                client.reset()
            gate.holding.clear()
            gate.held.release()
            other.send(GET % b"/other")
            assert other.answer().body == b"/other True"
        eventually(lambda: server.slot.connections == 1)


@pytest.mark.parametrize("order", [Order.DRAIN, Order.LEAVE])
def test_who_was_told_before_the_stop_that_its_connection_stays_may_ask_once_more(
    tmp_path: Path, order: Order
) -> None:
    """The stop came between the head of its answer and the end of it."""
    go_on = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        yield b"o"
        assert environ["PATH_INFO"] == "/next" or go_on.wait(PATIENCE)
        yield b"k"

    with threads(app, tmp_path) as server, server.client() as client:
        client.send(GET % b"/first")
        assert b"Connection" not in client.read_head()
        server.order(order)
        eventually(lambda: server.slot.stage is Stage.STOPPING)
        go_on.set()
        assert client.read(2) == b"ok"
        eventually(lambda: server.slot.idle == 1)
        client.send(GET % b"/next")
        assert client.answer().fields["Connection"] == "close"
        client.close()
        server.ended()


def test_half_a_request_and_idle_connections_cost_no_thread(tmp_path: Path) -> None:
    with threads(Gate(), tmp_path) as server:
        halves = [server.client() for _ in range(50)]
        for half in halves:
            half.send(b"GET /half HTTP/1.1\r\n")
        with server.client() as client:
            client.send(GET % b"/whole")
            assert client.answer().body == b"/whole True"
        for half in halves:
            half.send(b"Host: a\r\n\r\n")
            assert half.answer().body == b"/half True"
            half.close()


def test_a_thread_that_dies_ends_the_worker(tmp_path: Path) -> None:
    """It may have had the lead, and nobody would serve any more."""

    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise KeyboardInterrupt

    def life() -> None:
        with threads(app, tmp_path) as server, server.client() as client:
            client.send(GET % b"/")
            eventually(lambda: not server.running)

    with pytest.raises(KeyboardInterrupt):
        life()
