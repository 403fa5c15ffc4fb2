# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import logging
import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from prefork.arbiter.brood import Worker
from prefork.arbiter.facade import WorkerFacade
from prefork.arbiter.inquest import AGAIN, PATIENCE, Inquests
from prefork.arbiter.lateness import Limits
from prefork.observe.records import json_line, text_line
from prefork.process import channel, stacks
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.process.stacks import INSIST, QUIET, SIGNAL
from prefork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

STACKS = b'Thread 0x0000000000000065 (most recent call first):\n  File "app.py", line 3 in app\n'


class Scene(logging.Handler):
    """An arbiter with one worker that shows what the test says, a clock that moves by hand, and a log."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0
        self.signals: list[int] = []
        self.records: list[logging.LogRecord] = []
        log = logging.getLogger("test.inquest")
        log.propagate = False
        log.setLevel(logging.INFO)
        log.handlers.clear()
        log.addHandler(self)
        self.inquests = Inquests(self, log)
        slot = Scoreboard(8).slot(3)
        slot.clear(2, Stage.READY, 2)
        slot.thread(0).belong_to(0x65)
        slot.thread(0).begin(b"GET /stuck?a=%s", 990.0, 1000.0, b"10.0.0.7")
        self.slot = slot
        shown, self.shows = stacks.make()
        facade = WorkerFacade(1, Settings(), log, os.getpid(), slot)
        generation: Any = SimpleNamespace(number=2)
        self.worker = Worker(1, 4711, channel.make()[0], slot, generation, facade, shown, Limits())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def now(self) -> float:
        return self.time

    def fork(self) -> int:
        raise AssertionError

    def kill(self, pid: int, number: signal.Signals) -> None:
        assert pid == 4711
        self.signals.append(number)

    def reap(self) -> Iterator[Any]:
        raise AssertionError

    def private_memory(self, pid: int) -> int | None:
        raise AssertionError(pid)

    def ask(self, **more: Any) -> None:
        self.inquests.ask(self.worker, "is stuck", "timeout", late=self.slot.current(), **more)

    def show(self, text: bytes) -> None:
        """Let the worker show something, and the arbiter's loop see it."""
        os.write(self.shows, text)
        self.worker.stacks.receive(self.time)

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.inquests.look([self.worker])

    def lines(self) -> list[str]:
        """Return the log without times."""
        return [text_line(record).decode().partition("[ERROR] ")[2] for record in self.records]


def test_one_record_has_the_reason_the_request_and_the_stacks() -> None:
    scene = Scene()
    scene.ask()
    assert scene.signals == [SIGNAL]
    scene.show(STACKS[:20])
    scene.wait(QUIET / 2)
    scene.show(STACKS[20:])
    scene.wait(QUIET / 2)
    assert scene.records == []
    scene.wait(QUIET)
    (record,) = scene.lines()
    first, *others = record.splitlines()
    assert first.startswith(
        "worker 4711 (slot 3, generation 2) is stuck, on GET /stuck?a=%s (in the application"
    )
    assert first.endswith(", 10.0 s old, from 10.0.0.7, thread 0x0000000000000065, late)")
    assert others == [
        "  Thread 0x0000000000000065 (most recent call first):",
        '    File "app.py", line 3 in app',
    ]


def test_the_record_has_what_the_worker_had_in_hand_when_it_was_asked() -> None:
    scene = Scene()
    scene.ask()
    scene.slot.thread(0).end()
    scene.wait(PATIENCE)
    assert "GET /stuck" in scene.lines()[0]


def test_in_json_everything_is_a_field() -> None:
    scene = Scene()
    scene.slot.thread(1).begin(b"POST /other", 999.5)
    scene.inquests.ask(scene.worker, "is stuck", "timeout", late=scene.slot.current()[:1])
    scene.show(STACKS)
    scene.wait(QUIET)
    fields = json.loads(json_line(scene.records[0]))
    stuck = {"method": "GET", "target": "/stuck?a=%s", "age": 10.0, "phase": "application", "late": True}
    other = {"method": "POST", "target": "/other", "age": 0.5, "phase": "application", "late": False}
    assert fields["requests"] == [
        {**stuck, "client": "10.0.0.7", "thread": "0x0000000000000065"},
        {**other, "client": "", "thread": "0x0000000000000000"},
    ]
    assert (fields["worker"], fields["slot"], fields["generation"]) == (4711, 3, 2)
    assert fields["reason"] == "timeout"
    assert fields["stack"] == STACKS.decode().rstrip()


def test_a_worker_that_shows_nothing_is_said_to_after_a_second() -> None:
    scene = Scene()
    scene.ask(doing=": sending SIGABRT", number=signal.SIGABRT)
    assert scene.inquests.next_deadline([scene.worker]) == 1000.0 + PATIENCE
    scene.wait(PATIENCE - 0.1)
    assert scene.records == []
    scene.wait(0.1)
    assert scene.lines()[0].endswith(": sending SIGABRT; it has shown no stacks\n")


def test_a_worker_that_does_not_answer_is_asked_again_in_a_way_that_needs_no_python() -> None:
    scene = Scene()
    scene.ask()
    for wait, number in AGAIN:
        assert scene.inquests.next_deadline([scene.worker]) == 1000.0 + wait
        scene.time = 1000.0 + wait
        scene.wait(0.0)
        assert scene.signals[-1] == number
    assert scene.signals == [SIGNAL, SIGNAL, INSIST]
    scene.show(STACKS)
    scene.wait(QUIET)
    assert "in app" in scene.lines()[0]


def test_a_worker_that_answers_is_not_asked_again() -> None:
    scene = Scene()
    scene.ask()
    scene.wait(0.29)
    scene.show(STACKS)
    scene.wait(0.05)
    scene.wait(QUIET)
    assert scene.signals == [SIGNAL]
    assert len(scene.records) == 1


def test_stacks_that_come_in_time_but_do_not_end_are_logged_as_far_as_they_are() -> None:
    scene = Scene()
    scene.ask()
    while not scene.records:
        scene.show(b"x")
        scene.wait(QUIET / 2)
    assert 0.0 <= scene.time - 1000.0 - PATIENCE < QUIET


def test_stacks_that_come_too_late_are_a_record_of_their_own() -> None:
    scene = Scene()
    scene.ask()
    scene.wait(PATIENCE)
    scene.show(STACKS)
    scene.wait(QUIET)
    assert len(scene.records) == 2
    assert "has shown its stacks, on GET /stuck" in scene.records[1].getMessage()


def test_an_aborted_worker_is_explained_when_it_has_died() -> None:
    scene = Scene()
    scene.worker.facade.aborted = True
    scene.ask(number=signal.SIGABRT)
    os.write(scene.shows, b"Fatal Python error: Aborted\n\n" + STACKS)
    scene.inquests.bury(scene.worker, expected=True)
    (line,) = scene.lines()
    assert "in app" in line
    assert "Fatal" not in line


def test_a_kill_is_logged_at_once_after_what_was_waited_for() -> None:
    scene = Scene()
    scene.ask()
    scene.inquests.tell(scene.worker, "did not end", "timeout", doing=": sending SIGKILL")
    first, second = scene.lines()
    assert "it has shown no stacks" in first
    assert "did not end, on GET /stuck" in second
    assert second.endswith(": sending SIGKILL\n")


def test_a_crash_is_logged_with_its_stacks_and_its_request() -> None:
    scene = Scene()
    os.write(scene.shows, b"Fatal Python error: Segmentation fault\n\n" + STACKS)
    scene.inquests.bury(scene.worker, expected=False)
    (line,) = scene.lines()
    assert "worker 4711 (slot 3, generation 2) has crashed, on GET /stuck" in line
    assert "Segmentation fault" in line


def test_what_a_killed_worker_had_in_hand_is_logged() -> None:
    scene = Scene()
    scene.inquests.bury(scene.worker, expected=False)
    assert "was lost, on GET /stuck" in scene.lines()[0]


def test_the_end_of_a_worker_that_was_told_to_go_is_no_news() -> None:
    scene = Scene()
    scene.inquests.bury(scene.worker, expected=True)
    scene.slot.thread(0).end()
    scene.inquests.bury(scene.worker, expected=False)
    assert scene.records == []


def test_stacks_of_a_second_abort_signal_are_not_logged_again() -> None:
    scene = Scene()
    scene.worker.facade.aborted = True
    os.write(scene.shows, STACKS)
    scene.inquests.bury(scene.worker, expected=True)
    assert scene.records == []


def test_a_level_that_is_not_logged_is_not() -> None:
    scene = Scene()
    scene.ask(level=logging.DEBUG)
    scene.wait(PATIENCE)
    assert scene.records == []


def test_who_wants_the_stacks_is_told_once_instead_of_the_log() -> None:
    scene = Scene()
    told: list[tuple[str, str]] = []
    scene.ask(then=lambda words, stacks: told.append((words, stacks)))
    scene.show(STACKS)
    scene.wait(QUIET)
    scene.wait(PATIENCE)
    ((words, shown),) = told
    assert "is stuck, on GET /stuck" in words
    assert shown == STACKS.decode().rstrip()
    assert scene.records == []


def test_who_wants_the_stacks_is_told_of_none_when_there_are_none_or_the_next_asks() -> None:
    scene = Scene()
    told: list[str] = []
    scene.ask(then=lambda _words, stacks: told.append(stacks))
    scene.wait(PATIENCE)
    scene.ask(then=lambda _words, stacks: told.append(stacks))
    scene.ask(then=lambda _words, stacks: told.append(stacks))
    scene.inquests.bury(scene.worker, expected=True)
    assert told == ["", "", ""]
