# SPDX-License-Identifier: MIT
"""Clients that are slow, idle or hostile cost no worker, and no descriptor for longer than their deadline."""

from __future__ import annotations

import resource
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from support.application import deploy
from support.server import Server
from support.workers import UNDER_BOTH

from prefork.testing import client
from prefork.testing.client import read_answer
from prefork.testing.load import Load
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

MANY: Final = 200


def test_half_a_head_costs_no_worker(tmp_path: Path) -> None:
    """200 of them: others are served at once, and the 200 get 408 at their deadline and are closed."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --header-timeout 3 app:app") as server, ExitStack() as stack:
        server.wait_log("ready", count=2)
        slow = [stack.enter_context(client.connect(server.address)) for _ in range(MANY)]
        for sock in slow:
            client.send(sock, b"GET /half HTTP/1.1\r\nHost: te")
        until(lambda: server.connections() == MANY, "all of them accepted")
        with Load(server.address) as load:
            load.wait(500)
            assert load.slowest < 3, "nobody has waited for the deadline of another"
            for sock in slow:
                answer = read_answer(sock)
                assert answer.status == 408
                assert answer.closing
            load.wait()
            load.check()
        until(lambda: server.connections() == 0, "all of them closed")


def test_half_a_body_costs_no_worker(tmp_path: Path) -> None:
    """A small body is collected before the application is called."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --body-timeout 2 app:app") as server, ExitStack() as stack:
        slow = [stack.enter_context(client.connect(server.address)) for _ in range(20)]
        for sock in slow:
            client.send(sock, b"POST /half HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
        with Load(server.address) as load:
            load.wait(500)
            assert load.slowest < 2, "nobody has waited for the deadline of another"
            for sock in slow:
                assert read_answer(sock).status == 408
            load.check()


def dribble(sock: socket.socket, byte: int) -> client.Answer | None:
    """Send one byte, and return the answer if there is one within the socket's timeout."""
    client.send(sock, bytes([byte]))
    try:
        return read_answer(sock)
    except client.RequestFailed as error:
        if error.kind != "timeout":
            raise
        return None


def test_a_byte_now_and_then_is_a_stall_too(tmp_path: Path) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 1 --header-timeout 1 app:app") as server,
        client.connect(server.address) as sock,
    ):
        sock.settimeout(0.1)
        head = iter(client.render("/slowly") + b"more and more")
        while (answer := dribble(sock, next(head))) is None:
            pass
        assert answer.status == 408


def test_clients_that_do_not_read_cost_no_worker(tmp_path: Path) -> None:
    """What they do not take waits in the poll set until the deadline; then the connection is closed."""
    deploy(tmp_path, request="if path == '/big': start_response('200 OK', []); return [b'x' * (8 << 20)]")
    arguments = "-w 1 --write-timeout 2 --access-logfile - app:app"
    with Server(tmp_path, arguments) as server, ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(server.address)
            client.send(sock, client.render("/big"))
        with Load(server.address) as load:
            until(lambda: server.connections() >= 10, "all of them accepted")
            load.wait(300)
            assert load.slowest < 2
            until(lambda: server.log().count('"GET /big HTTP/1.1" 200') == 10, "their access lines")
            load.check()
        until(lambda: server.connections() == 0, "all of them closed")


def test_connections_that_are_reset_leave_nothing_behind(tmp_path: Path) -> None:
    """At every point of a request: before it, in its head, in its body, while it is answered."""
    deploy(tmp_path)
    request = client.render("/", "POST", b"x" * 1000)
    with Server(tmp_path, "-w 2 app:app") as server:
        server.wait_log("ready", count=2)
        with Load(server.address) as load:
            for cut in (0, 10, len(request) - 500, len(request)):
                for _ in range(25):
                    with client.connect(server.address) as sock:
                        client.send(sock, request[:cut])
                        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # on, 0 s: closing resets
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            load.wait()
            load.check()
        until(lambda: server.connections() == 0, "all of them closed")
        assert "Traceback" not in server.log()


def few_descriptors() -> None:
    """Allow a process forty."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def test_a_worker_without_descriptors_drains_all_the_same(tmp_path: Path) -> None:
    """Who waits in the queue is taken when others have gone."""
    deploy(tmp_path)
    arguments = "-w 1 --header-timeout 1 app:app"
    with Server(tmp_path, arguments, preexec_fn=few_descriptors) as server, ExitStack() as stack:
        slow = [stack.enter_context(client.connect(server.address)) for _ in range(60)]
        for sock in slow:
            client.send(sock, b"GET / HTTP/1.1\r\n")
        server.wait_log("cannot accept")
        server.signal(signal.SIGTERM)
        for sock in slow:
            assert read_answer(sock).status == 408
        assert server.wait_exit() == 0
        assert server.log().count("cannot accept") < 10


def test_a_worker_without_descriptors_recovers(tmp_path: Path) -> None:
    """It says so now and then, and serves again when there are some."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app", preexec_fn=few_descriptors) as server, ExitStack() as stack:
        for _ in range(60):
            sock = stack.enter_context(client.connect(server.address))
            client.send(sock, b"GET / HTTP/1.1\r\n")
        server.wait_log("cannot accept", count=2)
        assert server.log().count("cannot accept") < 10
        stack.close()
        with Load(server.address) as load:
            load.wait()
            load.check()


def test_a_worker_takes_no_more_connections_than_it_may(tmp_path: Path) -> None:
    """The others stay in the queue for a sibling, or for later."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --worker-connections 5 app:app") as server, ExitStack() as stack:
        slow = [stack.enter_context(client.connect(server.address)) for _ in range(8)]
        for sock in slow:
            client.send(sock, b"GET /half HTTP/1.1\r\nHost: test\r\n")
        until(lambda: server.connections() == 5, "five accepted")
        for sock in slow:
            client.send(sock, b"\r\n")
        for sock in slow:
            with sock:
                assert read_answer(sock).status == 200
        assert server.ask().status == 200
