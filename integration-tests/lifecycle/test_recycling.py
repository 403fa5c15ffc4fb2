# SPDX-License-Identifier: MIT
"""Workers that are old or large are replaced, the successor first, without a request lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from support.application import deploy
from support.server import Server
from support.workers import GTHREAD, UNDER_BOTH, only

from prefork.testing.client import RequestFailed
from prefork.testing.load import Load
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH


def test_workers_that_are_old_are_replaced_without_a_loss(tmp_path: Path) -> None:
    deploy(tmp_path)
    flags = "-w 2 --max-worker-lifetime 1s --max-worker-lifetime-jitter 500ms"
    with Server(tmp_path, f"{flags} app:app") as server, Load(server.address) as load:
        until(lambda: len(load.pids) >= 8, "six successors")
        assert server.log().count("is older than max_worker_lifetime (1 s): starting its successor") >= 6
        load.check()
        assert "unexpectedly" not in server.log()


def test_a_worker_that_grows_is_replaced_under_load_without_a_loss(tmp_path: Path) -> None:
    """40 KiB a request are kept for ever; at some hundreds of requests a second that is megabytes."""
    deploy(tmp_path, boot="kept = []", request="kept.append(os.urandom(40960))")
    flags = "-w 2 --max-worker-memory 24m"
    with Server(tmp_path, f"{flags} app:app") as server, Load(server.address) as load:
        server.wait_log("MiB of its own (max_worker_memory 24 MiB): starting its successor", timeout=40)
        until(lambda: len(load.pids) >= 3, "answers of a successor")
        load.wait(200)
        load.check()
        assert "unexpectedly" not in server.log()


@only(GTHREAD)
def test_a_worker_that_grows_beyond_the_hard_limit_is_killed_with_a_reason(tmp_path: Path) -> None:
    deploy(tmp_path, boot="kept = []", request="if path == '/grow': kept.append(os.urandom(100 << 20))")
    with Server(tmp_path, "-w 1 --max-worker-memory-hard 80m app:app") as server:
        with suppress(RequestFailed):  # it may be too large before it has answered
            server.ask("/grow")
        server.wait_log("MiB of its own (max_worker_memory_hard 80 MiB)")
        server.wait_log(": sending SIGABRT")
        server.wait_log("ready after", count=2)
        assert server.ask().status == 200


@only(GTHREAD)
def test_the_largest_worker_is_replaced_when_all_together_have_too_much(tmp_path: Path) -> None:
    deploy(tmp_path, boot="kept = []", request="if path == '/grow': kept.append(os.urandom(100 << 20))")
    with Server(tmp_path, "-w 2 --max-memory 90m app:app") as server, Load(server.address) as load:
        until(lambda: len(load.pids) == 2, "answers of both")
        load.wait(2000)  # a second after it is ready a worker is weighed for the first time
        assert server.ask("/grow").status == 200
        server.wait_log("of their own together (max_memory 90 MiB): starting its successor")
        server.wait_log("ready after", count=3)
        server.wait_workers(2)
        load.check()
