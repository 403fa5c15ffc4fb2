# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError
from prefork.process.pidfile import Pidfile

if TYPE_CHECKING:
    from pathlib import Path


def held_by_a_child(path: str) -> int:
    """Let another process hold the pidfile; return its pid."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        pidfile = Pidfile(path)
        pidfile.write(os.getpid())
        os.write(write, b"!")
        signal.pause()
    os.close(write)
    assert os.read(read, 1) == b"!"
    os.close(read)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_the_pid_is_written_and_the_file_removed(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    pidfile = Pidfile(str(path))
    pidfile.write(4213)
    assert path.read_text() == "4213\n"
    pidfile.remove()
    assert not path.exists()


def test_a_shorter_pid_replaces_a_longer_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    path.write_text("4194304\n")
    pidfile = Pidfile(str(path))
    pidfile.write(7)
    assert path.read_text() == "7\n"
    pidfile.remove()


def test_a_second_server_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "server.pid")
    pid = held_by_a_child(path)
    with pytest.raises(ConfigError, match=rf"another server holds it \(pid {pid}\)"):
        Pidfile(path)
    kill(pid)


def test_the_file_of_a_killed_server_is_stale_and_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "server.pid")
    pid = held_by_a_child(path)
    kill(pid)
    pidfile = Pidfile(path)
    assert pidfile.stale == pid
    pidfile.remove()


def test_the_number_of_a_living_stranger_does_not_hold_the_file(tmp_path: Path) -> None:
    """As after a restart of a container, where a worker of another program has the old pid."""
    path = tmp_path / "server.pid"
    path.write_text(f"{os.getpid()}\n")
    Pidfile(str(path)).remove()


def test_a_fresh_file_is_not_stale_and_garbage_is_no_pid(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    fresh = Pidfile(str(path))
    assert fresh.stale is None
    fresh.remove()
    path.write_text("not a number")
    garbage = Pidfile(str(path))
    assert garbage.stale is None
    garbage.remove()


def test_a_child_that_closes_its_copy_does_not_hold_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "server.pid")
    pidfile = Pidfile(path)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        pidfile.close_in_child()
        os.write(told, b"!")
        signal.pause()
    os.read(ready, 1)
    os.close(pidfile.fileno())  # as the kernel does when the arbiter is killed
    Pidfile(path).remove()
    kill(pid)
    os.close(ready)
    os.close(told)


def test_a_file_that_somebody_has_replaced_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    pidfile = Pidfile(str(path))
    path.unlink()
    path.write_text("another's\n")
    pidfile.remove()
    assert path.read_text() == "another's\n"


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pidfile .*/none/server.pid: No such file or directory"):
        Pidfile(str(tmp_path / "none" / "server.pid"))


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    pidfile = Pidfile(str(tmp_path / "server.pid"))
    full = os.open("/dev/full", os.O_RDWR)
    ours = os.dup(pidfile.fileno())
    os.dup2(full, pidfile.fileno())
    with pytest.raises(ConfigError, match=r"pidfile .*: (No space left on device|Invalid argument)"):
        pidfile.write(1)
    for fd in (full, ours):
        os.close(fd)
    pidfile.remove()


def test_the_file_is_removed_after_the_folder_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pidfile = Pidfile("server.pid")
    monkeypatch.chdir("/")
    pidfile.remove()
    assert not (tmp_path / "server.pid").exists()


def test_a_pidfile_goes_to_the_place_of_one_whose_holder_is_dead(tmp_path: Path) -> None:
    path, beside = tmp_path / "server.pid", tmp_path / "server.pid.2"
    kill(held_by_a_child(str(path)))
    pidfile = Pidfile(str(beside))
    pidfile.write(4712)
    pidfile.move(str(path))
    assert (path.read_text(), beside.exists()) == ("4712\n", False)
    with pytest.raises(ConfigError, match=r"another server holds it \(pid 4712\)"):
        Pidfile(str(path))
    pidfile.remove()
    assert not path.exists()


def test_it_does_not_go_where_another_server_is(tmp_path: Path) -> None:
    path, beside = tmp_path / "server.pid", tmp_path / "server.pid.2"
    pid = held_by_a_child(str(path))
    pidfile = Pidfile(str(beside))
    with pytest.raises(ConfigError, match=rf"server\.pid: another server holds it \(pid {pid}\)"):
        pidfile.move(str(path))
    assert (path.read_text(), pidfile.path) == (f"{pid}\n", str(beside))
    kill(pid)
    pidfile.remove()


def test_it_goes_where_another_server_is_that_lets_it(tmp_path: Path) -> None:
    """That one then leaves the file alone, which is not its own any more."""
    path, beside = tmp_path / "server.pid", tmp_path / "server.pid.2"
    old, new = Pidfile(str(path)), Pidfile(str(beside))
    new.write(4712)
    new.move(str(path), in_use=True)
    old.remove()
    assert path.read_text() == "4712\n"
    new.remove()


def test_without_a_file_there_it_goes_too(tmp_path: Path) -> None:
    pidfile = Pidfile(str(tmp_path / "server.pid.2"))
    pidfile.move(str(tmp_path / "server.pid"))
    assert [path.name for path in tmp_path.iterdir()] == ["server.pid"]
    pidfile.remove()
