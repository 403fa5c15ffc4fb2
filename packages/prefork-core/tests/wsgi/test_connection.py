# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import threading
import time
from math import inf

import pytest
from deadlines import PATIENCE
from raw_client import chunked, request

from prefork.errors import ClientDisconnected, ClientStalled, ProtocolError
from prefork.http import Limits
from prefork.net.stream import block
from prefork.wsgi.connection import AWAITS_FIRST_BYTE, AWAITS_HEAD, PENDING_LIMIT, Connection
from prefork.wsgi.environ import Peer


class Worker:
    """The limits of a connection, and what it told."""

    closes_at_once = True
    wait = staticmethod(block)

    def __init__(
        self, body_timeout: float = PATIENCE, write_timeout: float = PATIENCE, min_rate: int = 100
    ) -> None:
        self.body_timeout = body_timeout
        self.write_timeout = write_timeout
        self.min_rate = min_rate
        self.deadlines: list[float] = []
        self.to_write: list[bool] = []
        self.moves = 0
        self.wakes: list[threading.Thread] = []

    def waiting(self, deadline: float, *, to_write: bool) -> None:
        self.deadlines.append(deadline)
        self.to_write.append(to_write)
        while self.wakes:
            self.wakes.pop().start()

    def progress(self) -> None:
        self.moves += 1

    def failed(self) -> None:
        raise AssertionError("nothing has failed")


def connected(sent: bytes, worker: Worker | None = None) -> tuple[Connection, socket.socket]:
    """Return a connection whose request head was read, and its client."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    worker = worker or Worker()
    conn = Connection(ours, Peer("", ""), {}, Limits(), worker)
    conn.watch = worker
    theirs.sendall(sent)
    data = conn.stream.receive()
    assert data is not None
    conn.http.feed(data)
    assert conn.http.next_request() is not None
    return conn, theirs


def post(length: int, *lines: str) -> bytes:
    return request("POST", "/", f"Content-Length: {length}", *lines)


def later(seconds: float, client: socket.socket, data: bytes) -> threading.Timer:
    timer = threading.Timer(seconds, client.sendall, [data])
    timer.start()
    return timer


# What the application reads


def test_body_bytes_that_are_there_are_returned_without_waiting() -> None:
    worker = Worker()
    conn, _ = connected(post(6) + b"abcdef", worker)
    assert [conn.read_body(4), conn.read_body(4), conn.read_body(4)] == [b"abcd", b"ef", b""]
    assert worker.deadlines == []


def test_body_bytes_that_are_not_there_are_waited_for() -> None:
    worker = Worker()
    conn, client = connected(post(6) + b"abc", worker)
    assert conn.read_body(100) == b"abc"
    timer = later(0.02, client, b"def")
    assert conn.read_body(100) == b"def"
    assert conn.read_body(100) == b""
    assert worker.deadlines
    assert worker.to_write == [False] * len(worker.deadlines)
    timer.join()


def test_a_client_that_closes_before_the_end_is_an_os_error() -> None:
    conn, client = connected(post(6) + b"abc")
    client.close()
    assert conn.read_body(100) == b"abc"
    for _ in range(2):
        with pytest.raises(ClientDisconnected) as caught:
            conn.read_body(100)
        assert isinstance(caught.value, OSError)


def test_a_broken_body_is_an_os_error_with_a_status() -> None:
    conn, _ = connected(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabcX")
    assert conn.read_body(100) == b"abc"
    for _ in range(2):
        with pytest.raises(ClientDisconnected) as caught:
            conn.read_body(100)
        assert caught.value.status == 400


def test_a_client_that_sends_nothing_is_a_stall() -> None:
    conn, _client = connected(post(6), Worker(body_timeout=0.05))
    with pytest.raises(ClientStalled) as caught:
        conn.read_body(100)
    assert caught.value.status == 408
    assert not conn.http.persistent


def test_the_time_that_the_application_needs_is_not_the_clients_fault() -> None:
    worker = Worker(min_rate=10_000)  # which no client reaches here: the deadline stays as it is
    conn, client = connected(post(100), worker)
    for piece in (b"1", b"2"):
        worker.wakes.append(threading.Thread(target=client.sendall, args=(piece,)))
        assert conn.read_body(100) == piece
        time.sleep(0.05)  # the application works
    client.send(b"3")
    assert conn.read_body(100) == b"3"
    time.sleep(0.05)
    worker.wakes.append(threading.Thread(target=client.sendall, args=(b"4",)))
    assert conn.read_body(100) == b"4"
    first, second, third = worker.deadlines
    assert second - first >= 0.05
    assert third - second >= 0.1  # also when nothing was to be waited for in between


def test_how_the_response_is_taken_does_not_change_how_the_body_is_waited_for() -> None:
    conn, client = connected(post(100), Worker(body_timeout=0.05, write_timeout=0.0))
    large = b"x" * (PENDING_LIMIT * 4)

    def take() -> None:
        left = len(large)
        while left:
            left -= len(client.recv(65536))

    reader = threading.Thread(target=take)
    reader.start()
    conn.send(large)
    with pytest.raises(ClientStalled):
        conn.read_body(100)
    while not conn.stream.flush():
        block(conn.stream.fd, inf, to_write=True)
    reader.join(PATIENCE)


def test_100_continue_is_sent_once_when_the_application_has_to_wait() -> None:
    conn, client = connected(post(2, "Expect: 100-continue"))

    def send_when_asked() -> None:
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"a")
        client.sendall(b"b")

    thread = threading.Thread(target=send_when_asked)
    thread.start()
    assert conn.read_body(1) + conn.read_body(1) == b"ab"
    thread.join(PATIENCE)


# What is read ahead


def feed(conn: Connection, client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    received = conn.stream.receive()
    assert received is not None
    conn.http.feed(received)


def test_a_small_body_is_collected_before_it_is_read() -> None:
    worker = Worker()
    conn, client = connected(post(6) + b"ab", worker)
    assert not conn.read_ahead(1000)
    feed(conn, client, b"cd")
    assert not conn.read_ahead(1000)
    feed(conn, client, b"ef")
    assert conn.read_ahead(1000)
    assert conn.read_body(3) + conn.read_body(100) + conn.read_body(100) == b"abcdef"
    assert conn.read_body(100) == b""
    assert worker.deadlines == []


def test_a_large_body_is_collected_up_to_the_limit() -> None:
    conn, client = connected(request("POST", "/", "Transfer-Encoding: chunked"))
    feed(conn, client, b"a\r\n0123456789\r\n")
    assert conn.read_ahead(8)
    feed(conn, client, chunked([b"end"]))
    pieces = []
    while piece := conn.read_body(100):
        pieces.append(piece)
    assert b"".join(pieces) == b"0123456789end"


def test_what_is_broken_is_found_before_the_application_is_called() -> None:
    conn, _ = connected(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabcX")
    with pytest.raises(ProtocolError):
        conn.read_ahead(1000)


def test_a_body_in_single_bytes_costs_no_squares() -> None:
    """64 KB in packets of one byte took half a minute of CPU time."""
    size = 64 * 1024
    conn, _ = connected(post(size))
    began = time.process_time()
    for _ in range(size):
        conn.http.feed(b"x")
        conn.read_ahead(size)
    count = 0
    while piece := conn.read_body(1000):
        count += len(piece)
    assert count == size
    assert time.process_time() - began < 5.0


def test_a_body_that_nobody_wants_is_dropped() -> None:
    conn, client = connected(post(6) + b"ab")
    assert not conn.discard()
    feed(conn, client, b"cdef")
    assert conn.discard()


# What is sent


def test_a_client_that_is_far_behind_is_waited_for() -> None:
    worker = Worker()
    conn, client = connected(request("GET", "/"), worker)
    thread = threading.Thread(target=lambda: [client.recv(1 << 20) for _ in range(10)])
    worker.wakes.append(thread)
    conn.send(b"x" * PENDING_LIMIT)
    assert worker.deadlines == []
    conn.send(b"x" * PENDING_LIMIT * 2)
    assert worker.deadlines
    assert conn.stream.pending <= PENDING_LIMIT // 2
    conn.stream.close()
    thread.join(PATIENCE)


def test_a_client_that_takes_nothing_is_a_stall() -> None:
    conn, _client = connected(request("GET", "/"), Worker(write_timeout=0.05))
    with pytest.raises(ClientStalled) as caught:
        conn.send(b"x" * (PENDING_LIMIT * 2))
    assert caught.value.status == 0


def test_the_last_bytes_are_never_waited_for() -> None:
    worker = Worker()
    conn, _client = connected(request("GET", "/"), worker)
    conn.send_last(b"x" * (PENDING_LIMIT * 4))
    assert conn.stream.out
    assert worker.deadlines == []


def test_sending_to_nobody_is_a_client_that_went_away() -> None:
    conn, client = connected(request("GET", "/"))
    client.close()
    with pytest.raises(ClientDisconnected):
        conn.send(b"x")


def test_every_step_is_progress() -> None:
    worker = Worker()
    conn, _ = connected(post(6) + b"abcdef", worker)
    conn.read_body(100)
    moves = worker.moves
    conn.send(b"x")
    assert worker.moves > moves > 0


def test_an_idle_client_that_is_hastened_has_its_time_since_it_became_idle() -> None:
    conn, theirs = connected(request("GET", "/"))
    conn.waits, conn.began, conn.deadline = AWAITS_FIRST_BYTE, 100.0, 175.0
    conn.hasten(2.0)
    assert conn.deadline == 102.0
    conn.hasten(2.0)
    assert conn.deadline == 102.0, "it is not counted anew"
    conn.hasten(60.0)
    assert conn.deadline == 102.0, "nobody gets more time by it"
    theirs.close()


def test_a_client_that_has_begun_its_request_is_not_hastened() -> None:
    conn, theirs = connected(request("GET", "/"))
    conn.waits, conn.began, conn.deadline = AWAITS_HEAD, 100.0, 110.0
    conn.hasten(2.0)
    assert conn.deadline == 110.0
    theirs.close()
