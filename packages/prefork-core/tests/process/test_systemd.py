# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from prefork.process import systemd

if TYPE_CHECKING:
    from pathlib import Path


def test_descriptors_for_this_process_are_taken_and_hidden_from_children() -> None:
    environ = {"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b", "HOME": "/"}
    assert systemd.take_descriptors(environ, 77) == [3, 4]
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "78", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "77"},
        {"LISTEN_PID": "77", "LISTEN_FDS": "-1"},
        {"LISTEN_PID": "", "LISTEN_FDS": "1"},
    ],
)
def test_descriptors_for_others_are_not_taken(environ: dict[str, str]) -> None:
    assert systemd.take_descriptors(environ, 77) == []


@pytest.mark.parametrize("abstract", [False, True])
def test_states_arrive_in_one_message(abstract: bool, tmp_path: Path) -> None:
    name = f"@prefork-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5.0)
        assert systemd.notify(name, "READY=1", "MAINPID=5")
        assert manager.recv(100) == b"READY=1\nMAINPID=5"


def test_no_manager_or_a_dead_one_is_not_an_error(tmp_path: Path) -> None:
    assert not systemd.notify(None, "READY=1")
    assert not systemd.notify("", "READY=1")
    assert not systemd.notify(str(tmp_path / "nobody"), "READY=1")


def test_a_manager_is_found_and_hidden_from_children() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77", "HOME": "/"}
    manager = systemd.Manager(environ, 77)
    assert manager.is_there
    assert manager.watchdog == 30.0
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "78"}, 0.0),
        ({"WATCHDOG_USEC": "-1", "WATCHDOG_PID": "77"}, 0.0),
        ({"WATCHDOG_PID": "77"}, 0.0),
    ],
)
def test_a_watchdog_waits_for_the_process_that_it_names(environ: dict[str, str], seconds: float) -> None:
    assert systemd.Manager(environ, 77).watchdog == seconds


def test_a_successor_finds_the_same_manager_and_the_old_one_falls_silent(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus:
        bus.bind(path)
        bus.settimeout(5.0)
        environ = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "77"}
        manager = systemd.Manager(environ, 77)
        successor = systemd.Manager(manager.for_successor(), 78)
        assert successor.is_there
        assert successor.watchdog == 2.0
        manager.hand_over(78)
        assert bus.recv(100) == b"MAINPID=78"
        assert not manager.is_there
        assert not manager.watchdog
        assert not manager.tell("STOPPING=1")
        assert successor.tell("READY=1")
        assert bus.recv(100) == b"READY=1"


def test_without_a_manager_a_successor_looks_for_none() -> None:
    manager = systemd.Manager({}, 77)
    assert not manager.is_there
    assert not manager.tell("READY=1")
    assert manager.for_successor() == {}
