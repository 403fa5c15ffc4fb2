# SPDX-License-Identifier: MIT
"""With --reload a save is served, whatever was saved and however; without a need nothing is reloaded."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from support.application import deploy, hold, release
from support.server import Server
from support.workers import UNDER_BOTH

from prefork.testing import client, processes
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = UNDER_BOTH


@contextlib.contextmanager
def reloading(folder: Path, arguments: str = "-w 1", **more: Any) -> Iterator[Server]:
    """Run a server whose files are watched already."""
    with Server(folder, f"--reload {arguments} app:app", **more) as server:
        wait_watcher(server)
        yield server


def serves(server: Server, version: str) -> None:
    """Wait until a version answers."""
    until(lambda: server.ask().text.startswith(version), f"version {version}")


def watchers(server: Server) -> list[int]:
    """Return the processes that watch, once they do."""
    return [pid for pid in server.workers() if "watcher" in processes.title(pid) and watches(pid)]


def watches(pid: int) -> bool:
    try:
        return "anon_inode:inotify" in processes.descriptors(pid)
    except OSError:
        return False


def wait_watcher(server: Server) -> int:
    until(lambda: watchers(server), "a process that watches")
    (pid,) = watchers(server)
    return pid


def generations(server: Server) -> int:
    return server.log().count("reload: starting generation")


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def replacing(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.swp")
    fresh.write_text(text)
    fresh.replace(path)


def with_a_backup(path: Path, text: str) -> None:
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


# What is reloaded


@pytest.mark.parametrize("save", [in_place, replacing, with_a_backup])
def test_a_save_is_served_however_the_editor_does_it(
    tmp_path: Path, save: Callable[[Path, str], None]
) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path) as server:
        text = (tmp_path / "app.py").read_text()
        for old, new in (("one", "two"), ("two", "six")):
            text = text.replace(repr(old), repr(new))
            save(tmp_path / "app.py", text)
            serves(server, new)
        assert "reload: app.py changed" in server.log()


def test_all_workers_serve_the_new_code(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path, "-w 3") as server:
        server.wait_log("ready after", count=3)
        deploy(tmp_path, "two")
        server.wait_log("3 of 3 replaced")
        until(lambda: len(server.workers()) == 4, "the old workers gone")
        assert {server.ask().text[:3] for _ in range(20)} == {"two"}


def test_two_saves_of_one_second_and_size_are_both_served(tmp_path: Path) -> None:
    """Python takes the cached compilation of one for that of the other."""
    deploy(tmp_path, "one")
    with reloading(tmp_path, environ={"PYTHONDONTWRITEBYTECODE": ""}) as server:
        for version in ("two", "six", "ten"):
            deploy(tmp_path, version)
            os.utime(tmp_path / "app.py", (1_600_000_000, 1_600_000_000))
            serves(server, version)


def test_an_extra_file_is_watched(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    deploy(tmp_path, boot="PAGE = open('pages/index.html').read()", request="path = PAGE")
    page = tmp_path / "pages" / "index.html"
    page.write_text("spring")
    with reloading(tmp_path, "--reload-extra-file pages/*.html -w 1") as server:
        assert "spring" in server.ask().text
        replacing(page, "summer")
        until(lambda: "summer" in server.ask().text, "the new page")
        assert "reload: pages/index.html changed" in server.log()


def test_a_module_from_elsewhere_that_is_imported_later_is_watched(tmp_path: Path) -> None:
    """As of a library that is installed editable, when a request is the first to need it."""
    project, library = tmp_path / "project", tmp_path / "library"
    project.mkdir()
    library.mkdir()
    (library / "late.py").write_text("PRICE = 'cheap'")
    deploy(project, request="import late; path = late.PRICE")
    path = os.pathsep.join(path_with(library))
    with reloading(project, environ={"PYTHONPATH": path}) as server:
        assert "cheap" in server.ask().text
        in_place(library / "late.py", "PRICE = 'dear'")
        until(lambda: "dear" in server.ask().text, "the new price")


def path_with(folder: Path) -> list[str]:
    """Return PYTHONPATH as it is, and a folder more."""
    return [str(folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def test_a_running_request_is_finished_by_the_old_code(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path) as server, hold(server, "a") as sock:
        deploy(tmp_path, "two")
        serves(server, "two")
        release(server, "a")
        assert client.read_answer(sock).text.startswith("one")


# What is not


def test_ten_saves_in_a_row_are_few_reloads(tmp_path: Path) -> None:
    deploy(tmp_path, "0")
    with reloading(tmp_path) as server:
        for number in range(1, 11):
            deploy(tmp_path, f"number-{number};")
        serves(server, "number-10;")
        assert generations(server) <= 3


def test_what_is_written_beside_the_code_is_no_save(tmp_path: Path) -> None:
    """Each file is there before the save that is told, so that its turn has come by then."""
    deploy(tmp_path, "one")
    with reloading(tmp_path) as server:
        deploy(tmp_path, "two")
        serves(server, "two")
        for name in (".app.py.swp", "app.py~", "4913", "app.cpython-311.pyc", "shop.log", "#app.py#"):
            (tmp_path / name).write_text("x")
        (tmp_path / ".#app.py").symlink_to("somebody@somewhere")
        deploy(tmp_path, "six")
        serves(server, "six")
        assert re.findall(r"reload: (.*) changed", server.log()) == ["app.py"] * generations(server)


# Code that cannot be loaded


BROKEN: Final = (
    "def broken(:",
    "raise RuntimeError('no database today')",
    "import a_module_that_is_not_there",
)


@pytest.mark.parametrize("boot", BROKEN)
def test_broken_code_is_shown_once_and_a_repair_is_served(tmp_path: Path, boot: str) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path, "-w 2") as server:
        server.wait_log("ready after", count=2)
        deploy(tmp_path, "bad", boot=boot)
        server.wait_log("serving the old code on (generation 1); waiting for a change")
        assert server.log().count('app.py", line 6') == 1
        assert server.ask().text.startswith("one")
        deploy(tmp_path, "two")
        serves(server, "two")


@pytest.mark.parametrize("boot", BROKEN)
def test_a_first_start_that_fails_waits_for_the_repair(tmp_path: Path, boot: str) -> None:
    """Who connects meanwhile is answered then."""
    deploy(tmp_path, "bad", boot=boot)
    with reloading(tmp_path, "-w 2", ready=False) as server:
        server.wait_log("nobody serves; waiting for a change")
        assert server.log().count('app.py", line 6') == 1
        with client.connect(server.address) as sock:
            client.send(sock, client.render("/"))
            deploy(tmp_path, "two")
            assert client.read_answer(sock).text.startswith("two")


def test_a_module_that_is_missing_is_served_when_it_is_there(tmp_path: Path) -> None:
    with reloading(tmp_path, ready=False) as server:
        server.wait_log("nobody serves; waiting for a change")
        deploy(tmp_path, "one")
        server.wait_ready()
        serves(server, "one")


def test_a_server_that_waits_for_a_repair_can_be_stopped(tmp_path: Path) -> None:
    deploy(tmp_path, boot="def broken(:")
    with reloading(tmp_path, ready=False) as server:
        server.wait_log("waiting for a change")
        server.stop()


def test_a_save_overtakes_code_that_hangs_when_it_is_loaded(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path) as server:
        deploy(tmp_path, "bad", boot="open('loading', 'w').close(); time.sleep(600)")
        until((tmp_path / "loading").exists, "code that hangs")
        deploy(tmp_path, "two")
        serves(server, "two")


# The process that watches


def test_when_it_is_killed_another_one_watches(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with reloading(tmp_path) as server:
        first = wait_watcher(server)
        os.kill(first, signal.SIGKILL)
        server.wait_log("the process that watches files ended (killed by SIGKILL)")
        until(lambda: watchers(server) not in ([], [first]), "another one")
        deploy(tmp_path, "two")
        serves(server, "two")


def test_it_ends_with_an_arbiter_that_is_killed(tmp_path: Path) -> None:
    """At once, though a worker that was forked later than it has a request to finish."""
    deploy(tmp_path, "one")
    with reloading(tmp_path, expect=-signal.SIGKILL) as server:
        deploy(tmp_path, "two")
        serves(server, "two")
        watcher = wait_watcher(server)
        with hold(server, "a") as sock:
            server.signal(signal.SIGKILL)
            until(lambda: not processes.is_running(watcher), "its end")
            release(server, "a")
            assert client.read_answer(sock).text.startswith("two")
        until(lambda: all(found.is_zombie for found in server.belonging()), "the end of all")


def test_it_has_neither_the_listener_nor_an_end_of_a_workers_channel(tmp_path: Path) -> None:
    """Its own channel is the one socket: else a dead arbiter would seem alive, and a closed port open."""
    deploy(tmp_path)
    with reloading(tmp_path, "-w 2") as server:
        watcher = wait_watcher(server)
        sockets = [name for name in processes.descriptors(watcher) if name.startswith("socket:")]
        assert len(sockets) == 1


def test_without_reload_there_is_none(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 1 app:app") as server:
        deploy(tmp_path, "two")
        assert server.ask().text.startswith("one")
        assert watchers(server) == []


def test_reload_can_be_turned_on_and_off_by_a_reload(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    configuration = tmp_path / "prefork.toml"
    configuration.write_text("workers = 1\nreload = false\n")
    with Server(tmp_path) as server:
        configuration.write_text("workers = 1\nreload = true\n")
        server.signal(signal.SIGHUP)
        server.wait_log("1 of 1 replaced")
        watcher = wait_watcher(server)
        deploy(tmp_path, "two")
        serves(server, "two")
        configuration.write_text("workers = 1\nreload = false\n")
        server.signal(signal.SIGHUP)
        until(lambda: not processes.is_running(watcher), "its end")
        assert watchers(server) == []
