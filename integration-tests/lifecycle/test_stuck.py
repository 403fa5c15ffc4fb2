# SPDX-License-Identifier: MIT
"""A request that takes too long is explained; what else its worker has in hand is finished."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
from support.application import deploy, hold, holder, release
from support.server import Server
from support.workers import GTHREAD, UNDER_BOTH, only

from prefork.testing import client, processes
from prefork.testing.client import RequestFailed, read_answer
from prefork.testing.load import Load
from prefork.testing.waiting import until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from support.workers import WorkerClass

pytestmark = UNDER_BOTH

IN_C: Final = "if path == '/stuck': sum(range(10**12))"
"""Holds the interpreter's lock, for hours."""


def records(server: Server) -> list[dict[str, Any]]:
    """Return the records of an error log in JSON."""
    return [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]


STREAM: Final = """\
def stream(name, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open(name + ".held", "w") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists(name + ".released"):
        time.sleep(0.05)
        yield b"."
    yield b"end"
"""
"""A response that makes progress until it is released."""


def stream_of(server: Server, pid: int, stack: ExitStack) -> tuple[str, socket.socket]:
    """Begin streams until a worker has one, and end those of others; return its name and connection."""
    others: list[str] = []
    for number in range(50):
        name = f"stream-{number}"
        sock = stack.enter_context(client.connect(server.address))
        client.send(sock, client.render(f"/stream/{name}"))
        if until(lambda name=name: holder(server, name), f"{name} in the application") == pid:  # type: ignore[misc]
            release(server, *others)
            return name, sock
        others.append(name)
    raise AssertionError(f"{pid} takes no request")


# One of several threads


@only(GTHREAD)
def test_of_a_worker_with_one_stuck_thread_the_other_requests_are_finished(
    tmp_path: Path, worker_class: WorkerClass
) -> None:
    """The successor serves before it is told to leave, and it ends long before graceful_timeout."""
    deploy(
        tmp_path,
        boot=STREAM,
        request="if path == '/stuck': open('stuck', 'w').write(str(os.getpid())); time.sleep(600)\n"
        "    if path.startswith('/stream/'): return stream(path[8:], start_response)",
    )
    with (
        Server(tmp_path, "-w 2 --timeout 2 --access-logfile - app:app") as server,
        ExitStack() as stack,
        client.connect(server.address) as stuck,
    ):
        assert worker_class.threads == 4
        old = set(server.wait_workers(2))
        client.send(stuck, client.render("/stuck?who=me"))
        until(lambda: (tmp_path / "stuck").exists() and (tmp_path / "stuck").read_text(), "the stuck request")
        victim = int((tmp_path / "stuck").read_text())
        name, other = stream_of(server, victim, stack)
        with Load(server.address) as load:
            server.wait_log("made no progress within timeout, on GET /stuck?who=me (in the application, 2.")
            server.wait_log("has a stuck request: starting its successor")
            until(lambda: set(load.pids) - old, "answers of the successor")
            release(server, name)
            assert read_answer(other).body.endswith(b".end")
            with pytest.raises(RequestFailed):
                read_answer(stuck)
            server.wait_log("has nothing left but what is stuck")
            until(lambda: not processes.is_running(victim), "the end of the worker")
            load.check()
        server.wait_workers(2)
        log = server.log()
        assert '"GET /stuck?who=me HTTP/1.1" 0 ' in log or '"GET /stuck?who=me HTTP/1.1" - ' in log
        assert log.count("in stream\n") == log.count("in app\n") == 1, "the stacks of both requests, once"


@only(GTHREAD)
def test_a_worker_of_many_threads_with_the_interpreters_lock_held_is_ended_soon(tmp_path: Path) -> None:
    """It cannot read that it is to leave, so nobody waits for what it has in hand."""
    deploy(tmp_path, request=IN_C)
    with (
        Server(tmp_path, "-w 2 --timeout 1 app:app") as server,
        client.connect(server.address) as sock,
    ):
        client.send(sock, client.render("/stuck"))
        server.wait_log("does not begin to leave")
        server.wait_log("did not end on SIGABRT")
        server.wait_workers(2)
        assert server.ask().status == 200


# What the log says


def test_the_stack_of_a_request_stuck_in_c_is_in_the_log(tmp_path: Path) -> None:
    deploy(tmp_path, request=IN_C)
    with (
        Server(tmp_path, "-w 2 --timeout 1 app:app") as server,
        client.connect(server.address) as sock,
    ):
        client.send(sock, client.render("/stuck"))
        server.wait_log("in app\n")
        server.wait_workers(2)


def test_in_json_one_record_explains_all(tmp_path: Path) -> None:
    deploy(tmp_path, request="if path == '/stuck': time.sleep(600)")
    with (
        Server(tmp_path, "-w 2 --timeout 1 --log-format json app:app") as server,
        client.connect(server.address) as sock,
    ):
        client.send(sock, client.render("/stuck"))
        with pytest.raises(RequestFailed):
            read_answer(sock)
        until(lambda: any("stack" in record for record in records(server)), "a record with stacks")
        (record,) = [record for record in records(server) if "stack" in record]
        (request,) = record["requests"]
        assert (request["method"], request["target"], request["phase"]) == ("GET", "/stuck", "application")
        assert (request["client"], request["late"]) == ("127.0.0.1", True)
        assert 1.0 <= request["age"] < 3.0
        assert (record["reason"], record["level"], record["generation"]) == ("timeout", "ERROR", 1)
        # The thread that the record names is the one whose stack has the application in it.
        parts = re.split(r"hread (0x[0-9a-f]{16}) \(most recent call first\)", record["stack"])
        stacks = dict(zip(parts[1::2], parts[2::2], strict=True))
        assert "in app" in stacks[request["thread"]]


def test_a_boot_that_takes_too_long_is_shown(tmp_path: Path) -> None:
    deploy(tmp_path, boot="time.sleep(600)")
    with Server(tmp_path, "-w 1 --boot-timeout 1 app:app", ready=False, expect=3) as server:
        server.wait_log("(boot_timeout): sending SIGABRT")
        assert server.wait_exit() == 3
        assert re.search(r'boot_timeout\): sending SIGABRT\n(  .*\n)*?  .*app.py", line', server.log())


def test_the_requests_of_a_worker_that_the_kernel_kills_are_named(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as sock:
        victim = holder(server, "a")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(RequestFailed):
            read_answer(sock)
        server.wait_log("was lost, on GET /hold/a (in the application, ")


def test_a_worker_shows_its_stacks_to_who_asks_and_serves_on(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as sock:
        busy = holder(server, "a")
        assert busy is not None
        os.kill(busy, signal.SIGURG)
        server.wait_log("has shown its stacks, on GET /hold/a (in the application, ")
        assert "in hold\n" in server.log()
        release(server, "a")
        assert read_answer(sock).status == 200
        assert busy in server.workers()


# The whole request


def test_a_request_that_makes_progress_has_its_limit_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import time\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    while environ['PATH_INFO'] == '/endless':\n"
        "        time.sleep(0.1)\n"
        "        yield b'x'\n"
        "    yield b'short'\n"
    )
    with (
        Server(tmp_path, "-w 1 --timeout 5 --request-timeout 1 app:app") as server,
        client.connect(server.address) as sock,
    ):
        client.send(sock, client.render("/endless"))
        server.wait_log("has a request that takes longer than request_timeout, on GET /endless")
        with pytest.raises(RequestFailed):
            read_answer(sock)
        assert server.ask("/short").status == 200


def test_a_slow_request_is_shown_once_and_runs_on(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --slow-request 0.3 app:app") as server, hold(server, "a") as first:
        server.wait_log("has a slow request, on GET /hold/a (in the application, ")
        with hold(server, "b") as second:
            # When the second is shown, the arbiter has looked at the first again.
            server.wait_log("has a slow request, on GET /hold/b (in the application, ")
            assert server.log().count("has a slow request, on GET /hold/a") == 1
            release(server, "a", "b")
            assert read_answer(first).status == read_answer(second).status == 200


def test_a_request_that_says_that_it_is_long_may_be(tmp_path: Path) -> None:
    deploy(
        tmp_path,
        request="if path == '/long': environ['prefork.extend_deadline'](30); time.sleep(3)\n"
        "    if path == '/stuck': environ['prefork.extend_deadline'](1); time.sleep(60)",
    )
    with Server(tmp_path, "-w 1 --timeout 1 --request-timeout 1 app:app") as server:
        assert server.ask("/long").status == 200
        assert "sending SIGABRT" not in server.log()
        with pytest.raises(RequestFailed):
            server.ask("/stuck")
