# SPDX-License-Identifier: MIT
"""Connections that are kept open lose nothing either, whatever ends their worker."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy, hold_in_each, release
from support.server import Server
from support.workers import GTHREAD, UNDER_BOTH, only

from prefork.testing import client
from prefork.testing.client import RequestFailed, read_answer
from prefork.testing.load import Load

pytestmark = [UNDER_BOTH, only(GTHREAD)]

CLIENTS: Final = 12
"""More than two workers have threads."""

IDLE: Final = 100


def keep_asking(server: Server) -> Load:
    """Return clients that ask again and again over connections that they keep."""
    return Load(server.address, clients=CLIENTS, keep=True)


def keep(server: Server, count: int) -> list[client.Kept]:
    """Return connections on which one request was answered."""
    kept = [client.Kept(server.address) for _ in range(count)]
    for each in kept:
        assert not each.ask("/first").closing
    return kept


# One worker ends


def test_a_killed_worker_takes_its_own_connections_only(tmp_path: Path) -> None:
    """Each client had one request at most in it."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, keep_asking(server) as load:
        load.wait()
        for count in range(1, 4):
            os.kill(server.wait_workers(2)[0], signal.SIGKILL)
            server.wait_log("killed by SIGKILL", count=count)
            server.wait_log("ready after", count=2 + count)
            load.wait()
        assert len(load.lost) + load.retried <= 3 * CLIENTS
        assert not load.refused


def test_a_killed_worker_leaves_requests_of_its_sibling_alone(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, ExitStack() as stack:
        held = hold_in_each(server, 2, stack)
        victim, other = held
        os.kill(victim, signal.SIGKILL)
        server.wait_log("killed by SIGKILL")
        for _, sock in held[victim]:
            with pytest.raises(RequestFailed):
                read_answer(sock)
        for name, sock in held[other]:
            release(server, name)
            assert read_answer(sock).text.startswith(f"one {other} ")


def test_max_requests_replaces_workers_without_a_loss(tmp_path: Path) -> None:
    """A client learns from the answer that the connection ends."""
    deploy(tmp_path)
    with (
        Server(tmp_path, "-w 2 --max-requests 300 --max-requests-jitter 50 app:app") as server,
        keep_asking(server) as load,
    ):
        server.wait_log("ready after", count=6)
        load.wait()
        load.check()
        assert "unexpectedly" not in server.log()


# All workers end


def test_a_reload_loses_nothing(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, keep_asking(server) as load:
        load.wait()
        for number in range(1, 4):
            deploy(tmp_path, str(number))
            server.signal(signal.SIGHUP)
            load.wait_only_version(str(number))
            server.wait_log("2 of 2 replaced", count=number)
        load.check()


@pytest.mark.parametrize("to_all", [False, True], ids=["arbiter", "all processes"])
def test_a_stop_loses_nothing(tmp_path: Path, to_all: bool, pytestconfig: pytest.Config) -> None:
    deploy(tmp_path)
    for _ in range(pytestconfig.getoption("--stops")):
        with Server(tmp_path, "-w 2 app:app") as server, keep_asking(server) as load:
            load.wait(300)
            server.signal(signal.SIGTERM, to_all=to_all)
            load.outlast(server)


def test_idle_connections_are_closed_at_a_stop_and_busy_ones_are_answered(tmp_path: Path) -> None:
    """A connection without a request ends without a reset; one on which a request was sent has its answer."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, ExitStack() as stack:
        kept = keep(server, IDLE)
        for each in kept:
            stack.callback(each.close)
        for number, each in enumerate(kept[: IDLE // 2]):
            each.send(client.render(f"/last/{number}"))
        server.stop()
        for number, each in enumerate(kept[: IDLE // 2]):
            assert f" /last/{number}\n" in each.read().text
        for each in kept:
            assert each.ended()


def test_a_reload_closes_idle_connections_of_old_workers(tmp_path: Path) -> None:
    """Else they would outlive the code that they were opened with."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, ExitStack() as stack:
        kept = keep(server, IDLE)
        for each in kept:
            stack.callback(each.close)
        server.signal(signal.SIGHUP)
        server.wait_log("2 of 2 replaced")
        for each in kept:
            assert each.ended()
