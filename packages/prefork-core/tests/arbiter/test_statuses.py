# SPDX-License-Identifier: MIT
"""Status processes as the arbiter sees them. The processes are forked by the test, or not at all."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork.arbiter.brood import Born
from prefork.arbiter.statuses import PULSE, SILENT, Statuses, StatusProcess
from prefork.control.register import Register, parse
from prefork.control.report import Totals
from prefork.net.listener import open_listener, parse_bind
from prefork.process.scoreboard import Scoreboard
from prefork.settings import Settings
from prefork.status.life import Word
from prefork.supervisor.messages import Death, StatusEnded, StatusFailed, StatusForked, StatusSilent

if TYPE_CHECKING:
    from prefork.net.listener import Listener

REGISTER = Register("1", 1, 0.0, 0.0, "running", 1, 2, "", "", (), (), Totals())


def fail() -> int:
    raise OSError(11, "no more")


class House:
    """The table, and an operating system that notes what it is asked."""

    def __init__(self) -> None:
        self.time = 100.0
        self.sent: list[tuple[int, signal.Signals]] = []
        self.pids = iter(range(70, 80))
        self.fork: Any = lambda: next(self.pids)
        self.theirs: list[socket.socket] = []
        self.selector = selectors.DefaultSelector()
        self.generations = [self.generation(1), self.generation(2)]
        kernel: Any = SimpleNamespace(now=lambda: self.time, kill=lambda *what: self.sent.append(what))
        brood: Any = SimpleNamespace(fork_aide=self._fork)
        log = logging.getLogger("prefork.test_statuses")
        self.statuses = Statuses(
            kernel=kernel, brood=brood, board=Scoreboard(4), selector=self.selector, log=log
        )

    def generation(self, number: int) -> Any:
        listener = open_listener(parse_bind("127.0.0.1:0"), 16, 0o660)
        return SimpleNamespace(
            number=number, settings=Settings(), name="app:app", status_listeners=(listener,)
        )

    def _fork(self, ours: socket.socket, _others: Any) -> int:
        # What the child would have of the pair; the arbiter's own copy is closed after the fork.
        self.theirs.append(ours)
        pid: int = self.fork()
        if pid == 0:
            self.statuses.let_go(self.generations)
        return pid

    def start(self, number: int = 1) -> Any:
        return self.statuses.start(self.generations[number - 1], self.generations, REGISTER)

    @property
    def living(self) -> StatusProcess:
        (found,) = self.statuses._living.values()
        return found

    def listener(self, number: int) -> Listener:
        (found,) = self.generations[number - 1].status_listeners
        assert isinstance(found.sock, socket.socket)
        return found  # type: ignore[no-any-return]


def test_one_that_is_forked_is_listened_to_and_has_the_facts_from_the_begin() -> None:
    house = House()
    assert house.start() == StatusForked(1, 70)
    assert house.selector.get_key(house.living.end).data is house.living
    assert parse(house.living.bulletin.read()) == REGISTER
    assert house.living.bulletin.written_at == house.time


def test_a_fork_that_fails_leaves_nothing() -> None:
    house = House()
    house.fork = fail
    before = len(os.listdir("/proc/self/fd"))
    assert house.start() == StatusFailed(1, "no more")
    house.theirs.clear()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not house.selector.get_map()
    assert house.statuses.next_at == float("inf")


def test_the_process_keeps_its_own_listeners_and_no_others() -> None:
    house = House()
    house.start(1)
    house.fork = lambda: 0
    with pytest.raises(Born):
        house.start(2)
    assert house.listener(1).sock.fileno() == -1
    assert house.listener(2).sock.fileno() >= 0
    assert house.living.end.fileno() == -1


def test_any_other_child_keeps_nothing() -> None:
    house = House()
    house.start(1)
    house.statuses.let_go(house.generations)
    assert house.listener(1).sock.fileno() == house.living.end.fileno() == -1


def test_what_is_published_reaches_all_of_them_and_the_loop_turns_for_it() -> None:
    house = House()
    house.start(1)
    house.start(2)
    house.time = 107.0
    house.statuses.publish(lambda: REGISTER._replace(mode="draining"))
    for found in house.statuses._living.values():
        assert parse(found.bulletin.read()).mode == "draining"
        assert found.bulletin.written_at == 107.0
    assert house.statuses.next_at == 107.0 + PULSE


def test_one_that_is_told_to_end_hears_nothing_new() -> None:
    """What it says in its last milliseconds is not that the server leaves its work to another one."""
    house = House()
    house.start()
    house.statuses.stop(1)
    house.statuses.publish(lambda: REGISTER._replace(mode="draining"))
    assert parse(house.living.bulletin.read()) == REGISTER


def test_nothing_is_collected_while_there_is_none() -> None:
    def register() -> Register:
        raise AssertionError("nobody wants to know")

    house = House()
    house.statuses.publish(register)
    assert house.statuses.next_at == float("inf")


def test_one_that_gives_no_sign_of_life_is_named() -> None:
    house = House()
    house.start()
    house.time += SILENT
    assert house.statuses.silent() == []
    house.time += 0.1
    assert house.statuses.silent() == [StatusSilent(1)]
    house.living.bulletin.turn(house.time)
    assert house.statuses.silent() == []


def test_after_a_pause_of_the_arbiter_it_gets_a_moment() -> None:
    """Both were stopped."""
    house = House()
    house.start()
    house.statuses.wake(101.0, 700.0)
    house.time = 700.0
    assert house.statuses.silent() == []
    house.time += PULSE
    assert house.statuses.silent() == [StatusSilent(1)]


def test_it_is_told_to_end_by_a_word() -> None:
    house = House()
    ours, theirs = socket.socketpair()
    house.start()
    house.living.end = ours
    house.statuses.stop(1)
    assert theirs.recv(10) == Word.END.value
    theirs.close()
    house.statuses.stop(1)
    house.statuses.stop(5)
    assert house.sent == []


def test_one_that_does_not_end_is_killed() -> None:
    house = House()
    house.start()
    house.statuses.kill(1)
    house.statuses.kill(5)
    assert house.sent == [(70, signal.SIGKILL)]


def test_only_its_pid_is_taken_for_its_end() -> None:
    house = House()
    house.start()
    assert house.statuses.ended(71, Death(code=0)) is None
    assert house.statuses.ended(70, Death(code=0)) == StatusEnded(1, Death(code=0))
    assert house.statuses.ended(70, Death(code=0)) is None
    assert not house.selector.get_map()


def test_what_it_complains_about_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    house.start()
    house.selector.unregister(house.living.end)
    house.living.end = ours
    house.selector.register(ours, selectors.EVENT_READ, house.living)
    theirs.send(b"Traceback: no luck\n")
    theirs.close()
    house.statuses.ended(70, Death(code=70))
    assert caplog.messages == ["error in the status process 70\nTraceback: no luck"]
