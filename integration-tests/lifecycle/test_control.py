# SPDX-License-Identifier: MIT
"""The control socket of a real server, and `preforkctl`."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from folders import public_folder
from support import control
from support.application import deploy, hold, hold_in_each, release
from support.control import FLAGS, SOCKET, ctl, ctl_json
from support.server import Server
from support.workers import UNDER_BOTH, WorkerClass

from prefork.testing import client, processes
from prefork.testing.load import Load
from prefork.testing.server import clean_environ
from prefork.testing.waiting import until

SOON = 2.0
"""Seconds for an answer, on a busy machine; one that waits for a worker takes as long as the test."""


# What it shows


@UNDER_BOTH
def test_it_answers_at_once_while_every_worker_is_stuck(tmp_path: Path, worker_class: WorkerClass) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 2 {FLAGS} app:app") as server, ExitStack() as stack:
        held = hold_in_each(server, 2, stack)
        names = [name for pairs in held.values() for name, _ in pairs]
        while len(names) < 2 * worker_class.threads:
            names.append(f"more-{len(names)}")
            stack.enter_context(hold(server, names[-1]))
        times = {}
        for command in ("status", "workers", "settings", "metrics"):
            took = []
            for _ in range(20):
                began = time.perf_counter()
                control.ask(tmp_path, command)
                took.append(time.perf_counter() - began)
            times[command] = took
            print(
                f"{command}: median {statistics.median(took) * 1000:.2f} ms, most {max(took) * 1000:.2f} ms"
            )
        assert max(statistics.median(took) for took in times.values()) < SOON
        rows = ctl_json(tmp_path, "workers")["workers"]
        assert {row["pid"] for row in rows} == set(held)
        assert all(row["busy"] == row["threads"] == worker_class.threads for row in rows)
        assert all(row["oldest"]["target"].startswith("/hold/") for row in rows)
        assert all(row["oldest"]["phase"] == "application" for row in rows)
        assert re.search(r"ready .* GET /hold/each-\d+ \(application, ", ctl(tmp_path, "workers")[0])
        release(server, *names)


def test_the_queue_of_a_listener_is_shown(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 -k sync --threads 1 {FLAGS} app:app") as server, ExitStack() as stack:
        stack.enter_context(hold(server, "a"))
        waiting = [stack.enter_context(client.connect(server.address)) for _ in range(3)]
        for sock in waiting:
            client.send(sock, client.render("/waits"))
        until(lambda: control.ask(tmp_path, "status")["listeners"][0]["waiting"] == 3, "three in the queue")
        assert "(3 waiting)" in ctl(tmp_path, "status")[0]
        release(server, "a")
        assert all(client.read_answer(sock).status == 200 for sock in waiting)


def test_settings_and_metrics_are_those_of_the_server(tmp_path: Path) -> None:
    deploy(tmp_path)
    (tmp_path / "prefork.toml").write_text(f'workers = 2\ncontrol_socket = "{tmp_path}/{SOCKET}"\n')
    with Server(tmp_path, "--timeout 1m app:app") as server:
        rows = {row["name"]: row for row in ctl_json(tmp_path, "settings")["settings"]}
        assert (rows["timeout"]["value"], rows["timeout"]["origin"]) == (60, "flag --timeout")
        assert (rows["workers"]["value"], rows["workers"]["origin"]) == (2, "prefork.toml:1")
        before = ctl(tmp_path, "metrics")[0]
        for _ in range(5):
            server.ask()
        found = re.search(r"^prefork_requests_total (\d+)$", before, re.MULTILINE)
        assert found
        until(lambda: ctl_json(tmp_path, "status")["requests"] == int(found[1]) + 5, "five more requests")
        named = subprocess.run(
            [*control.COMMAND, "-c", "prefork.toml", "status"],
            cwd=tmp_path,
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"pid {server.pid}" in named.stdout


def test_the_memory_of_workers_is_shown_where_it_is_limited(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 --max-worker-memory 1g {FLAGS} app:app"):

        def memory() -> int:
            (row,) = ctl_json(tmp_path, "workers")["workers"]
            return int(row["memory"] or 0)

        shown = until(memory, "a worker that was weighed")
        assert 2**20 < shown < 2**30
        assert " MiB" in ctl(tmp_path, "workers")[0]


def test_totals_outlive_the_workers(tmp_path: Path) -> None:
    """Each figure is at least as large as the one before, over recycling, reloads and kills."""
    deploy(tmp_path)
    with Server(tmp_path, f"-w 2 --max-requests 20 {FLAGS} app:app") as server, Load(server.address) as load:
        seen = [0]
        for turn in range(3):
            load.wait(200)
            seen.append(control.ask(tmp_path, "status")["requests"])
            if turn == 0:
                ctl(tmp_path, "reload")
            seen.append(control.ask(tmp_path, "status")["requests"])
        load.finish()
        load.check()
        assert seen == sorted(seen)
        # The one that asked whether the server is ready has been answered too.
        until(
            lambda: control.ask(tmp_path, "status")["requests"] == load.answered + 1, "every request counted"
        )


# What it does


@UNDER_BOTH
def test_stacks_show_where_each_worker_is(tmp_path: Path, worker_class: WorkerClass) -> None:
    """And the workers serve on."""
    deploy(tmp_path)
    with Server(tmp_path, f"-w 2 {FLAGS} app:app") as server, hold(server, "stuck") as sock:
        out, _ = ctl(tmp_path, "stacks")
        assert out.count("(slot ") == 2
        assert "on GET /hold/stuck (in the application, " in out
        assert "in hold\n" in out
        (row,) = [row for row in ctl_json(tmp_path, "workers")["workers"] if row["oldest"]]
        assert "in hold\n" in ctl(tmp_path, "stacks", str(row["slot"]))[0]
        assert "there is no worker in slot 77" in ctl(tmp_path, "stacks", "77", expect=1)[1]
        release(server, "stuck")
        assert client.read_answer(sock).status == 200
        assert len(server.workers()) == 2
        assert worker_class.name in server.log()


def test_a_reload_returns_when_the_new_code_serves(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, f"-w 2 {FLAGS} app:app") as server:
        old = server.wait_workers(2)
        deploy(tmp_path, "two", boot="time.sleep(0.5)")
        out, _ = ctl(tmp_path, "reload")
        assert out.startswith("generation 2 serves, after ")
        assert server.ask().text.startswith("two")
        until(lambda: not set(old) & set(server.workers()), "the old workers gone")
        assert ctl_json(tmp_path, "status")["generation"] == 2


@pytest.mark.parametrize(
    ("boot", "why"),
    [
        ("raise RuntimeError('no such table')", "exit code 3: it could not boot"),
        ("os._exit(9)", "exit code 9"),
    ],
)
def test_a_reload_that_is_rolled_back_fails_with_the_reason(tmp_path: Path, boot: str, why: str) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, f"-w 2 {FLAGS} app:app") as server:
        deploy(tmp_path, "two", boot=boot)
        out, err = ctl(tmp_path, "reload", expect=1)
        assert out == ""
        assert err.startswith("preforkctl: error: the reload was rolled back: worker ")
        assert why in err
        assert server.ask().text.startswith("one")
        assert why in ctl_json(tmp_path, "status")["rolled_back"]


def test_a_reload_with_a_wrong_configuration_is_refused(tmp_path: Path) -> None:
    deploy(tmp_path)
    config = tmp_path / "prefork.toml"
    config.write_text("workers = 2\n")
    with Server(tmp_path, f"{FLAGS} app:app"):
        config.write_text("wokers = 3\n")
        _, err = ctl(tmp_path, "reload", expect=1)
        assert "wokers" in err
        config.write_text("workers = 1\n")
        ctl(tmp_path, "reload")
        assert ctl_json(tmp_path, "status")["workers"]["target"] == 1


def test_the_socket_stays_where_it_is_when_a_reload_changes_it(tmp_path: Path) -> None:
    deploy(tmp_path)
    config = tmp_path / "prefork.toml"
    config.write_text(f'workers = 1\ncontrol_socket = "{SOCKET}"\n')
    with Server(tmp_path, "app:app") as server:
        config.write_text('workers = 1\ncontrol_socket = "elsewhere"\n')
        ctl(tmp_path, "reload")
        server.wait_log("control_socket has changed: that takes effect at the next start")
        assert ctl_json(tmp_path, "status")["generation"] == 2
        assert not (tmp_path / "elsewhere").exists()


def test_a_scale_changes_the_number_of_workers(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app") as server:
        assert ctl(tmp_path, "scale", "3")[0] == "workers: 3 (were 1)\n"
        server.wait_workers(3)
        assert ctl_json(tmp_path, "scale", "2") == {"target": 2, "was": 3}
        server.wait_workers(2)
        ctl(tmp_path, "scale", "0", expect=2)


def test_a_stop_returns_when_nothing_is_left(tmp_path: Path) -> None:
    deploy(tmp_path)
    flags = f"-w 2 -p server.pid --bind unix:web.sock {FLAGS}"
    with Server(tmp_path, f"{flags} app:app") as server, hold(server, "a") as sock:
        stopping = control.start(tmp_path, "stop")
        control.wait_status(server, mode="draining")
        assert stopping.poll() is None
        release(server, "a")
        assert client.read_answer(sock).status == 200
        out, _ = stopping.communicate(timeout=20)
        assert (stopping.returncode, out) == (0, "stopped: exit code 0\n")
        assert not {"server.pid", "web.sock", SOCKET} & set(os.listdir(tmp_path))
        assert server.workers() == []
        ctl(tmp_path, "status", expect=3)


def test_a_quick_stop_drops_what_runs(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app") as server, hold(server, "a") as sock:
        began = time.monotonic()
        ctl(tmp_path, "stop", "--quick")
        assert time.monotonic() - began < 10
        with pytest.raises(client.RequestFailed):
            client.read_answer(sock)


def test_the_worker_in_a_slot_is_killed_and_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 2 {FLAGS} app:app") as server, hold(server, "stuck") as sock:
        rows = ctl_json(tmp_path, "workers")["workers"]
        (stuck,) = [row for row in rows if row["oldest"]]
        ctl(tmp_path, "kill-slot", str(stuck["slot"]))
        with pytest.raises(client.RequestFailed):
            client.read_answer(sock)
        until(lambda: stuck["pid"] not in server.workers(), "its end")
        control.wait_status(server, ready=2)
        server.wait_log("was given up by the operator, on GET /hold/stuck (in the application, ")
        assert "ended unexpectedly" not in server.log()
        assert ctl_json(tmp_path, "status")["kills"]["operator"] == 1
        _, err = ctl(tmp_path, "kill-slot", "77", expect=1)
        assert "there is no worker in slot 77" in err


# Who may


def test_the_socket_is_closed_to_all_others(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 --umask 0 {FLAGS} app:app"):
        found = (tmp_path / SOCKET).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_kernel_is_asked_who_it_is_whatever_the_mode_says(tmp_path: Path) -> None:
    deploy(tmp_path)
    probe = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.setgid(65534); os.setuid(65534); "
        "s.connect(sys.argv[1]); print(s.makefile().read())"
    )
    with public_folder() as folder:
        with Server(tmp_path, f"-w 1 --control-socket {folder}/{SOCKET} app:app"):
            os.chmod(f"{folder}/{SOCKET}", 0o666)
            command = [sys.executable, "-c", probe, f"{folder}/{SOCKET}"]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert '"trouble":"denied"' in run.stdout


# What it survives


def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app", expect=-signal.SIGKILL) as server:
        server.signal(signal.SIGKILL)
        server.wait_exit()
        until(lambda: all(found.is_zombie for found in server.belonging()), "the workers' end")
    ctl(tmp_path, "status", expect=3)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app"):
        assert ctl_json(tmp_path, "status")["mode"] == "running"


def test_a_second_server_does_not_take_the_socket_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    deploy(tmp_path)
    deploy(folder)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app") as first:
        flags = f"-w 1 --control-socket {tmp_path}/{SOCKET}"
        with Server(folder, f"{flags} app:app", ready=False, expect=1) as second:
            assert second.wait_exit() == 1
            assert "control_socket: cannot listen on" in second.log()
        assert ctl_json(tmp_path, "status")["pid"] == first.pid


def test_workers_hold_nothing_of_it(tmp_path: Path) -> None:
    """Not even those that are forked while clients are connected: their end must be seen."""
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app") as server, control.connect(tmp_path) as sock:
        sock.sendall(b'{"command":"status"}\n')
        assert sock.recv(1)
        control.ask(tmp_path, "scale", workers=3)
        control.wait_status(server, ready=3)
        for pid in server.wait_workers(3):
            held = [name for name in processes.descriptors(pid) if name.startswith("socket:")]
            assert len(held) == 2  # the listener, and its end of the channel to the arbiter


def test_silent_clients_cost_nothing_and_are_dropped(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app") as server, ExitStack() as stack:
        silent = [stack.enter_context(control.connect(tmp_path)) for _ in range(31)]
        for sock in silent[::2]:
            sock.sendall(b'{"command":')
        began = time.perf_counter()
        assert control.ask(tmp_path, "status")["mode"] == "running"
        assert time.perf_counter() - began < SOON
        assert server.ask().status == 200
        ticks = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert all(sock.recv(1) == b"" for sock in silent)
        after = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        assert sum(map(int, after)) - sum(map(int, ticks)) < 50, "half a second of CPU for nothing"


def test_the_answer_can_be_had_with_a_shell_alone(tmp_path: Path) -> None:
    """A client that closes its side after the request, as nc and socat do, gets the answer and the end."""
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app"), control.connect(tmp_path) as sock:
        sock.sendall(b'{"command": "status"}\n')
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile() as file:
            assert file.read().count("\n") == 1
