# SPDX-License-Identifier: MIT
"""The life of a status process, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from raw_client import Client

from prefork.control.register import Place, Register, render
from prefork.control.report import Totals
from prefork.errors import ExitCode
from prefork.net.listener import open_listener, parse_bind
from prefork.process.bulletin import Bulletin
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.settings import Settings
from prefork.status import life
from prefork.status.health import LATE
from prefork.status.life import FROZEN, Source, Word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def register(mode: str = "running", past: int = 0, slots: int = 1) -> bytes:
    places = tuple(Place(slot, 1000 + slot, 1, "ready", 0.0, 0) for slot in range(slots))
    return render(Register("1.2.3", 999, 0.0, 0.0, mode, 1, slots, "", "", places, (), Totals(requests=past)))


class Process:
    """A status process, and what its arbiter has of it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.path = folder / "status.sock"
        self.listener = open_listener(parse_bind(f"unix:{self.path}"), 16, 0o660)
        self.bulletin = Bulletin()
        self.board = Scoreboard(4)
        self.board.slot(0).clear(1, Stage.READY)
        self.end, theirs = socket.socketpair()
        self.end.settimeout(PATIENCE)
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                self.end.close()
                theirs.setblocking(False)
                code = life.run(
                    settings=Settings(**settings),
                    name="app:app",
                    listeners=[self.listener],
                    end=theirs,
                    bulletin=self.bulletin,
                    board=self.board,
                )
            finally:
                os._exit(code)
        theirs.close()

    def ask(self, path: str) -> tuple[int, str]:
        with Client(str(self.path)) as client:
            answer = client.get(path).answer()
            return answer.status, answer.body.decode()

    def wait(self) -> int:
        """Return the exit code."""
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        self.listener.close(unlink=True)
        self.end.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    yield found
    found.close()


def test_it_answers_with_what_the_arbiter_leaves_and_the_workers_show(process: Process) -> None:
    assert process.ask("/readyz") == (503, "starting\n")
    process.bulletin.write(register(), time.monotonic())
    assert process.ask("/livez") == (200, "live\n")
    assert process.ask("/readyz") == (200, "ready\n")
    record = process.board.slot(0).thread(0)
    record.begin(b"GET /", 1.0)
    record.end()
    assert json.loads(process.ask("/status")[1])["requests"] == 1
    assert "\nprefork_requests_total 1\n" in process.ask("/metrics")[1]
    process.bulletin.write(register("delaying"), time.monotonic() - 60.0)
    assert process.ask("/readyz") == (503, "stopping\n")
    assert process.ask("/livez") == (503, "the arbiter has not moved for 60 s\n")


def test_it_gives_signs_of_life(process: Process) -> None:
    """Also when nobody asks."""
    first = eventually(lambda: process.bulletin.read_at)
    eventually(lambda: process.bulletin.read_at > first)


def test_signals_that_are_sent_to_all_processes_do_not_end_it(process: Process) -> None:
    """While the server stops it is asked, too."""
    assert process.ask("/livez")[0] in {200, 503}  # it has its handlers
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(process.pid, number)
    assert process.ask("/readyz") == (503, "starting\n")


def test_it_ends_on_the_arbiters_word_and_leaves_the_listener_to_others(process: Process) -> None:
    process.end.send(Word.END.value)
    assert process.wait() == 0
    assert process.path.exists()


def test_it_ends_with_the_arbiter_and_leaves_nothing(process: Process) -> None:
    process.end.close()
    assert process.wait() == 0
    assert not process.path.exists()


def test_an_error_of_its_own_is_told_to_the_arbiter(tmp_path: Path) -> None:
    process = Process(tmp_path, user="nobody-has-this-name")
    complaint = process.end.recv(65536).decode()
    assert complaint.startswith("Traceback")
    assert "there is no user 'nobody-has-this-name'" in complaint
    assert process.wait() == ExitCode.CRASH
    process.close()


# The facts


class Clock:
    """A source of facts whose time moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.bulletin = Bulletin()
        self.board = Scoreboard(4)
        self.source = Source(self.bulletin, self.board, lambda: self.now)

    def turn(self, seconds: float) -> None:
        self.now += seconds
        self.source.turn()


def test_after_a_pause_of_its_own_it_does_not_blame_the_arbiter() -> None:
    """All processes were stopped, and this one has woken up first."""
    clock = Clock()
    clock.bulletin.write(register(), clock.now)
    clock.turn(1.0)
    clock.turn(600.0)
    assert clock.source.facts().idle == 0.0
    for _ in range(7):
        clock.turn(1.0)
    assert clock.source.facts().idle == 7.0 > LATE


def test_short_turns_blame_it_in_time() -> None:
    clock = Clock()
    clock.bulletin.write(register(), clock.now)
    for _ in range(4):
        clock.turn(FROZEN)
    assert clock.source.facts().idle == 4 * FROZEN


def test_sums_never_go_down() -> None:
    """A worker that has just ended is neither on the scoreboard nor among the dead for a moment."""
    clock = Clock()
    slot = clock.board.slot(0)
    slot.clear(1, Stage.READY)
    for _ in range(5):
        slot.thread(0).begin(b"GET /", 1.0)
        slot.thread(0).end()

    def requests() -> int:
        found = clock.source.facts().snapshot
        assert found is not None
        return found.totals.requests

    clock.bulletin.write(register(past=10), clock.now)
    seen = [requests()]
    slot.clear(1, Stage.EMPTY)
    seen.append(requests())
    clock.bulletin.write(register(past=15, slots=0), clock.now)
    seen.append(requests())
    clock.bulletin.write(register(past=16, slots=0), clock.now)
    assert [*seen, requests()] == [15, 15, 15, 16]
