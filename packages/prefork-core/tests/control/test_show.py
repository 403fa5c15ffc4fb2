# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from snapshots import in_hand, seat, snapshot

from prefork.control import report, show
from prefork.control.protocol import Command
from prefork.control.report import Listening, Mould, Reforks, Totals


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ms"),
        (0.00025, "0.25 ms"),
        (0.5, "500 ms"),
        (2.54, "2.5 s"),
        (59.9, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert show.duration(seconds) == shown


def test_a_status_is_read_from_top_to_bottom() -> None:
    found = snapshot(seat(0), seat(1, state="booting"), target=2)
    assert show.status(report.status(found)) == (
        "server      prefork 1.2.3, pid 999, up 1 h 1 min\n"
        "mode        running, generation 1\n"
        "workers     1 ready of 2 (1 booting, 0 retiring, 0 stopping, 0 aborted, 0 killed)\n"
        "listening   http://127.0.0.1:8000 (3 waiting)\n"
        "requests    100 (2 errors, 1 turned away)\n"
        "queue time  50 ms on average (10 requests measured)\n"
        "kills       2 (timeout), 1 (operator)\n"
    )


def test_a_status_names_the_reason_of_a_roll_back_and_what_is_not_known() -> None:
    listeners = (Listening("unix:/run/a", None, closing=True),)
    text = show.status(
        report.status(snapshot(rolled_back="exit code 3", totals=Totals(), listeners=listeners))
    )
    assert "last reload rolled back: exit code 3\n" in text
    assert "listening   unix:/run/a (queue not known, closing)\n" in text
    assert "queue time  not measured\n" in text


@pytest.mark.parametrize("upgrade", ["arbiter 4712 is ready beside this one", ""])
def test_a_status_says_how_far_an_upgrade_is(upgrade: str) -> None:
    text = show.status(report.status(snapshot(upgrade=upgrade)))
    assert (f"upgrade     {upgrade}\n" in text) == bool(upgrade)
    assert ("upgrade" in text) == bool(upgrade)


def test_a_status_says_how_each_template_was_made() -> None:
    moulds = (Mould(70, 1, "stopping", 400.0, None), Mould(81, 1, "ready", 61.0, 512))
    text = show.status(report.status(snapshot(templates=moulds, reforks=Reforks(1, 2))))
    assert "template    pid 70, generation 1, stopping, up 6 min 40 s; has loaded the application\n" in text
    assert "template    pid 81, generation 1, ready, up 1 min 1 s; was a worker for 512 requests\n" in text
    assert "reforks     1 (2 failed)\n" in text


def test_without_kills_the_status_says_so() -> None:
    assert "kills       none\n" in show.status(report.status(snapshot(kills={"timeout": 0})))


def test_workers_are_a_table_with_aligned_columns() -> None:
    busy = seat(10, busy=2, requests=123456, oldest=in_hand(), memory=50 * 1024**2)
    last = "  10  1010    1  ready  1 min 1 s   2/4    123456       1      3     2  50.0 MiB  GET /slow"
    lines = show.workers(report.workers(snapshot(seat(1), busy))).splitlines()
    assert lines == [
        "SLOT   PID  GEN  STATE        AGE  BUSY  REQUESTS  ERRORS  CONNS  IDLE    MEMORY  REQUEST",
        "   1  1001    1  ready  1 min 1 s   0/4        10       1      3     2         -",
        f"{last} (application, 2.5 s, 1 more)",
    ]


def test_nothing_that_a_client_has_sent_steers_the_terminal() -> None:
    nasty = seat(0, busy=1, oldest=in_hand("/\x1b[2J\n\x9b"))
    text = show.workers(report.workers(snapshot(nasty)))
    assert text.replace("\n", "").isprintable()
    assert text.count("\n") == 2


def test_settings_are_a_table() -> None:
    rows = [
        {"name": "workers", "text": "4", "origin": "flag -w"},
        {"name": "pidfile", "text": "", "origin": "default"},
    ]
    assert show.settings({"settings": rows}) == (
        "SETTING  VALUE    FROM\nworkers  4        flag -w\npidfile  not set  default\n"
    )


def test_stacks_are_shown_below_what_their_worker_has_in_hand() -> None:
    rows = [
        {"words": "worker 7 (slot 0, generation 1), on GET /", "stacks": "Thread 0x1:\n  File \x1b[2J\n"},
        {"words": "worker 8 (slot 1, generation 1)", "stacks": ""},
    ]
    assert show.stacks({"workers": rows}) == (
        "worker 7 (slot 0, generation 1), on GET /\nThread 0x1:\n  File \N{REPLACEMENT CHARACTER}[2J\n"
        "\nworker 8 (slot 1, generation 1)\nnothing\n"
    )


def test_there_is_a_text_for_every_command() -> None:
    assert set(show.SHOWN) == {command.value for command in Command}


def test_what_was_done_is_said_in_a_line() -> None:
    assert show.reload({"generation": 3, "took": 2.04}) == "generation 3 serves, after 2.0 s\n"
    assert show.upgrade({"pid": 4712, "took": 2.04}) == "arbiter 4712 serves, after 2.0 s\n"
    assert show.scale({"target": 3, "was": 2}) == "workers: 3 (were 2)\n"
    assert show.stop({"exit_code": 0}) == "stopped: exit code 0\n"
    assert show.kill_slot({"pid": 7, "slot": 1}).startswith("worker 7 in slot 1 is being killed")
