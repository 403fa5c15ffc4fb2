# SPDX-License-Identifier: MIT
"""What dies takes its own request and no other; what hangs is shown, killed and replaced."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy, hold, hold_in_each, holder, release
from support.server import Server
from support.workers import UNDER_BOTH, WorkerClass

from prefork.testing import client, processes
from prefork.testing.client import RequestFailed, read_answer
from prefork.testing.load import Load
from prefork.testing.server import free_port
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

AS_SUBREAPER: Final = (
    sys.executable,
    "-c",
    # 36 is PR_SET_CHILD_SUBREAPER, which exec keeps.
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a command as the parent of all orphans below it, as PID 1 of a container is."""


# Workers that are killed


def test_a_killed_worker_takes_its_own_requests_only(tmp_path: Path, worker_class: WorkerClass) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 3 app:app") as server, Load(server.address) as load:
        load.wait()
        for count in range(1, 5):
            known = server.wait_workers(3)
            os.kill(known[0], signal.SIGKILL)
            server.wait_log("killed by SIGKILL", count=count)
            load.wait()
        server.wait_workers(3)
        assert len(load.lost) <= 4 * worker_class.threads
        assert not load.refused


def test_all_workers_killed_at_once_are_replaced(tmp_path: Path, worker_class: WorkerClass) -> None:
    """Clients meanwhile wait in the queue, which is the arbiter's too."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        load.wait(200)
        server.wait_workers(2)
        assert len(load.lost) <= 2 * worker_class.threads
        assert not load.refused


def test_a_worker_that_dies_while_idle_loses_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server:
        os.kill(server.workers()[0], signal.SIGKILL)
        for _ in range(20):
            assert server.ask().status == 200
        server.wait_log("ended unexpectedly")
        server.wait_workers(2)


def test_a_crash_in_c_code_shows_where(tmp_path: Path) -> None:
    deploy(tmp_path, request="if path == '/crash': import ctypes; ctypes.string_at(0)")
    with Server(tmp_path, "-w 2 app:app") as server:
        with pytest.raises(RequestFailed):
            server.ask("/crash")
        server.wait_log("killed by SIGSEGV")
        assert "Segmentation fault" in server.log()
        assert 'app.py", line' in server.log()
        assert server.ask().status == 200


def test_a_worker_that_cannot_boot_any_more_is_tried_ever_less_often(
    tmp_path: Path, worker_class: WorkerClass
) -> None:
    """The other worker serves on, and when the cause is gone there are two again."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        deploy(tmp_path, "two", boot="os._exit(1)")
        began = time.monotonic()
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_log("the next worker starts in", count=5)
        assert time.monotonic() - began > 0.1 + 0.2 + 0.4 + 0.8  # and not five in a moment
        load.wait()
        assert len(load.lost) <= worker_class.threads
        deploy(tmp_path, "two")
        load.wait_version("two", 10)
        server.wait_workers(2)
        load.wait()
        assert server.log().count("the next worker starts in") < 8
        assert len(load.lost) <= worker_class.threads


# Workers that hang


def test_a_stuck_request_is_shown_killed_and_replaced(tmp_path: Path) -> None:
    """Its stack is in the error log, its request line too, and its access line says so."""
    deploy(tmp_path, request="if path == '/stuck': time.sleep(600)")
    with (
        Server(tmp_path, "-w 2 --timeout 1 --access-logfile - app:app") as server,
        client.connect(server.address) as sock,
        Load(server.address) as load,
    ):
        old = set(server.workers())
        client.send(sock, client.render("/stuck?who=me"))
        with pytest.raises(RequestFailed):
            read_answer(sock)
        server.wait_log("made no progress within timeout, on GET /stuck?who=me (in the application, ")
        server.wait_workers(2)
        until(lambda: set(load.pids) - old, "answers of the successor")
        load.check()
        log = server.log()
        assert 'app.py", line' in log.partition("made no progress")[2]
        assert "in app" in log
        assert '"GET /stuck?who=me HTTP/1.1" 0 ' in log or '"GET /stuck?who=me HTTP/1.1" - ' in log


def test_a_request_stuck_in_c_code_is_shown_and_killed_too(tmp_path: Path) -> None:
    """With the interpreter's lock held no Python code can run in the worker, so SIGKILL ends it."""
    deploy(tmp_path, request="if path == '/stuck': sum(range(10**12))")
    with (
        Server(tmp_path, "-w 2 --timeout 1 app:app") as server,
        client.connect(server.address) as sock,
        Load(server.address) as load,
    ):
        old = set(server.workers())
        client.send(sock, client.render("/stuck"))
        with pytest.raises(RequestFailed):
            read_answer(sock)
        server.wait_log("did not end on SIGABRT")
        assert 'app.py", line' in server.log()
        assert "GET /stuck" in server.log()
        until(lambda: set(load.pids) - old, "answers of the successor")
        load.check()


def test_a_stopped_worker_is_killed_at_its_timeout(tmp_path: Path) -> None:
    """SIGSTOP is a worker that cannot even say what it does."""
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 --timeout 1 app:app") as server,
        hold(server, "a") as sock,
        Load(server.address) as load,
    ):
        victim = holder(server, "a")
        assert victim is not None
        os.kill(victim, signal.SIGSTOP)
        server.wait_log("made no progress within timeout, on GET /hold/a (in the application, ")
        until(lambda: not processes.is_running(victim), "the end of the worker")
        until(lambda: len(set(load.pids) - {victim}) == 2, "answers of the successor")
        with pytest.raises(RequestFailed):
            read_answer(sock)
        load.check()


def test_a_worker_that_is_stopped_while_idle_costs_no_request(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --graceful-timeout 1 app:app") as server, Load(server.address) as load:
        load.wait()
        os.kill(server.workers()[0], signal.SIGSTOP)
        load.wait(300)
        assert len(load.lost) <= 0
        server.stop()


def test_a_long_request_that_makes_progress_is_left_alone(tmp_path: Path) -> None:
    """The timeout is for a request without progress: a stream may last."""
    (tmp_path / "app.py").write_text(
        "import time\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    for _ in range(8):\n"
        "        time.sleep(0.25)\n"
        "        yield b'x'\n"
    )
    with Server(tmp_path, "-w 1 --timeout 1 app:app") as server:
        with client.connect(server.address) as sock:
            client.send(sock, client.render("/", "GET", b"", "Connection: close"))
            data = b""
            while piece := sock.recv(1000):
                data += piece
        assert data.endswith(b"0\r\n\r\n")
        assert data.count(b"x\r\n") == 8
        assert "timeout" not in server.log()


# The arbiter


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_killed_arbiter_loses_nothing_and_hinders_no_start(tmp_path: Path, kind: str) -> None:
    """Its workers answer what they have and what is queued, and go; pidfile and socket are taken over."""
    deploy(tmp_path)
    address: client.Address = str(tmp_path / "s") if kind == "unix" else ("127.0.0.1", free_port())
    arguments = "-w 2 -p prefork.pid app:app"
    with (
        Server(tmp_path, arguments, address=address, expect=-signal.SIGKILL) as server,
        ExitStack() as stack,
    ):
        workers = server.wait_workers(2)
        busy = [stack.enter_context(hold(server, name)) for name in ("a", "b")]
        queued = [stack.enter_context(client.connect(address)) for _ in range(20)]
        for number, sock in enumerate(queued):
            client.send(sock, client.render(f"/queued/{number}"))
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        release(server, "a", "b")
        for sock in [*busy, *queued]:
            assert read_answer(sock).status == 200
        until(lambda: not any(map(processes.is_running, workers)), "the end of the workers")
    assert (tmp_path / "prefork.pid").read_text() == f"{server.pid}\n"
    with Server(tmp_path, arguments, address=address) as again, Load(address) as load:
        load.wait()
        load.check()
        assert "was left by a server that did not end in peace" in again.log()
        assert (tmp_path / "prefork.pid").read_text() == f"{again.pid}\n"
    assert not (tmp_path / "prefork.pid").exists()


def test_each_worker_sees_the_death_of_the_arbiter_for_itself(tmp_path: Path) -> None:
    """One that is done goes, though a younger one, which was forked with a copy of its channel, is busy."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app", expect=-signal.SIGKILL) as server, ExitStack() as stack:
        held = hold_in_each(server, 2, stack)
        older, younger = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        for pid in (older, younger):
            assert processes.is_running(pid)
            for name, sock in held[pid]:
                release(server, name)
                assert read_answer(sock).status == 200
            until(lambda pid=pid: not processes.is_running(pid), "the end of the worker")  # type: ignore[misc]


def test_a_killed_arbiter_under_load_loses_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 app:app", expect=-signal.SIGKILL) as server,
        Load(server.address, clients=8, interval=0) as load,
    ):
        load.wait(300)
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        load.wait_end()
        until(lambda: not any(map(processes.is_running, workers)), "the end of the workers")
        assert not load.lost


def test_a_start_waits_for_workers_of_a_killed_arbiter(tmp_path: Path, worker_class: WorkerClass) -> None:
    """A service manager restarts at once, while an old worker is busy with all it has and keeps the port."""
    names = [f"busy-{number}" for number in range(worker_class.threads)]
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        deploy(tmp_path / name)
    with (
        Server(tmp_path / "old", "-w 1 app:app", expect=-signal.SIGKILL) as server,
        ExitStack() as stack,
    ):
        busy = [stack.enter_context(hold(server, name)) for name in names]
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        with Server(tmp_path / "new", "-w 1 app:app", address=server.address, ready=False) as again:
            again.wait_log("trying again")
            release(server, *names)
            for sock in busy:
                assert read_answer(sock).status == 200
            again.wait_log("listening on")
            again.wait_ready()
        until(lambda: not any(map(processes.is_running, workers)), "the end of the old worker")


# Strangers


def test_orphans_are_reaped(tmp_path: Path) -> None:
    """As PID 1 of a container the arbiter inherits what applications leave behind."""
    deploy(
        tmp_path,
        request="if path == '/orphan' and os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(0.3); open('done', 'w').write(str(os.getpid()))\n"
        "        os._exit(0)",
    )
    with Server(tmp_path, "-w 2 --log-level debug app:app", wrapper=AS_SUBREAPER) as server:
        workers = set(server.wait_workers(2))
        assert server.ask("/orphan").status == 200
        until(lambda: (tmp_path / "done").exists() and (tmp_path / "done").read_text(), "the orphan's end")
        orphan = int((tmp_path / "done").read_text())
        until(lambda: processes.look(orphan) is None, "the orphan reaped")
        assert set(server.workers()) == workers
        assert "unexpectedly" not in server.log()


def test_no_child_is_left_a_zombie(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 4 app:app") as server:
        for pid in server.wait_workers(4):
            os.kill(pid, signal.SIGKILL)
        server.wait_log("ended unexpectedly", count=4)
        server.wait_workers(4)
        until(lambda: not any(child.is_zombie for child in processes.children(server.pid)), "no zombie")
