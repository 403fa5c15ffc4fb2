# SPDX-License-Identifier: MIT
"""What a service manager hears, over a real NOTIFY_SOCKET, and the units in examples/."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.application import deploy, hold, release
from support.control import FLAGS, ctl_json, start
from support.server import Server

from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS: Final = Path(__file__).parents[2] / "examples" / "systemd"
WAITS: Final = "hold_boot = [time.sleep(0.01) for _ in iter(lambda: os.path.exists('go'), True)]"


class Manager:
    """A service manager that listens.

    Args:
        folder: where its socket is.
    """

    def __init__(self, folder: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(folder / "notify"))
        self.sock.settimeout(PATIENCE)
        self.environ = {"NOTIFY_SOCKET": str(folder / "notify")}
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Wait for a message, and return its states."""
        states = self.sock.recv(10_000).decode().split("\n")
        self.heard += states
        return states

    def hear_until(self, begin: str) -> str:
        """Wait for a state that begins so, and return it."""
        while True:
            for state in self.hear():
                if state.startswith(begin):
                    return state

    def falls_silent(self) -> bool:
        """Wait until nothing more is said within the timeout, or for ever."""
        while True:
            try:
                self.hear()
            except TimeoutError:
                return True

    def hear_all(self) -> None:
        """Take what has been said, without waiting."""
        self.sock.setblocking(False)
        try:
            while True:
                self.hear()
        except BlockingIOError:
            self.sock.settimeout(PATIENCE)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path)
    with found.sock:
        yield found


def test_it_hears_that_the_application_can_answer_and_not_before(tmp_path: Path, manager: Manager) -> None:
    deploy(tmp_path, boot=WAITS)
    with Server(tmp_path, "-w 2 app:app", environ=manager.environ, ready=False) as server:
        server.wait_workers(2)
        manager.hear_until("STATUS=starting: 0 of 2 workers ready")
        manager.hear_all()
        assert "READY=1" not in manager.heard
        (tmp_path / "go").touch()
        assert manager.hear_until("MAINPID=") == f"MAINPID={server.pid}"
        assert "READY=1" in manager.heard
        assert server.ask().status == 200
        manager.hear_until("STATUS=2 workers ready, 0 busy, generation 1")
        with hold(server, "a"):
            manager.hear_until("STATUS=2 workers ready, 1 busy, generation 1")
            release(server, "a")
        server.stop()
        manager.hear_until("STOPPING=1")
        manager.hear_until("STATUS=stopping: ")


def test_it_hears_of_reloads_whatever_becomes_of_them(tmp_path: Path, manager: Manager) -> None:
    """Each has a begin, with the time of it, and an end, and the reason is in the status."""
    (tmp_path / "prefork.toml").write_text("workers = 1\n")
    deploy(tmp_path)
    with Server(tmp_path, f"{FLAGS} app:app", environ=manager.environ) as server:
        manager.hear_until("READY=1")

        def status_after_reload() -> str:
            server.signal(signal.SIGHUP)
            began = manager.hear_until("MONOTONIC_USEC=")
            assert began.removeprefix("MONOTONIC_USEC=").isdecimal()
            while "READY=1" not in (states := manager.hear()):
                assert states[-1].startswith("EXTEND_TIMEOUT_USEC=")
            return states[-1]

        assert status_after_reload() == "STATUS=1 worker ready, 0 busy, generation 2"
        deploy(tmp_path, boot="1 / 0")
        assert "generation 2; the last reload was rolled back: worker " in status_after_reload()
        (tmp_path / "prefork.toml").write_text("workers = 'many'\n")
        assert "generation 2; the last reload was refused: prefork.toml:1" in status_after_reload()
        assert server.ask().status == 200


def test_the_watchdog_is_petted_as_long_as_the_arbiter_turns(tmp_path: Path, manager: Manager) -> None:
    deploy(tmp_path)
    environ = {**manager.environ, "WATCHDOG_USEC": "400000"}
    with Server(tmp_path, "-w 1 app:app", environ=environ) as server:
        for _ in range(4):
            manager.hear_until("WATCHDOG=1")
        server.signal(signal.SIGSTOP)
        try:
            manager.sock.settimeout(2.0)
            assert manager.falls_silent()
        finally:
            server.signal(signal.SIGCONT)
        manager.sock.settimeout(PATIENCE)
        manager.hear_until("WATCHDOG=1")


def test_the_main_process_is_the_new_one_when_the_old_one_goes(tmp_path: Path, manager: Manager) -> None:
    """Not before, and no word of the old one's end is one about the service."""
    deploy(tmp_path)
    environ = {**manager.environ, "WATCHDOG_USEC": "400000"}
    with Server(tmp_path, "-w 1 -p pid app:app", environ=environ) as server:
        manager.hear_until("READY=1")
        server.signal(signal.SIGUSR2)
        server.wait_log("stop this one to finish")
        new = int((tmp_path / "pid.2").read_text())
        with hold(server, "a"):
            server.signal(signal.SIGTERM)
            server.wait_log("within 30.0 s")
            manager.hear_until("WATCHDOG=1")
            assert f"MAINPID={new}" not in manager.heard, "it still has something to do"
            release(server, "a")
        manager.hear_until(f"MAINPID={new}")
        server.wait_exit()
        server.follow(new)
        assert manager.hear_until("MAINPID=") == f"MAINPID={new}", "as every server says with READY=1"
        manager.hear_until("WATCHDOG=1")
        assert "STOPPING=1" not in manager.heard
        server.stop()
        manager.hear_until("STOPPING=1")


_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""


def test_in_an_upgrade_only_the_main_process_speaks(tmp_path: Path, manager: Manager) -> None:
    """Others are not heard (NotifyAccess=main), and the watchdog is not kept waiting by either."""
    manager.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    deploy(tmp_path)
    environ = {**manager.environ, "WATCHDOG_USEC": "1000000"}
    said: list[tuple[int, str]] = []

    def hear() -> None:
        text, ancillary, _, _ = manager.sock.recvmsg(10_000, socket.CMSG_SPACE(_CREDENTIALS.size))
        (pid,) = [_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary]
        said.extend((pid, state) for state in text.decode().split("\n"))

    with Server(tmp_path, f"-w 1 -p pid {FLAGS} app:app", environ=environ) as server:
        old = server.pid
        upgrade = start(tmp_path, "upgrade")
        while upgrade.poll() is None:
            hear()
        _, err = upgrade.communicate()
        assert upgrade.returncode == 0, err
        assert server.wait_exit() == 0
        new = int((tmp_path / "pid").read_text())
        server.follow(new)
        while (new, "WATCHDOG=1") not in said:
            hear()
        handed_over = said.index((old, f"MAINPID={new}"))
        assert {pid for pid, _ in said[: handed_over + 1]} == {old}
        assert {pid for pid, _ in said[handed_over + 1 :]} == {new}
        assert "STOPPING=1" not in [state for _, state in said]


def test_workers_do_not_find_the_manager(tmp_path: Path, manager: Manager) -> None:
    """A program that the application starts could speak in the server's name otherwise."""
    begins = ("NOTIFY_", "WATCHDOG_", "LISTEN_")
    deploy(tmp_path, boot=f"VERSION = [name for name in os.environ if name.startswith({begins})]")
    environ = {**manager.environ, "WATCHDOG_USEC": "9000000"}
    with Server(tmp_path, "-w 1 app:app", environ=environ) as server:
        assert server.ask().body.startswith(b"[] ")


@pytest.mark.parametrize("unit", ["prefork.service", "prefork.socket"])
def test_the_example_units_are_right(tmp_path: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("prefork", "preforkctl"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/srv/shop", str(tmp_path)))
    # Without the units of the machine: a container has few of those that others build on.
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)]
    found = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_commands_of_the_example_unit_work(tmp_path: Path, manager: Manager) -> None:
    """Its flags serve, and its reload fails when it is rolled back."""
    text = (UNITS / "prefork.service").read_text()
    assert "--control-socket /run/shop/control.sock shop:app" in text
    assert "preforkctl -s /run/shop/control.sock reload" in text
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {FLAGS} app:app", environ=manager.environ):
        assert ctl_json(tmp_path, "reload")["generation"] == 2
        deploy(tmp_path, boot="1 / 0")
        command = start(tmp_path, "reload")
        assert until(lambda: command.poll() is not None, "the end of the command")
        assert command.wait() == 1
        command.communicate()
