# SPDX-License-Identifier: MIT
"""One arbiter and what it says to another one. Whole servers: integration-tests/lifecycle/test_upgrade.py."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE

from prefork.arbiter.facade import ServerFacade
from prefork.arbiter.upgrade import Kin
from prefork.net.listener import Address, Family, Listener, open_listener
from prefork.process.handover import Handed, Handover, Link, Staffing, Word, make
from prefork.process.kernel import Unix
from prefork.process.relaunch import Launch
from prefork.process.signals import Inbox
from prefork.settings import load
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Death,
    OtherLeaves,
    Policy,
    PredecessorGone,
    Resize,
    Start,
    SuccessorEnded,
    SuccessorFailed,
    SuccessorForked,
    SuccessorReady,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork.hooks import ServerHook
    from prefork.supervisor.messages import Event

AS_SET = Staffing(2, 1, 0)

SUCCESSOR = """\
import os, signal
from prefork.process import handover
left = handover.take(os.environ, os.getpid())
link = handover.end_of(left)
link.say(handover.Word.KEEPS, " ".join(str(each.fd) for each in left.listeners[:1]))
link.say(handover.Word.READY)
signal.pause()
"""


def listen(*names: str) -> list[Listener]:
    return [open_listener(Address(Family.UNIX, name), 5, 0o600) for name in names]


def launch(program: str = SUCCESSOR, *, python: str = sys.executable) -> Launch:
    return Launch((python, "-c", program), os.getcwd(), dict(os.environ), 0o22)


class Old:
    """An arbiter that starts a successor."""

    def __init__(self, folder: Path, started: Launch, hook: ServerHook | None = None) -> None:
        self.selector = selectors.DefaultSelector()
        self.kin = Kin(Unix(), started, None)
        self.reopened: list[str] = []
        self.kin.attach(self.selector, lambda: self.reopened.append("log files"))
        self.listeners = listen(str(folder / "one.sock"), str(folder / "two.sock"))
        self.machine = Machine(Policy(2))
        self.machine.step(Start(), 0.0)
        settings = load(["app:app"], {}, str(folder)).settings
        server = ServerFacade(settings, logging.getLogger("test"), os.getpid(), "app")
        self.inbox = Inbox()
        self.event = self.kin.start(self.machine, self.listeners, (), hook, server, self.inbox)

    @property
    def pid(self) -> int:
        assert isinstance(self.event, SuccessorForked)
        return self.event.pid

    def hear(self, count: int = 1) -> list[Event]:
        """Wait for so many events."""
        events: list[Event] = []
        while len(events) < count:
            assert self.selector.select(PATIENCE), f"only {events}"
            events += self.kin.hear()
        return events

    def reap(self) -> Event | None:
        """Wait for the end of the successor."""
        _, status = os.waitpid(self.pid, 0)
        return self.kin.ended(self.pid, Death(code=os.waitstatus_to_exitcode(status)))

    def close(self) -> None:
        self.inbox.close()
        self.selector.close()
        for listener in self.listeners:
            listener.close(unlink=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Restore the handlers of this process that an inbox replaces."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_a_successor_has_the_listeners_and_says_which_it_keeps(tmp_path: Path) -> None:
    old = Old(tmp_path, launch())
    assert [listener.is_held for listener in old.listeners] == [True, True], "who knows what it will keep"
    assert old.hear() == [SuccessorReady()]
    assert [listener.is_held for listener in old.listeners] == [True, False]
    old.kin.end_successor(signal.SIGKILL)
    assert [listener.is_held for listener in old.listeners] == [False, False]
    assert old.reap() == SuccessorEnded("exit code -9")
    assert not old.selector.get_map()
    old.close()


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("started", "hook", "why"),
    [
        (launch(python="/gone/python"), None, "cannot execute /gone/python: FileNotFoundError"),
        (launch("raise SystemExit(1)"), None, ""),
        (launch(), lambda _: int("no"), "the hook pre_exec failed: ValueError"),
        (launch(), lambda _: sys.exit(3), "the hook pre_exec failed: SystemExit(3)"),
    ],
    ids=["program", "early", "hook", "exit"],
)
def test_why_a_successor_could_not_be_is_known(tmp_path: Path, started: Launch, hook: Any, why: str) -> None:
    old = Old(tmp_path, started, hook)
    event = old.reap()
    assert isinstance(event, SuccessorEnded)
    assert why in event.how
    assert event.how.startswith("exit code ")
    assert not any(listener.is_held for listener in old.listeners)
    old.close()


@pytest.mark.usefixtures("handlers")
def test_the_end_of_the_link_is_no_news_because_the_end_of_the_process_is(tmp_path: Path) -> None:
    old = Old(tmp_path, launch("raise SystemExit(3)"))
    while old.kin.is_linked:
        assert old.selector.select(PATIENCE)
        assert old.kin.hear() == []
    assert old.kin.ended(old.pid + 1, Death(code=0)) is None
    assert old.reap() == SuccessorEnded("exit code 3")
    old.close()


def test_process_1_has_no_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    kin = Kin(Unix(), launch(), None)
    nothing: Any = None
    monkeypatch.setattr(os, "getpid", lambda: 1)
    event = kin.start(Machine(Policy(1)), (), (), None, nothing, nothing)
    assert event == SuccessorFailed("this is process 1, and its container would end with it")


# The other side


class New:
    """An arbiter that succeeds one which the test plays."""

    def __init__(self, folder: Path, staffing: Staffing = AS_SET) -> None:
        self.given = listen(str(folder / "one.sock"), str(folder / "two.sock"))
        ours, theirs = make()
        self.old: Link = ours
        handed = tuple(
            Handed(os.dup(each.sock.fileno()), str(each.address), each.inode) for each in self.given
        )
        before = Handover(4711, os.getpid(), theirs.detach(), handed, staffing)
        self.selector = selectors.DefaultSelector()
        self.kin = Kin(Unix(), launch(), before)
        self.reopened: list[str] = []
        self.kin.attach(self.selector, lambda: self.reopened.append("log files"))
        self.listeners, self.activated = self.kin.listeners(5)

    def close(self) -> None:
        self.kin.let_go()
        self.selector.close()
        for listener in (*self.listeners, *self.given):
            listener.close(unlink=True)


def test_what_is_handed_on_is_held_and_what_is_not_used_is_closed(tmp_path: Path) -> None:
    new = New(tmp_path)
    assert new.kin.predecessor == 4711
    assert not new.activated
    assert [listener.is_held for listener in new.listeners] == [True, True]
    kept, other = new.listeners
    new.kin.keep([kept])
    assert new.old.hear() == [(Word.KEEPS, str(kept.sock.fileno()))]
    assert other.sock.fileno() == -1
    assert (tmp_path / "two.sock").exists(), "it is the other one's"
    new.close()


def test_it_says_what_it_has_to_say(tmp_path: Path) -> None:
    new = New(tmp_path)
    new.kin.tell_ready()
    new.kin.tell_leaving()
    new.kin.tell_failed("no port")
    assert new.old.hear() == [(Word.READY, ""), (Word.LEAVING, ""), (Word.FAILED, "no port")]
    new.close()


def test_a_predecessor_that_stops_leaves_the_listeners(tmp_path: Path) -> None:
    new = New(tmp_path)
    new.old.say(Word.LEAVING)
    assert new.kin.hear() == [OtherLeaves()]
    assert not any(listener.is_held for listener in new.listeners)
    new.old.say(Word.GOING)
    assert new.kin.hear() == [PredecessorGone()]
    assert new.kin.is_linked, "it waits for the end of the link"
    new.kin.let_go()
    assert new.old.wait_end(0)
    assert new.kin.predecessor == 0
    new.close()


def test_either_has_the_other_one_open_its_logs_again(tmp_path: Path) -> None:
    new = New(tmp_path)
    new.kin.tell_reopen()
    assert new.old.hear() == [(Word.REOPEN, "")]
    new.old.say(Word.REOPEN)
    assert new.reopened == []
    assert new.kin.hear() == []
    assert new.reopened == ["log files"]
    assert new.old.hear() == [], "or it would go to and fro"
    new.close()


def test_a_predecessor_that_is_killed_has_gone(tmp_path: Path) -> None:
    new = New(tmp_path)
    new.old.close()
    assert new.kin.hear() == [PredecessorGone()]
    assert not new.kin.is_linked
    assert not any(listener.is_held for listener in new.listeners)
    assert new.kin.hear() == []
    new.close()


@pytest.mark.parametrize(
    ("staffing", "moved"),
    [(Staffing(2, 1, 0, 3), 3), (Staffing(2, 1, 0), 0), (Staffing(4, 1, 0, 3), 0), (Staffing(2, 1, 8, 3), 0)],
)
def test_what_an_operator_has_moved_is_kept_unless_the_settings_have_changed(
    tmp_path: Path, staffing: Staffing, moved: int
) -> None:
    new = New(tmp_path, staffing)
    assert new.kin.moved(Policy(2)) == moved
    new.close()


def test_what_was_moved_is_what_a_machine_has_moved(tmp_path: Path) -> None:
    machine = Machine(Policy(2))
    machine.step(Start(), 0.0)
    machine.step(Resize(3), 0.0)
    new = New(tmp_path, Staffing(2, 1, 0, machine.moved))
    assert new.kin.moved(machine.fleet.policy) == 3
    new.close()


def test_one_without_kin_has_nothing_to_do() -> None:
    kin = Kin(Unix(), launch(), None)
    assert kin.listeners(5) == ([], [])
    assert kin.moved(Policy(2)) == 0
    kin.keep([])
    kin.tell_failed("why")
    kin.tell_leaving()
    kin.step_down(0)
    kin.close_in_child()
    assert kin.hear() == []
