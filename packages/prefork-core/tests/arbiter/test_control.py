# SPDX-License-Identifier: MIT
"""What commands mean, with a real machine and clients, and no process. Whole servers: integration-tests."""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from prefork.arbiter.control import Control, open_control
from prefork.arbiter.snapshot import Birth, register
from prefork.control.protocol import Command, Request, render_request
from prefork.control.report import Totals
from prefork.errors import ConfigError
from prefork.process.scoreboard import Scoreboard
from prefork.settings import Settings, load
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Abort,
    Death,
    Event,
    Exit,
    Forked,
    Kill,
    OtherLeaves,
    Policy,
    Reaped,
    Reason,
    Reload,
    Report,
    Reported,
    Send,
    Spawn,
    Start,
    StartSuccessor,
    Stop,
    SuccessorEnded,
    SuccessorForked,
    SuccessorReady,
    Tick,
)
from prefork.supervisor.reloading import PROOF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prefork.control.register import Register


class Brood:
    """No process at all."""

    past = Totals(requests=7)

    def get(self, _serial: int) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())


class Present:
    """The settings of a server."""

    number = 1

    def __init__(self, folder: Path) -> None:
        loaded = load(["app:app", "-w", "2"], {}, str(folder))
        self.settings: Settings = loaded.settings
        self.origins = loaded.origins


class Arbiter:
    """A machine with a control socket; its workers do what the test says."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(Policy(2))
        self.fleet = self.machine.fleet
        self.brood: Any = Brood()
        self.present: Any = Present(folder)
        self.board = Scoreboard(1024)
        for _ in range(3):
            self.board.count_kill(Reason.TIMEOUT)
        self.asked: dict[int, Callable[[str, str], None]] = {}
        self.now = 100.0
        self.refusal = ""
        self.exit_code: int | None = None
        self.done: list[Any] = []
        self.path = str(folder / "control.sock")
        self.control: Control = open_control(self.path)
        self.selector = selectors.DefaultSelector()
        self.control.attach(self, self.selector)
        self.tell(Start())

    def register(self) -> Register:
        return register(self.fleet, self.brood, [], Birth(os.getpid(), 1_700_000_000.0, 100.0))

    def tell(self, event: Event) -> None:
        for action in self.machine.step(event, self.now):
            self.done.append(action)
            if isinstance(action, Spawn):
                self.tell(Forked(action.serial, 1000 + action.serial))
            elif isinstance(action, Exit):
                self.exit_code = action.code

    @property
    def no_upgrade(self) -> str:
        return self.machine.no_upgrade

    def reload(self) -> int | str:
        if self.refusal:
            return self.refusal
        number = self.fleet.generation + 1
        self.tell(Reload(number, Policy(2)))
        return number

    def show_stacks(self, serial: int, then: Callable[[str, str], None]) -> bool:
        self.asked[serial] = then
        return True

    def ready_all(self) -> None:
        for child in self.fleet.children:
            self.tell(Reported(child.serial, Report.READY))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick())
        self.run()

    def run(self) -> None:
        for _ in range(100):
            ready = self.selector.select(0)
            if not ready and self.control.next_deadline(self.now) > self.now:
                break
            self.control.turn(ready, self.now)
        self.control.turn([], self.now)

    def ask(self, command: Command, **arguments: int) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        sock.sendall(render_request(Request(command, arguments)))
        self.run()
        return sock

    def answer(self, command: Command, **arguments: int) -> dict[str, Any]:
        with self.ask(command, **arguments) as sock:
            found = heard(sock)
            assert found is not None, "no answer"
            return found

    def of(self, kind: type) -> list[Any]:
        return [action for action in self.done if isinstance(action, kind)]


def heard(sock: socket.socket) -> dict[str, Any] | None:
    """Return the answer that has come, None for none."""
    try:
        answer = json.loads(sock.recv(1_000_000))
    except BlockingIOError:
        return None
    assert isinstance(answer, dict)
    return answer


def running(folder: Path) -> Arbiter:
    arbiter = Arbiter(folder)
    arbiter.ready_all()
    arbiter.wait(60.0)
    return arbiter


def test_the_socket_is_its_owner_s_only_and_removed_at_the_end(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    found = os.stat(arbiter.path)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    arbiter.control.shut()
    assert not os.path.exists(arbiter.path)


def test_a_socket_that_a_dead_server_left_is_replaced_and_one_that_is_used_is_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    arbiter = Arbiter(tmp_path)
    with pytest.raises(ConfigError, match=r"control_socket: .*in use") as caught:
        open_control(arbiter.path)
    assert "path of its own" in caught.value.hint
    assert arbiter.answer(Command.STATUS)["ok"]


def test_a_status_has_sums_of_the_dead_and_counts_of_the_living(tmp_path: Path) -> None:
    found = running(tmp_path).answer(Command.STATUS)["result"]
    assert (found["requests"], found["workers"]["ready"], found["mode"]) == (7, 2, "running")
    assert (found["uptime"], found["generation"], found["pid"]) == (60.0, 1, os.getpid())
    assert {reason: count for reason, count in found["kills"].items() if count} == {"timeout": 3}


def test_workers_settings_and_metrics_are_told(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    rows = arbiter.answer(Command.WORKERS)["result"]["workers"]
    assert [(row["slot"], row["pid"], row["age"]) for row in rows] == [(0, 1001, 60.0), (1, 1002, 60.0)]
    settings = arbiter.answer(Command.SETTINGS)["result"]["settings"]
    assert {"workers": "flag -w"}.items() <= {row["name"]: row["origin"] for row in settings}.items()
    assert "prefork_requests_total 7\n" in arbiter.answer(Command.METRICS)["result"]["text"]


def test_a_scale_goes_to_the_number_that_is_named(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    assert arbiter.answer(Command.SCALE, workers=5)["result"] == {"target": 5, "was": 2}
    assert arbiter.answer(Command.SCALE, workers=1)["result"] == {"target": 1, "was": 5}
    assert arbiter.fleet.target == 1


def test_a_reload_is_answered_when_all_new_workers_are_ready_and_proven(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.RELOAD) as sock:
        assert arbiter.answer(Command.STATUS)["result"]["mode"] == "reloading"
        for _ in range(2):
            arbiter.ready_all()
            assert heard(sock) is None
            arbiter.wait(PROOF)
        answer = heard(sock)
        assert answer is not None
        assert answer["result"] == {"generation": 2, "workers": 2, "took": 2 * PROOF}


def test_a_reload_that_is_rolled_back_is_answered_with_the_reason(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.RELOAD) as sock:
        new = max(child.serial for child in arbiter.fleet.children)
        arbiter.tell(Reaped(new, Death(code=3)))
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert answer["trouble"] == "rolled-back"
        assert "exit code 3: it could not boot" in answer["why"]
        assert "generation 1 serves on" in answer["why"]
    assert "could not boot" in arbiter.answer(Command.STATUS)["result"]["rolled_back"]


def test_a_reload_that_is_refused_is_answered_at_once(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    arbiter.refusal = "prefork.toml:1: there is no setting wokers"
    answer = arbiter.answer(Command.RELOAD)
    assert (answer["trouble"], answer["why"]) == ("refused", arbiter.refusal)


def test_a_reload_that_is_overtaken_says_so(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.RELOAD) as first, arbiter.ask(Command.RELOAD) as second:
        answer = heard(first)
        assert answer is not None
        assert "newer" in answer["why"]
        assert heard(second) is None


def test_a_reload_of_a_server_that_is_stopped_says_so(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.RELOAD) as reload, arbiter.ask(Command.STOP):
        answer = heard(reload)
        assert answer is not None
        assert "stopping" in answer["why"]


def test_a_reload_while_the_server_starts_is_answered_when_it_serves(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    with arbiter.ask(Command.RELOAD) as sock:
        assert heard(sock) is None
        arbiter.ready_all()
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert answer["result"]["generation"] == 2


def end(arbiter: Arbiter) -> None:
    for child in arbiter.fleet.children:
        arbiter.tell(Reaped(child.serial, Death(code=0)))
    assert arbiter.exit_code is not None
    arbiter.control.shut()
    arbiter.control.farewell(arbiter.exit_code, arbiter.now)


def test_a_stop_is_answered_at_the_end(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.STOP) as sock:
        assert [action.order.name for action in arbiter.of(Send)] == ["DRAIN", "DRAIN"]
        arbiter.wait(20.0)
        assert heard(sock) is None
        end(arbiter)
        assert heard(sock) == {"ok": True, "result": {"exit_code": 0}}


def test_a_second_stop_waits_too_and_hurries_nobody_unless_it_is_quick(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.STOP) as first:
        arbiter.wait(5.0)
        with arbiter.ask(Command.STOP) as second:
            assert len(arbiter.of(Send)) == 2
            with arbiter.ask(Command.STOP, quick=True) as third:
                assert {action.order.name for action in arbiter.of(Send)[2:]} == {"QUICK"}
                end(arbiter)
                assert all(heard(sock) for sock in (first, second, third))


def test_a_stopping_server_scales_no_more(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.STOP):
        assert arbiter.answer(Command.SCALE, workers=4)["why"] == "the server is stopping"


def test_who_waits_for_a_reload_hears_of_the_end(tmp_path: Path) -> None:
    arbiter = Arbiter(tmp_path)
    with arbiter.ask(Command.RELOAD) as sock:
        arbiter.control.farewell(3, arbiter.now)
        answer = heard(sock)
        assert answer is not None
        assert answer["why"] == "the server has ended with exit code 3"


def test_the_worker_in_a_slot_is_killed_and_another_started(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    found = arbiter.answer(Command.KILL_SLOT, slot=1)["result"]
    assert found == {"slot": 1, "pid": 1002, "generation": 1}
    assert [action.serial for action in arbiter.of(Abort)] == [2]
    assert [action.slot for action in arbiter.of(Spawn)] == [0, 1, 2]
    assert arbiter.of(Kill) == []


def test_a_slot_without_a_worker_is_refused(tmp_path: Path) -> None:
    answer = running(tmp_path).answer(Command.KILL_SLOT, slot=9)
    assert answer["why"] == "there is no worker in slot 9"


def test_stacks_are_answered_when_every_worker_has_shown_its_own(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.STACKS) as sock:
        arbiter.asked[2]("on GET /b", "Thread 2")
        arbiter.run()
        assert heard(sock) is None
        arbiter.asked[1]("idle", "")
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert answer["result"]["workers"] == [
            {"slot": 0, "pid": 1001, "generation": 1, "words": "idle", "stacks": ""},
            {"slot": 1, "pid": 1002, "generation": 1, "words": "on GET /b", "stacks": "Thread 2"},
        ]


def test_stacks_of_one_slot_are_of_that_alone(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    with arbiter.ask(Command.STACKS, slot=1):
        assert list(arbiter.asked) == [2]
    assert arbiter.answer(Command.STACKS, slot=9)["trouble"] == "refused"


def test_a_worker_that_is_not_ready_is_not_asked_for_its_stacks(tmp_path: Path) -> None:
    """It would die of the signal."""
    arbiter = Arbiter(tmp_path)
    assert "no worker that can show" in arbiter.answer(Command.STACKS)["why"]
    assert not arbiter.asked


def test_a_client_that_has_gone_disturbs_nobody(tmp_path: Path) -> None:
    arbiter = running(tmp_path)
    arbiter.ask(Command.RELOAD).close()
    for _ in range(4):
        arbiter.ready_all()
        arbiter.wait(PROOF)
    assert arbiter.answer(Command.STATUS)["result"]["generation"] == 2


# An upgrade


def upgrading(folder: Path) -> tuple[Arbiter, socket.socket]:
    """Return a server whose successor starts, and who has asked for that."""
    arbiter = running(folder)
    sock = arbiter.ask(Command.UPGRADE)
    assert arbiter.of(StartSuccessor)
    arbiter.tell(SuccessorForked(4712))
    return arbiter, sock


def test_an_upgrade_is_answered_when_the_server_has_nothing_left(tmp_path: Path) -> None:
    arbiter, sock = upgrading(tmp_path)
    with sock:
        arbiter.wait(2.0)
        arbiter.tell(SuccessorReady())
        arbiter.run()
        assert heard(sock) is None
        assert arbiter.answer(Command.STATUS)["result"]["upgrade"] == "handing over to arbiter 4712"
        assert arbiter.answer(Command.SCALE, workers=5)["why"] == "the server is stopping"
        end(arbiter)
        assert heard(sock) == {"ok": True, "result": {"pid": 4712, "took": 2.0}}


def test_an_upgrade_that_fails_is_answered_with_the_reason(tmp_path: Path) -> None:
    arbiter, sock = upgrading(tmp_path)
    with sock:
        arbiter.tell(SuccessorEnded("exit code 3"))
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert answer["trouble"] == "rolled-back"
        assert answer["why"] == (
            "the upgrade failed: arbiter 4712 ended (exit code 3); this server serves on"
        )
    assert arbiter.answer(Command.STATUS)["result"]["upgrade"] == "failed: arbiter 4712 ended (exit code 3)"


def test_an_upgrade_that_fails_is_answered_when_the_successor_has_ended(tmp_path: Path) -> None:
    arbiter, sock = upgrading(tmp_path)
    with sock:
        arbiter.tell(SuccessorReady())
        arbiter.tell(OtherLeaves())
        arbiter.run()
        assert heard(sock) is None
        arbiter.tell(SuccessorEnded("exit code 0"))
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert "arbiter 4712 stops" in answer["why"]


def test_a_second_upgrade_is_refused(tmp_path: Path) -> None:
    arbiter, sock = upgrading(tmp_path)
    with sock:
        answer = arbiter.answer(Command.UPGRADE)
        assert (answer["trouble"], answer["why"]) == (
            "refused",
            "an upgrade is under way: arbiter 4712 is starting",
        )
        assert heard(sock) is None


def test_who_waits_for_an_upgrade_hears_of_a_stop(tmp_path: Path) -> None:
    arbiter, sock = upgrading(tmp_path)
    with sock:
        arbiter.tell(Stop())
        arbiter.tell(SuccessorEnded("exit code 0"))
        arbiter.run()
        answer = heard(sock)
        assert answer is not None
        assert answer["why"] == "the upgrade was given up: the server is stopping"


def test_the_socket_of_a_successor_goes_to_its_place(tmp_path: Path) -> None:
    old = Arbiter(tmp_path)
    new = open_control(old.path + ".2")
    with pytest.raises(ConfigError, match=r"cannot take .*control\.sock: Address already in use"):
        new.move(".2", in_use=False)
    new.move(".2", in_use=True)
    old.control.shut()
    assert os.listdir(tmp_path) == ["control.sock"]
    new.shut()
    assert os.listdir(tmp_path) == []
