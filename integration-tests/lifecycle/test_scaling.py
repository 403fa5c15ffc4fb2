# SPDX-License-Identifier: MIT
"""The number of workers follows the operator, and the load, without a request lost."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy, hold, release
from support.server import Server
from support.workers import GTHREAD, SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing.client import read_answer
from prefork.testing.load import CLIENTS, Load
from prefork.testing.processes import is_running
from prefork.testing.waiting import PATIENCE, until

pytestmark = UNDER_BOTH

SLOWEST: Final = 200
"""Requests a second that any machine answers while workers are replaced all the time."""
LONG: Final = 100_000
"""Requests from which on a machine may once have had something else to do for a second."""


def test_ttin_and_ttou_change_the_number_of_workers(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server, Load(server.address) as load:
        load.wait()
        for count in (2, 3, 4):
            server.signal(signal.SIGTTIN)
            server.wait_workers(count)
        server.wait_log("ready", count=4)
        until(lambda: len(load.pids) == 4, "answers of all four")
        for count in (3, 2, 1):
            server.signal(signal.SIGTTOU)
            server.wait_workers(count)
        load.wait()
        server.signal(signal.SIGTTOU)
        server.signal(signal.SIGTTIN)
        server.wait_workers(2)  # the one before has not taken the last worker away
        load.wait()
        load.check()


def test_a_busy_worker_that_is_too_many_finishes_its_request(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as first, hold(server, "b") as second:
        server.signal(signal.SIGTTOU)
        server.wait_log("workers: 1 (were 2)")
        release(server, "a", "b")
        assert read_answer(first).status == read_answer(second).status == 200
        server.wait_workers(1)


def test_winch_is_ignored_in_the_foreground(tmp_path: Path) -> None:
    """A terminal sends it to the whole process group whenever its window changes."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --log-level debug app:app") as server, Load(server.address) as load:
        load.wait()
        workers = server.workers()
        server.signal(signal.SIGWINCH, to_all=True)
        server.wait_log("SIGWINCH ignored")
        load.wait()
        load.check()
        assert server.workers() == workers


def test_max_requests_replaces_workers_without_a_loss(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each successor is ready before its worker leaves, however many there are."""
    deploy(tmp_path)
    requests = pytestconfig.getoption("--recycled")
    with (
        Server(tmp_path, "-w 2 --max-requests 50 --error-logfile error.log app:app") as server,
        Load(server.address, interval=0) as closing,
        Load(server.address, interval=0, keep=True, first=CLIENTS) as keeping,
    ):
        loads = (closing, keeping)
        until(
            lambda: len(closing.pids) >= 8 and sum(load.answered for load in loads) >= requests,
            f"six successors, and {requests} answers",
            PATIENCE + requests / SLOWEST,
        )
        for load in loads:
            load.finish()
            load.check()
        # In the long run there may be a moment in which the machine has something else to do.
        assert requests >= LONG or closing.longest_gap < PATIENCE / 4
        assert "unexpectedly" not in (tmp_path / "error.log").read_text()
        server.wait_workers(2)
        ended = (tmp_path / "error.log").read_text().count("has served its share")
        print(f"--- {sum(load.answered for load in loads)} answered, {ended} workers replaced")


def test_a_worker_stays_when_its_successor_cannot_boot(tmp_path: Path) -> None:
    """Code that is broken now must not turn recycling into an outage."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --max-requests 50 app:app") as server, Load(server.address) as load:
        deploy(tmp_path, "two", boot="raise RuntimeError('broken meanwhile')")
        server.wait_log("broken meanwhile", count=2)
        server.wait_log("the next worker starts in", count=2)
        load.wait(300)
        load.check()
        deploy(tmp_path, "two")
        load.wait_only_version("two")
        load.check()


def test_a_load_reaches_every_worker(tmp_path: Path) -> None:
    """Requests of a hundredth of a second: no worker sleeps while connections queue."""
    deploy(tmp_path, request="time.sleep(0.01)")
    with Server(tmp_path, "-w 4 app:app") as server, Load(server.address, clients=4, interval=0) as load:
        server.wait_log("ready", count=4)
        load.pids.clear()
        load.wait(400)
        assert len(load.pids) == 4
        assert min(load.pids.values()) > 20
        load.check()


def test_all_workers_are_those_of_the_arbiter(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 3 app:app") as server:
        workers = server.wait_workers(3)
    assert not any(map(is_running, workers))


# By load

SLOW: Final = "time.sleep(0.1)"
"""Many of them fit into one processor, so only threads are scarce."""


def test_a_saturated_server_has_all_workers_soon(tmp_path: Path, worker_class: WorkerClass) -> None:
    """Within two seconds on a machine that has nothing else to do; the figure is printed."""
    deploy(tmp_path, request=SLOW)
    clients = 8 * worker_class.threads
    with Server(tmp_path, "-w 1 --max-workers 4 app:app") as server:
        began = time.monotonic()
        with Load(server.address, clients=clients, interval=0) as load:
            server.wait_log("ready after", count=4)
            took = time.monotonic() - began
            until(lambda: len(load.pids) == 4, "answers of all four")
            load.check()
        print(f"--- saturation to four workers ready: {took:.2f} s")
        assert "workers: 4 (were 1): 100% of the threads busy" in server.log()


@only(GTHREAD)
def test_when_the_load_is_gone_workers_go_one_at_a_time_without_a_loss(tmp_path: Path) -> None:
    deploy(tmp_path, request=SLOW)
    with (
        Server(tmp_path, "-w 1 --max-workers 3 app:app") as server,
        Load(server.address, clients=1, interval=1) as load,
    ):
        with Load(server.address, clients=32, interval=0) as burst:
            server.wait_log("ready after", count=3)
        burst.check()
        until(lambda: len(server.workers()) == 1, "one worker", 60)
        load.wait(2)
        load.check()
        assert re.findall(r"workers: (\d) \(were \d\)", server.log()) == ["3", "2", "1"]


@only(SYNC)
def test_behind_a_unix_socket_there_is_scaling_too(tmp_path: Path) -> None:
    deploy(tmp_path, request=SLOW)
    address = str(tmp_path / "web.sock")
    with (
        Server(tmp_path, "-w 1 --max-workers 4 app:app", address=address) as server,
        Load(server.address, clients=32, interval=0) as load,
    ):
        server.wait_log("ready after", count=4)
        load.check()


@only(SYNC)
def test_ttou_takes_a_worker_from_a_server_that_is_saturated(tmp_path: Path) -> None:
    deploy(tmp_path, request=SLOW)
    with (
        Server(tmp_path, "-w 1 --max-workers 3 app:app") as server,
        Load(server.address, clients=8, interval=0) as load,
    ):
        server.wait_log("ready after", count=3)
        server.signal(signal.SIGTTOU)
        server.wait_log("workers: 1 to 2 as the load asks for")
        server.wait_workers(2)
        server.signal(signal.SIGHUP)
        server.wait_log("2 of 2 replaced")
        load.wait(50)  # more than a second of saturation
        load.check()
        assert len(server.workers()) == 2
