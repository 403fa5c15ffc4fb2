# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork.arbiter.facade import ServerFacade
from prefork.arbiter.generation import Generation, close_listeners, open_listeners
from prefork.arbiter.succession import Succession
from prefork.errors import ConfigError
from prefork.hooks import Hooks
from prefork.process.cpus import Count
from prefork.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.net.listener import Listener


class Logs:
    """Logs that note what becomes of them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def install(self) -> None:
        self.done.append("install")

    def close(self) -> None:
        self.done.append("close")


class Scene:
    """A server whose generations are what the test says; it starts with the first of them."""

    def __init__(self, folder: Path, *generations: Any) -> None:
        self.folder = str(folder)
        self.to_come = list(generations)
        settings = Settings()
        self.server = ServerFacade(settings, logging.getLogger("test.succession"), 1, "")
        self.succession = Succession(self.make(1), self.follow_by, self.server)

    def follow_by(self, old: Generation, number: int) -> Generation:
        assert old is self.succession.present
        if not self.to_come:
            raise ConfigError("nothing comes")
        return self.make(number)

    def make(self, number: int) -> Generation:
        listeners, logs, *changes = self.to_come.pop(0)
        worker_type: Any = SimpleNamespace
        settings = Settings(proc_name=f"generation {number}", **dict(changes))
        return Generation(number, settings, Hooks(), self.folder, worker_type, Count(1, ""), listeners, logs)


def opened(folder: Path, name: str) -> Listener:
    (listener,) = open_listeners([f"unix:{folder}/{name}.sock"], Settings(), None)
    return listener


def answers(folder: Path, name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(f"{folder}/{name}.sock") == 0


def test_a_generation_that_follows_is_the_one_that_hooks_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = opened(tmp_path, "one"), opened(tmp_path, "two")
    scene = Scene(tmp_path, ([one], Logs()), ([two], Logs()))
    assert scene.succession.follow() is scene.succession.present
    assert (scene.server.proc_name, scene.server.address) == ("generation 2", [f"{tmp_path}/two.sock"])
    scene.succession.return_to(1)
    assert (scene.server.proc_name, scene.server.address) == ("generation 1", [f"{tmp_path}/one.sock"])
    close_listeners([one, two])


def test_a_generation_that_cannot_be_made_leaves_all_as_it_was(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ([], Logs()))
    assert scene.succession.follow() == "nothing comes"
    assert [generation.number for generation in scene.succession.all()] == [1]


def test_a_listener_that_is_removed_hears_nobody_and_is_closed_with_its_last_generation(
    tmp_path: Path,
) -> None:
    kept, removed = opened(tmp_path, "kept"), opened(tmp_path, "removed")
    logs: Any = Logs()
    scene = Scene(tmp_path, ([kept, removed], logs), ([kept], logs))
    scene.succession.follow()
    first, second = scene.succession.all()
    assert not scene.succession.is_last_on_a_listener(first)
    scene.succession.leave_removed_listeners()
    assert not answers(tmp_path, "removed")
    assert scene.succession.is_last_on_a_listener(first)
    assert not scene.succession.is_last_on_a_listener(second)
    scene.succession.release(1)
    assert removed.sock.fileno() == -1
    assert answers(tmp_path, "kept")
    assert logs.done == [], "they are the second generation's too"
    close_listeners([kept])


def test_logs_that_only_one_generation_had_are_closed_with_it(tmp_path: Path) -> None:
    old: Any = Logs()
    scene = Scene(tmp_path, ([], old), ([], Logs()))
    scene.succession.follow()
    scene.succession.release(1)
    assert old.done == ["close"]
    with pytest.raises(KeyError):
        scene.succession.get(1)


def test_a_roll_back_installs_the_logs_of_before_if_they_were_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    old: Any = Logs()
    scene = Scene(tmp_path, ([], old), ([], Logs()), ([], old))
    scene.succession.follow()
    scene.succession.return_to(1)
    assert old.done == ["install"]
    scene.succession.follow()
    scene.succession.return_to(1)
    assert old.done == ["install"]


def test_a_setting_that_only_a_start_can_change_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path, ([], Logs()), ([], Logs(), ("pidfile", "other.pid")))
    scene.succession.follow()
    assert "pidfile has changed: that takes effect at the next start" in caplog.text
