# SPDX-License-Identifier: MIT
"""Workers that are old or large are replaced, the successor first, without a request lost."""

from __future__ import annotations

from pathlib import Path

from support.application import deploy
from support.load import Load
from support.server import Server
from support.waiting import until
from support.workers import UNDER_BOTH

pytestmark = UNDER_BOTH


def test_workers_that_are_old_are_replaced_without_a_loss(tmp_path: Path) -> None:
    deploy(tmp_path)
    flags = "-w 2 --max-worker-lifetime 1s --max-worker-lifetime-jitter 500ms"
    with Server(tmp_path, f"{flags} app:app") as server, Load(server.address) as load:
        until(lambda: len(load.pids) >= 8, "six successors")
        assert server.log().count("is older than max_worker_lifetime (1 s): starting its successor") >= 6
        load.check()
        assert load.longest_gap < 1
        assert "unexpectedly" not in server.log()
