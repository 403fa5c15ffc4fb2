# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import Any

from prefork.control.register import Place, Register
from prefork.control.report import InHand, Listening, Totals
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.status.look import counted, snapshot
from prefork.supervisor.messages import Reason


def register(*places: Place, **other: Any) -> Register:
    """Return what an arbiter knows, but for what is given."""
    facts: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 999,
        "started": 1_700_000_000.0,
        "began": 100.0,
        "mode": "running",
        "generation": 2,
        "target": 1,
        "rolled_back": "",
        "upgrade": "",
        "places": places,
        "listeners": (Listening("http://127.0.0.1:8000", 3, closing=False),),
        "past": Totals(requests=7),
    }
    return Register(**{**facts, **other})


def place(slot: int = 0, state: str = "ready", memory: int = 0) -> Place:
    return Place(slot, 1000 + slot, 2, state, 150.0, memory)


def serving(board: Scoreboard, number: int = 0, threads: int = 2) -> Any:
    """Have a worker in a slot that is ready."""
    slot = board.slot(number)
    slot.clear(2, Stage.BOOTING, threads)
    slot.stage = Stage.READY
    return slot


def test_a_worker_is_shown_by_what_both_sides_know() -> None:
    board = Scoreboard(4)
    slot = serving(board, 3)
    slot.connections, slot.idle = 5, 4
    slot.thread(0).begin(b"GET /a", 190.0)
    slot.thread(0).end()
    slot.thread(1).begin(b"GET /slow", 195.0)
    found = snapshot(register(place(3, memory=2**20)), board, 200.0)
    (seat,) = found.seats
    assert (seat.slot, seat.pid, seat.generation, seat.state, seat.age) == (3, 1003, 2, "ready", 50.0)
    assert (seat.threads, seat.busy, seat.requests, seat.connections, seat.idle) == (2, 1, 1, 5, 4)
    assert seat.oldest == InHand("GET", "/slow", 5.0, "application")
    assert seat.memory == 2**20


def test_the_server_is_shown_by_what_the_arbiter_knows() -> None:
    board = Scoreboard(4)
    board.count_kill(Reason.TIMEOUT)
    found = snapshot(register(rolled_back="no"), board, 200.0)
    assert (found.version, found.pid, found.uptime, found.mode) == ("1.2.3", 999, 100.0, "running")
    assert (found.generation, found.target, found.rolled_back) == (2, 1, "no")
    assert found.listeners == (Listening("http://127.0.0.1:8000", 3, closing=False),)
    assert found.kills["timeout"] == 1


def test_sums_are_of_the_living_and_the_dead() -> None:
    board = Scoreboard(4)
    for number in (0, 1):
        record = serving(board, number).thread(0)
        record.begin(b"GET /", 1.0)
        record.count_queued(0.5)
        record.end()
    assert counted(board.slot(1)) == Totals(1, 0, 0, 0.5, 1)
    assert snapshot(register(place(0), place(1)), board, 200.0).totals == Totals(9, 0, 0, 1.0, 2)


def test_a_worker_that_is_about_to_be_forked_has_done_nothing() -> None:
    (seat,) = snapshot(register(place(0, "booting")), Scoreboard(4), 200.0).seats
    assert (seat.state, seat.busy, seat.requests, seat.oldest, seat.memory) == ("booting", 0, 0, None, None)


def test_who_serves_is_what_the_arbiter_says() -> None:
    """A status process that is told to end in an upgrade must not see that its workers leave."""
    board = Scoreboard(4)
    serving(board).stage = Stage.STOPPING
    assert snapshot(register(place(0, "ready")), board, 200.0).seats[0].state == "ready"
