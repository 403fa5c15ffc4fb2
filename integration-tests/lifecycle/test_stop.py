# SPDX-License-Identifier: MIT
"""A stop answers whatever the server has taken, ends in time, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy, hold, release
from support.server import Server
from support.workers import GTHREAD, UNDER_BOTH, WorkerClass, only

from prefork.testing import client, processes
from prefork.testing.client import Address, RequestFailed
from prefork.testing.load import Load
from prefork.testing.server import free_port
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

QUEUED: Final = 60


def addresses(folder: Path) -> dict[str, Address]:
    return {
        "tcp": ("127.0.0.1", free_port()),
        "ipv6": ("::1", free_port("::1")),
        "unix": str(folder / "s"),
        "abstract": f"@{folder}",
        "tcp without rights": ("127.0.0.1", free_port()),
    }


WITHOUT_RIGHTS: Final = (
    sys.executable,
    "-c",
    # 24 and 12 are PR_CAPBSET_DROP and CAP_NET_ADMIN, which some kernels want for a socket filter.
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 12, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a command without the right to change the network, as containers do."""


def serve(folder: Path, arguments: str, kind: str) -> Server:
    wrapper = WITHOUT_RIGHTS if kind.endswith("without rights") else ()
    return Server(folder, arguments, address=addresses(folder)[kind], wrapper=wrapper)


def check_nothing_left(server: Server) -> None:
    assert server.exit_code == 0
    assert not server.belonging()
    assert not (server.folder / "prefork.pid").exists()
    assert not (server.folder / "s").exists()
    with pytest.raises(RequestFailed) as failure:
        server.ask()
    assert failure.value.kind == "refused"


# What is taken is answered


@pytest.mark.parametrize("kind", ["tcp", "tcp without rights", "ipv6", "unix", "abstract"])
def test_queued_connections_are_answered(tmp_path: Path, kind: str, worker_class: WorkerClass) -> None:
    """Every connection that waits behind busy workers, with its request sent or only half sent."""
    deploy(tmp_path)
    names = [f"busy-{number}" for number in range(2 * worker_class.threads)]
    with (
        serve(tmp_path, "-w 2 -p prefork.pid app:app", kind) as server,
        ExitStack() as stack,
    ):
        busy = [stack.enter_context(hold(server, name)) for name in names]
        queued = [stack.enter_context(client.connect(server.address)) for _ in range(QUEUED)]
        for number, sock in enumerate(queued):
            request = client.render(f"/queued/{number}")
            client.send(sock, request if number % 2 else request[:20])
        server.signal(signal.SIGTERM)
        server.wait_log("stopping: 2 workers")
        for number, sock in enumerate(queued):
            if not number % 2:
                client.send(sock, client.render(f"/queued/{number}")[20:])
        release(server, *names)
        for sock in busy:
            assert client.read_answer(sock).status == 200
        for number, sock in enumerate(queued):
            assert f"/queued/{number}\n" in client.read_answer(sock).text
        assert server.wait_exit() == 0
        check_nothing_left(server)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_requests_that_are_half_sent_are_finished(tmp_path: Path, kind: str) -> None:
    """Half a head or half a body that a worker has taken; the client sends the rest during the stop."""
    deploy(tmp_path)
    request = client.render("/half", "POST", b"x" * 1000)
    with Server(tmp_path, "-w 2 app:app", address=addresses(tmp_path)[kind]) as server, ExitStack() as stack:
        socks = [stack.enter_context(client.connect(server.address)) for _ in range(20)]
        for number, sock in enumerate(socks):
            client.send(sock, request[: 20 if number % 2 else 600])
        for _ in range(10):
            server.ask()  # by then those before have been accepted
        server.signal(signal.SIGTERM)
        server.wait_log("stopping: 2 workers")
        for number, sock in enumerate(socks):
            client.send(sock, request[20 if number % 2 else 600 :])
        for sock in socks:
            assert client.read_answer(sock).status == 200
        assert server.wait_exit() == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_connection_without_a_byte_gets_its_chance(tmp_path: Path, kind: str) -> None:
    """A client that has connected before the stop and asks right after it is answered."""
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 1 app:app", address=addresses(tmp_path)[kind]) as server,
        client.connect(server.address) as sock,
        hold(server, "a") as busy,
    ):
        server.signal(signal.SIGTERM)
        server.wait_log("stopping: 1 worker")
        release(server, "a")
        assert client.read_answer(busy).status == 200
        client.send(sock, client.render("/late"))
        assert client.read_answer(sock).closing


@pytest.mark.parametrize("kind", ["tcp", "tcp without rights", "unix", "abstract"])
@pytest.mark.parametrize("to_all", [False, True], ids=["arbiter", "all processes"])
def test_a_stop_under_load_loses_nothing(
    tmp_path: Path, kind: str, to_all: bool, pytestconfig: pytest.Config
) -> None:
    """Clients are answered until they are refused, also when all processes get the signal, as by systemd."""
    deploy(tmp_path)
    for _ in range(pytestconfig.getoption("--stops")):
        with (
            serve(tmp_path, "-w 2 -p prefork.pid app:app", kind) as server,
            Load(server.address, clients=8, interval=0) as load,
        ):
            load.wait(200)
            server.signal(signal.SIGTERM, to_all=to_all)
            load.outlast(server)
            check_nothing_left(server)


def test_a_worker_that_is_told_to_stop_by_an_operator_is_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        for pid in server.workers():
            os.kill(pid, signal.SIGTERM)
            until(lambda pid=pid: not processes.is_running(pid), "the worker's end")  # type: ignore[misc]
            server.wait_workers(2)
        load.wait()
        load.check()


def test_a_request_in_hand_is_finished(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as sock:
        server.signal(signal.SIGTERM)
        server.wait_workers(1)
        with pytest.raises(RequestFailed):
            server.ask(timeout=0.5)
        release(server, "a")
        answer = client.read_answer(sock)
        assert answer.status == 200
        assert answer.closing


def test_drain_delay_keeps_serving_before_the_stop(tmp_path: Path) -> None:
    """So that a load balancer learns of the stop before connections are refused."""
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 --drain-delay 1 app:app") as server,
        Load(server.address) as load,
    ):
        load.wait()
        told = time.monotonic()
        server.signal(signal.SIGTERM)
        server.wait_log("stopping in 1.0 s")
        load.wait(200)
        load.check()
        load.wait_end()
        assert load.refused[0].at - told >= 1
        assert not load.lost
        assert server.wait_exit() == 0


@only(GTHREAD)
def test_during_drain_delay_each_response_is_the_last_on_its_connection(tmp_path: Path) -> None:
    """So clients that keep connections open go elsewhere, too."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --drain-delay 60 app:app") as server:
        kept = client.Kept(server.address)
        assert not kept.ask("/before").closing
        server.signal(signal.SIGTERM)
        server.wait_log("stopping in 60.0 s")
        until(lambda: server.ask().closing, "a response that closes its connection")
        assert kept.ask("/after").closing
        assert kept.ended()
        kept.close()
        assert server.ask().status == 200
        server.stop(signal.SIGINT)


# How a stop ends


def test_a_request_that_outlasts_graceful_timeout_is_named_and_killed(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --graceful-timeout 1 app:app") as server, hold(server, "endless") as sock:
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert "/hold/endless" in server.log()
        with pytest.raises(RequestFailed):
            client.read_answer(sock)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_drops_what_is_running(tmp_path: Path, number: signal.Signals) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 -p prefork.pid app:app", address=addresses(tmp_path)["unix"]) as server,
        hold(server, "endless") as sock,
    ):
        server.stop(number)
        check_nothing_left(server)
        with pytest.raises(RequestFailed):
            client.read_answer(sock)


def test_a_second_term_makes_a_stop_quick(tmp_path: Path) -> None:
    """But not its echo: supervisors send it to the process and to its group in one go."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as first, hold(server, "endless"):
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM, to_all=True)
        release(server, "a")
        assert client.read_answer(first).status == 200

        def insist() -> bool:
            if server.is_running:
                server.signal(signal.SIGTERM)
            return not server.is_running

        until(insist, "a quick stop")


def test_ctrl_c_reaches_all_processes_and_ends_them_quietly(tmp_path: Path) -> None:
    """A terminal sends INT to the arbiter and every worker at once: no replacement, no traceback."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 3 app:app") as server:
        server.wait_log("ready", count=3)
        server.signal(signal.SIGINT, to_all=True)
        assert server.wait_exit() == 0
        assert "Traceback" not in server.log()
        assert "unexpectedly" not in server.log()


def test_a_stop_while_workers_load_the_application_is_quick(tmp_path: Path) -> None:
    deploy(tmp_path, boot="open('loading', 'w').close(); time.sleep(600)")
    with Server(tmp_path, "-w 2 app:app", ready=False) as server:
        until((tmp_path / "loading").exists, "a worker that loads")
        server.stop()
        assert "Traceback" not in server.log()


def test_idle_connections_do_not_delay_a_stop(tmp_path: Path) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 app:app", address=addresses(tmp_path)["unix"]) as server,
        ExitStack() as stack,
    ):
        idle = [stack.enter_context(client.connect(server.address)) for _ in range(20)]
        server.ask()
        server.stop()
        for sock in idle:
            with pytest.raises(RequestFailed) as failure:
                client.read_answer(sock)
            assert failure.value.kind == "empty"


def test_a_slow_reader_gets_the_rest_of_its_response(tmp_path: Path) -> None:
    """A response of megabytes that a client has not read yet is sent to its end during the stop."""
    deploy(tmp_path)
    (tmp_path / "big.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', str(8 << 20))])\n"
        "    return [b'x' * (8 << 20)]\n"
    )
    with Server(tmp_path, "-w 1 big:app") as server, client.connect(server.address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(sock, client.render("/"))
        assert sock.recv(1000, socket.MSG_PEEK)
        server.signal(signal.SIGTERM)
        server.wait_log("stopping: 1 worker")
        assert len(client.read_answer(sock).body) == 8 << 20
