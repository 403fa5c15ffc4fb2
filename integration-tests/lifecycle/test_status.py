# SPDX-License-Identifier: MIT
"""The status listener: it answers whatever the workers and the arbiter do, and is always there again."""

from __future__ import annotations

import json
import os
import pwd
import signal
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from support import control
from support.application import deploy, hold_in_each, release
from support.control import FLAGS
from support.server import Server

from prefork.testing import client, processes
from prefork.testing.client import RequestFailed
from prefork.testing.server import free_port
from prefork.testing.waiting import until

SOON: Final = 2.0
"""Seconds for an answer, on a busy machine; one that waits for a worker takes as long as the test."""
WAITS: Final = "hold_boot = [time.sleep(0.01) for _ in iter(lambda: os.path.exists('go'), True)]"


class Probe:
    """A status listener, as who probes it knows it.

    Args:
        folder: where its socket is.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "status.sock"
        self.flags = f"--status-bind unix:{self.path}"

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of an answer."""
        answer = client.ask(str(self.path), path)
        return answer.status, answer.body.decode()

    def status(self) -> Any:
        """Return the answer at /status."""
        code, body = self.ask("/status")
        assert code == 200
        return json.loads(body)

    def wait(self, path: str, answer: tuple[int, str]) -> None:
        """Wait until there is a certain answer; none at all is none yet."""

        def says() -> bool:
            try:
                return self.ask(path) == answer
            except RequestFailed:
                return False

        until(says, f"{answer} at {path}")

    def is_there(self) -> bool:
        """Whether anybody can connect."""
        try:
            client.connect(str(self.path)).close()
        except RequestFailed:
            return False
        return True


class Poll:
    """A balancer that asks again and again whether the server is ready, for a `with` statement.

    Args:
        probe: whom it asks.

    Attributes:
        count: how often it has been told so.
        others: whatever else happened.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0
        self.others: list[object] = []

    def _run(self) -> None:
        while not self._over.wait(0.01):
            try:
                answer = self._probe.ask("/readyz")
            except RequestFailed as failure:
                self.others.append(failure)
                continue
            if answer == (200, "ready\n"):
                self.count += 1
            else:
                self.others.append(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def one_of(server: Server) -> int:
    """Wait until there is one status process, and return its pid."""
    until(lambda: len(server.statuses()) == 1, "one status process")
    return server.statuses()[0]


def test_it_answers_at_once_while_every_worker_is_stuck(tmp_path: Path) -> None:
    """Busy ones, and such as a signal has stopped."""
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 2 {FLAGS} {probe.flags} app:app") as server, ExitStack() as stack:
        held = hold_in_each(server, 2, stack)
        names = [name for pairs in held.values() for name, _ in pairs]
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        for path in ("/livez", "/readyz", "/status", "/metrics"):
            took = []
            for _ in range(20):
                began = time.perf_counter()
                assert probe.ask(path)[0] == 200
                took.append(time.perf_counter() - began)
            print(f"{path}: median {statistics.median(took) * 1e3:.2f} ms, most {max(took) * 1e3:.2f} ms")
            assert statistics.median(took) < SOON
        metrics = probe.ask("/metrics")[1].splitlines()
        busy = sum(len(pairs) for pairs in held.values())
        assert f"prefork_threads_busy {busy}" in metrics
        # The same as on the control socket, and the verdicts.
        told, asked = control.ask(tmp_path, "status"), probe.status()
        for facts in (told, asked):
            facts.pop("uptime")
        assert asked == {"live": True, "ready": True, **told}
        for pid in held:
            os.kill(pid, signal.SIGCONT)
        release(server, *names)
        for pairs in held.values():
            assert all(client.read_answer(sock).status == 200 for _, sock in pairs)


def test_it_says_that_the_arbiter_does_not_move_any_more(tmp_path: Path) -> None:
    """Workers serve on, so the server is ready all the same."""
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 {probe.flags} app:app") as server:
        probe.wait("/readyz", (200, "ready\n"))
        server.signal(signal.SIGSTOP)
        try:
            until(lambda: probe.ask("/livez")[0] == 503, "an arbiter that does not move")
            assert probe.ask("/livez")[1].startswith("the arbiter has not moved for ")
            assert probe.ask("/readyz") == (200, "ready\n")
            assert probe.status()["listeners"][0]["waiting"] is None
            assert server.ask().status == 200
        finally:
            server.signal(signal.SIGCONT)
        probe.wait("/livez", (200, "live\n"))


def test_it_is_ready_from_the_first_worker_to_the_order_to_stop(tmp_path: Path) -> None:
    """While it is asked to the very end, and clients are served on during drain_delay."""
    deploy(tmp_path, boot=WAITS)
    probe = Probe(tmp_path)
    arguments = f"-w 1 --drain-delay 60 {probe.flags} app:app"
    with Server(tmp_path, arguments, ready=False) as server:
        probe.wait("/readyz", (503, "starting: no worker is ready yet (1 booting)\n"))
        assert probe.ask("/livez") == (200, "live\n")
        (tmp_path / "go").touch()
        probe.wait("/readyz", (200, "ready\n"))
        assert server.ask().status == 200
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_log("ended unexpectedly")
        probe.wait("/readyz", (200, "ready\n"))
        server.signal(signal.SIGTERM)
        os.kill(one_of(server), signal.SIGTERM)  # as systemd sends it to all of them
        probe.wait("/readyz", (503, "stopping\n"))
        assert server.ask().status == 200
        assert probe.ask("/livez") == (200, "live\n")
        server.stop(signal.SIGINT)
    assert not probe.path.exists()


def test_one_that_is_killed_or_hangs_is_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 {probe.flags} app:app") as server:
        first = one_of(server)
        os.kill(first, signal.SIGKILL)
        end = "ended: killed by SIGKILL; the next one starts in 0.1 s"
        server.wait_log(f"status process {first} (generation 1) {end}")
        probe.wait("/readyz", (200, "ready\n"))
        second = one_of(server)
        os.kill(second, signal.SIGSTOP)
        server.wait_log(f"status process {second} (generation 1) does not answer any more: sending SIGKILL")
        probe.wait("/readyz", (200, "ready\n"))
        assert one_of(server) not in {first, second}
        assert server.ask().status == 200


def test_it_ends_with_an_arbiter_that_is_killed(tmp_path: Path) -> None:
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 {probe.flags} app:app", expect=-signal.SIGKILL) as server:
        one_of(server)
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        until(lambda: not server.belonging(), "the end of all processes")
        assert not probe.path.exists()


def test_a_reload_moves_it_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    probes = [Probe(tmp_path), Probe(tmp_path / "other")]
    first, second = probes
    second.path.parent.mkdir()
    config = tmp_path / "prefork.toml"

    def name(*found: Probe) -> None:
        binds = [f"unix:{each.path}" for each in found]
        config.write_text(f"workers = 1\nstatus_bind = {json.dumps(binds)}\n")

    deploy(tmp_path)
    name(first)
    with Server(tmp_path, "app:app") as server:
        old = one_of(server)
        # A reload that fails.
        deploy(tmp_path, boot="1 / 0")
        name(second)
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        assert first.ask("/readyz") == (200, "ready\n")
        assert first.status()["rolled_back"]
        assert server.statuses() == [old]
        assert not second.is_there()
        # One that does not.
        deploy(tmp_path)
        server.signal(signal.SIGHUP)
        second.wait("/readyz", (200, "ready\n"))
        until(lambda: not first.is_there(), "the old listener closed")
        assert not first.path.exists()
        assert second.status()["generation"] == 3
        # One that removes it.
        name()
        server.signal(signal.SIGHUP)
        until(lambda: not server.statuses(), "no status process")
        until(lambda: not second.path.exists(), "no listener")
        # And one that brings it back.
        name(first)
        server.signal(signal.SIGHUP)
        first.wait("/readyz", (200, "ready\n"))


def test_an_upgrade_is_never_unready(tmp_path: Path) -> None:
    """One arbiter of the two answers, and the other one when that has gone; also where a new one fails."""
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 -p pid {FLAGS} {probe.flags} app:app") as server, ExitStack() as stack:
        probe.wait("/readyz", (200, "ready\n"))
        poll = stack.enter_context(Poll(probe))
        deploy(tmp_path, boot="1 / 0")
        broken = control.start(tmp_path, "upgrade")
        assert broken.communicate(timeout=20)
        assert broken.returncode == 1
        assert probe.status()["upgrade"].startswith("failed: ")
        deploy(tmp_path)
        done = control.start(tmp_path, "upgrade")
        assert done.communicate(timeout=20)
        assert done.returncode == 0
        assert server.wait_exit() == 0
        server.follow(int((tmp_path / "pid").read_text()))
        before = poll.count
        until(lambda: poll.count > before + 5, "more answers")
        assert poll.others == []
        assert probe.status()["pid"] == server.pid
        one_of(server)
    assert not probe.path.exists()


def test_an_address_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    deploy(tmp_path)
    (tmp_path / "status.sock").write_text("no socket")
    probe = Probe(tmp_path)
    with Server(tmp_path, f"{probe.flags} app:app", ready=False, expect=1) as server:
        assert server.wait_exit() == 1
        assert "status.sock: the path exists and is not a socket" in server.log()
        assert "booting" not in server.log()


def sockets(pid: int) -> set[str]:
    return {name for name in processes.descriptors(pid) if name.startswith("socket:")}


def test_it_has_only_what_it_needs() -> None:
    """Neither the application, nor its listeners, nor the rights of who started the server."""
    who = pwd.getpwnam("nobody")
    rights = f"--user {who.pw_uid} --group {who.pw_gid}" if os.geteuid() == 0 else ""
    address = ("127.0.0.1", free_port())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        deploy(folder, boot="ballast = bytearray(os.urandom(1000)) * 50_000")
        arguments = f"-w 2 --preload {rights} --status-bind 127.0.0.1:{address[1]} app:app"
        with Server(folder, arguments) as server:
            pid = one_of(server)
            until(lambda: client.ask(address, "/readyz").status == 200, "a server that is ready")
            found = processes.look(pid)
            assert found is not None
            assert found.parent == server.pid
            until(lambda: len(sockets(pid)) == 2, "only its listener, and its end of the arbiter's channel")
            assert not any(sockets(pid) & sockets(worker) for worker in server.workers())
            if rights:
                assert set(processes.status(pid, "Uid").split()) == {str(who.pw_uid)}
            memory = processes.memory(pid)
            own = memory["Private_Clean"] + memory["Private_Dirty"]
            print(f"memory of its own: {own} KiB")
            assert own < 20_000


def test_probes_are_answered_while_others_hold_connections(tmp_path: Path) -> None:
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 {probe.flags} app:app") as server, ExitStack() as stack:
        probe.wait("/readyz", (200, "ready\n"))
        for _ in range(300):
            sock = stack.enter_context(client.connect(str(probe.path)))
            client.send(sock, b"GET /readyz HTTP/1.1\r\nHost")
        assert probe.ask("/readyz") == (200, "ready\n")
        assert server.ask().status == 200


def test_probes_leave_no_line_in_the_access_log(tmp_path: Path) -> None:
    deploy(tmp_path)
    probe = Probe(tmp_path)
    with Server(tmp_path, f"-w 1 --access-logfile - {probe.flags} app:app") as server:
        probe.wait("/readyz", (200, "ready\n"))
        server.ask("/counted")
        server.wait_log("GET /counted")
        assert "readyz" not in server.log()
        assert probe.status()["requests"] == 2, "the one that waited for the server, and this"
