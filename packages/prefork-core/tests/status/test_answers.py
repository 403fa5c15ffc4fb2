# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from snapshots import seat, snapshot

from prefork.control import metrics, report
from prefork.status.answers import Facts, answer
from prefork.status.health import LATE

if TYPE_CHECKING:
    from prefork.control.report import Snapshot

SERVER = snapshot(seat(0), seat(1, busy=2))


def ask(
    path: str, found: Snapshot | None = SERVER, *, idle: float = 0.0, method: str = "GET"
) -> tuple[int, str]:
    head, body = answer(method, path, lambda: Facts(idle, found))
    return head.status, body.decode()


def test_a_probe_is_told_in_one_line() -> None:
    assert ask("/livez") == (200, "live\n")
    assert ask("/readyz") == (200, "ready\n")
    assert ask("/livez", idle=60.0) == (503, "the arbiter has not moved for 60 s\n")
    assert ask("/readyz", snapshot(seat(), mode="draining")) == (503, "stopping\n")


def test_workers_serve_on_though_the_arbiter_does_not_move() -> None:
    assert ask("/readyz", idle=60.0) == (200, "ready\n")


@pytest.mark.parametrize("path", ["/readyz", "/status", "/metrics"])
def test_before_the_arbiter_has_said_anything_the_server_starts(path: str) -> None:
    assert ask(path, None) == (503, "starting\n")
    assert ask("/livez", None) == (200, "live\n")


def status(found: Snapshot = SERVER, idle: float = 0.0) -> dict[str, Any]:
    code, body = ask("/status", found, idle=idle)
    assert code == 200
    answered = json.loads(body)
    assert isinstance(answered, dict)
    return answered


def test_the_status_is_that_of_the_control_socket_and_both_verdicts() -> None:
    assert status() == {"live": True, "ready": True, **json.loads(json.dumps(report.status(SERVER)))}
    assert status(snapshot(mode="draining"))["ready"] is False


def test_the_metrics_are_those_of_the_control_socket() -> None:
    assert ask("/metrics") == (200, metrics.text(SERVER))


def test_queues_that_nobody_has_looked_at_are_not_known() -> None:
    assert status()["listeners"][0]["waiting"] == 3
    late = status(idle=LATE + 1)
    assert (late["live"], late["listeners"][0]["waiting"]) == (False, None)
    assert "prefork_listener_queue{" not in ask("/metrics", idle=LATE + 1)[1]


@pytest.mark.parametrize("path", ["/", "/livez/", "/LIVEZ", "*", ""])
def test_other_paths_are_told_which_there_are(path: str) -> None:
    assert ask(path) == (404, "there is /livez, /readyz, /status, /metrics\n")


def test_only_who_wants_to_know_is_answered() -> None:
    assert ask("/livez", method="POST") == (405, "only GET and HEAD\n")
    assert ask("/livez", method="HEAD") == (200, "live\n")


def test_nobody_is_to_keep_an_answer() -> None:
    head, _ = answer("GET", "/livez", lambda: Facts(0.0, SERVER))
    assert "\r\nCache-Control: no-store" in head.fields
