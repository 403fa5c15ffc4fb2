# SPDX-License-Identifier: MIT
"""Whatever threads, deadlines and clients do at the same moment, no answer is wrong and none is lost."""

from __future__ import annotations

import signal
import time
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest
from support.racing import APPLICATION, Race
from support.server import Server

SHAPES: Final = {"8-threads": "-w 1 --threads 8", "2-threads": "-w 2 --threads 2"}
MINUTES: Final = 0.25
"""Of each shape in CI."""
KEEPALIVE: Final = 1
SWITCH_INTERVALS: Final = ("0.005", "0.0001", "0.000001")
"""Seconds that a thread may compute while others wait; the first is Python's own."""

ROUND: Final = 5.0
"""Seconds for which clients ask until the server is stopped, so that stops are many too."""


@pytest.mark.parametrize("shape", SHAPES)
def test_every_answer_is_the_right_one(tmp_path: Path, shape: str, pytestconfig: pytest.Config) -> None:
    """Under load from clients that do what they may, up to the end of a stop."""
    (tmp_path / "app.py").write_text(APPLICATION)
    over = time.monotonic() + (pytestconfig.getoption("--minutes") or MINUTES) * 60
    for interval in cycle(SWITCH_INTERVALS):
        race_until_a_stop(tmp_path, SHAPES[shape], interval)
        if time.monotonic() >= over:
            return


def race_until_a_stop(folder: Path, arguments: str, interval: str) -> None:
    arguments += f" -k gthread --keep-alive {KEEPALIVE} app:app"
    with Server(folder, arguments, environ={"SWITCH_INTERVAL": interval}, ready=False) as server:
        server.wait_log("ready after")
        with Race(server.address, KEEPALIVE) as race:
            race.ending.wait(ROUND)
            race.stopping = True
            server.signal(signal.SIGTERM)
            assert server.wait_exit() == 0
            race.wait_end()
        race.check()
        assert "Traceback" not in server.log().replace("ClientDisconnected", "")
        assert "ended unexpectedly" not in server.log()
