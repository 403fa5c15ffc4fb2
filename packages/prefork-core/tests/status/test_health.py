# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from snapshots import seat, snapshot

from prefork.status.health import LATE, Health, live, ready


def test_a_server_is_alive_while_its_arbiter_turns() -> None:
    assert live(0.0) == Health(good=True, why="live")
    assert live(LATE).good
    assert live(LATE + 7.4) == Health(good=False, why="the arbiter has not moved for 12 s")


@pytest.mark.parametrize("state", ["ready", "retiring"])
@pytest.mark.parametrize("mode", ["running", "reloading"])
def test_one_worker_that_serves_is_enough(mode: str, state: str) -> None:
    assert ready(snapshot(seat(0, state="booting"), seat(1, state=state), mode=mode)) == (True, "ready")


@pytest.mark.parametrize("mode", ["delaying", "draining", "quitting", "ended"])
def test_a_server_that_stops_is_not_ready_though_it_serves_on(mode: str) -> None:
    assert ready(snapshot(seat(), mode=mode)) == (False, "stopping")


def test_one_that_starts_says_so() -> None:
    server = snapshot(seat(0, state="booting"), seat(1, state="booting"), mode="starting")
    assert ready(server) == (False, "starting: no worker is ready yet (2 booting)")


def test_one_without_a_worker_that_serves_says_what_there_is() -> None:
    server = snapshot(seat(0, state="booting"), seat(1, state="aborted"), seat(2, state="stopping"))
    assert ready(server) == (False, "no worker is ready (1 booting, 1 stopping, 1 aborted)")
    assert ready(snapshot(target=2)) == (False, "no worker is ready")


def test_one_that_is_to_have_none_says_so() -> None:
    assert ready(snapshot()) == (False, "parked: there are to be no workers")
