# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

from snapshots import in_hand, seat, snapshot

from prefork.control import report
from prefork.control.report import STATES, Listening, Totals
from prefork.supervisor.children import State


def test_the_states_are_those_of_the_supervisor() -> None:
    assert tuple(state.value for state in State) == STATES


def test_sums_are_added_one_by_one() -> None:
    assert Totals(1, 2, 3, 0.5, 4).plus(Totals(10, 20, 30, 1.5, 40)) == Totals(11, 22, 33, 2.0, 44)


def test_the_mean_of_nothing_is_not_known() -> None:
    assert Totals().mean_queued is None
    assert Totals(queued=0.5, measured=10).mean_queued == 0.05


def test_a_status_counts_workers_by_state() -> None:
    found = report.status(
        snapshot(seat(0), seat(1, state="booting"), seat(2, state="stopping"), seat(3), target=3)
    )
    assert found["workers"] == {
        "target": 3,
        "booting": 1,
        "ready": 2,
        "retiring": 0,
        "stopping": 1,
        "aborted": 0,
        "killed": 0,
    }


def test_a_status_has_all_facts_as_json() -> None:
    found = report.status(snapshot(rolled_back="exit code 3"))
    assert json.loads(json.dumps(found)) == {
        "version": "1.2.3",
        "pid": 999,
        "uptime": 3700.0,
        "mode": "running",
        "generation": 1,
        "rolled_back": "exit code 3",
        "upgrade": None,
        "workers": {"target": 0, **dict.fromkeys(STATES, 0)},
        "listeners": [{"url": "http://127.0.0.1:8000", "waiting": 3, "closing": False}],
        "requests": 100,
        "errors": 2,
        "shed": 1,
        "kills": {"timeout": 2, "memory": 0, "operator": 1},
        "templates": [],
        "reforks": {"done": 0, "failed": 0},
        "queue_time": 0.05,
        "measured": 10,
    }


def test_what_is_not_known_is_null() -> None:
    unknown = Listening("unix:/run/a", None, closing=True)
    found = report.status(snapshot(totals=Totals(), listeners=(unknown,)))
    assert found["queue_time"] is None
    assert found["rolled_back"] is None
    assert found["listeners"] == [{"url": "unix:/run/a", "waiting": None, "closing": True}]


def test_workers_are_in_the_order_of_their_slots_with_the_oldest_request() -> None:
    rows = report.workers(snapshot(seat(3), seat(1, busy=2, oldest=in_hand(age=2.50049))))["workers"]
    assert [row["slot"] for row in rows] == [1, 3]
    assert rows[0]["oldest"] == {"method": "GET", "target": "/slow", "age": 2.5, "phase": "application"}
    assert rows[1]["oldest"] is None
    assert json.loads(json.dumps(rows)) == rows
