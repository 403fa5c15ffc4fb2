# SPDX-License-Identifier: MIT
"""Clients of every kind, over real sockets, in one thread: the server turns when the test says so."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING

import pytest
from deadlines import PATIENCE

from prefork.http import check_head
from prefork.net.listener import open_listener, parse_bind
from prefork.status import server as servers
from prefork.status.answers import Answer
from prefork.status.server import MOST_CLIENTS, StatusServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


class Door:
    """A status server, and clients of it.

    Args:
        body: of each answer.
    """

    def __init__(self, body: bytes = b"live\n", binds: tuple[str, ...] = ("127.0.0.1:0",)) -> None:
        self.listeners = [open_listener(parse_bind(bind), 512, 0o660) for bind in binds]
        self.stop, self.end = socket.socketpair()
        self.asked: list[tuple[str, str]] = []
        self.body = body
        self.server = StatusServer(self.listeners, self._answer, "prefork", self.end.fileno())

    def _answer(self, method: str, path: str) -> Answer:
        self.asked.append((method, path))
        return Answer(check_head("200 OK", [("Content-Type", "text/plain")]), self.body)

    def client(self, data: bytes = b"", *, buffer: int = 0) -> socket.socket:
        listener = self.listeners[0].sock
        sock = socket.socket(listener.family, socket.SOCK_STREAM)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(listener.getsockname())
        sock.sendall(data)
        sock.setblocking(False)
        return sock

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            assert self.server.turn(0.05)

    def read(self, sock: socket.socket) -> bytes:
        """Return all that a client gets, to the end of the connection."""
        received = bytearray()
        ended: list[bool] = []

        def over() -> bool:
            while select.select([sock], [], [], 0)[0]:
                data = sock.recv(65536)
                received.extend(data)
                if not data:
                    ended.append(True)
                    return True
            return False

        self.turn_until(over)
        return bytes(received)

    @property
    def clients(self) -> int:
        return len(self.server._clients)

    def close(self) -> None:
        self.server.close()
        for listener in self.listeners:
            listener.close(unlink=True)
        self.stop.close()
        self.end.close()


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    yield found
    found.close()


def test_a_client_is_answered_and_its_connection_closed(door: Door) -> None:
    with door.client(GET) as sock:
        head, _, body = door.read(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nServer: prefork\r\nDate: ")
        assert b"\r\nConnection: close\r\nContent-Length: 5\r\n" in head
        assert body == b"live\n"
        assert door.asked == [("GET", "/livez")]
    door.turn_until(lambda: not door.clients)


def test_a_query_is_not_part_of_the_path(door: Door) -> None:
    with door.client(b"GET /readyz?verbose=1 HTTP/1.0\r\n\r\n") as sock:
        assert door.read(sock).startswith(b"HTTP/1.1 200 OK")
    assert door.asked == [("GET", "/readyz")]


def test_head_gets_no_body(door: Door) -> None:
    with door.client(GET.replace(b"GET", b"HEAD")) as sock:
        assert door.read(sock).endswith(b"\r\n\r\n")


def test_one_connection_brings_one_request(door: Door) -> None:
    with door.client(GET * 3) as sock:
        assert door.read(sock).count(b"HTTP/1.1 ") == 1


def test_a_body_that_nobody_wants_does_not_reset_the_answer(door: Door) -> None:
    head = b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    with door.client(head + b"x" * 100_000) as sock:  # more than is read at once
        assert door.read(sock).endswith(b"live\n")


def test_it_listens_on_several_addresses(tmp_path: object) -> None:
    both = Door(binds=("127.0.0.1:0", f"unix:{tmp_path}/status"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/status")
        sock.sendall(GET)
        sock.setblocking(False)
        assert both.read(sock).endswith(b"live\n")
    both.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (GET[:-2] + b"A: b\r\n" * 100 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused(door: Door, data: bytes, status: int) -> None:
    with door.client(data) as sock:
        assert door.read(sock).startswith(b"HTTP/1.1 %d " % status)
    assert not door.asked


def test_slow_clients_keep_nobody_waiting_and_get_no_second_chance(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has begun a request is told so."""
    monkeypatch.setattr(servers, "PATIENCE", 0.5)
    silent, half = door.client(), door.client(GET[:10])
    door.turn_until(lambda: door.clients >= 1)
    with door.client(GET) as sock:
        assert door.read(sock).endswith(b"live\n")
    assert door.read(half).startswith(b"HTTP/1.1 408 ")
    assert door.read(silent) == b""
    half.close()
    silent.close()
    door.turn_until(lambda: not door.clients)


def test_a_client_that_does_not_take_its_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered meanwhile."""
    monkeypatch.setattr(servers, "PATIENCE", 0.5)
    door = Door(b"x" * 20_000_000)
    with door.client(GET, buffer=4096) as slow:
        door.turn_until(lambda: door.asked)
        door.body = b"live\n"
        with door.client(GET) as sock:
            assert door.read(sock).endswith(b"live\n")
        door.turn_until(lambda: not door.clients)
        assert slow.fileno() >= 0
    door.close()


def test_a_large_answer_reaches_a_client_that_takes_it() -> None:
    door = Door(b"x" * 20_000_000)
    with door.client(GET) as sock:
        assert len(door.read(sock).partition(b"\r\n\r\n")[2]) == 20_000_000
    door.close()


def test_a_crowd_that_asks_nothing_keeps_no_probe_out(door: Door) -> None:
    """The one that has been here for longest goes."""
    crowd = []
    for number in range(MOST_CLIENTS + 20):
        crowd.append(door.client(GET[:-2]))
        door.turn_until(lambda number=number: door.clients == min(number + 1, MOST_CLIENTS))  # type: ignore[misc]
    with door.client(GET) as sock:
        assert door.read(sock).endswith(b"live\n")
    assert door.clients <= MOST_CLIENTS
    for sock in crowd:
        sock.close()
    door.turn_until(lambda: not door.clients)


def test_clients_that_go_away_leave_nothing(door: Door) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for data in (b"", GET[:5], GET):
        for _ in range(20):
            sock = door.client(data)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
    with door.client(GET) as sock:
        assert door.read(sock).endswith(b"live\n")
    door.turn_until(lambda: not door.clients)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_descriptors_it_rests_and_goes_on(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PAUSE", 0.2)
    listener = door.listeners[0]
    tries = []

    class Exhausted:
        def accept(self) -> object:
            tries.append(1)
            raise OSError(24, "no descriptors are left")

    exhausted: dict[int, object] = {listener.sock.fileno(): Exhausted()}
    door.server._listeners.update(exhausted)  # type: ignore[arg-type]
    with door.client(GET) as sock:
        door.turn_until(lambda: tries)
        for _ in range(3):
            door.server.turn(0.0)
        assert len(tries) == 1, "it would be asked again without end"
        door.server._listeners[listener.sock.fileno()] = listener
        assert door.read(sock).endswith(b"live\n")


def test_a_word_to_stop_comes_after_those_who_have_asked(door: Door) -> None:
    with door.client(GET) as sock:
        door.turn_until(lambda: door.clients or door.asked)
        door.stop.send(b"e")
        while door.server.turn(1.0):
            pass
        assert sock.recv(1000).endswith(b"live\n")


def test_it_sleeps_while_nobody_asks(door: Door) -> None:
    began = time.thread_time()
    assert door.server.turn(0.2)
    assert time.thread_time() - began < 0.1
