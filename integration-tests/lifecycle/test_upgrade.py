# SPDX-License-Identifier: MIT
"""An upgrade takes no request, whatever becomes of either arbiter."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from support import control
from support.application import deploy, hold, release
from support.server import Server
from support.workers import GTHREAD, SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing import processes
from prefork.testing.client import read_answer
from prefork.testing.load import Load
from prefork.testing.server import bind_text, free_port
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = UNDER_BOTH

READY: Final = "stop this one to finish, or that one to go back"


def configure(folder: Path, text: str) -> None:
    (folder / "prefork.conf.py").write_text(text)


def pidfile(folder: Path, name: str = "pid") -> int:
    """Return what a pidfile says, 0 when there is none."""
    path = folder / name
    return int(path.read_text() or 0) if path.exists() else 0


def workers_of(arbiter: int) -> list[int]:
    """Return the pids of an arbiter's workers, apart from other arbiters."""
    children = [child.pid for child in processes.children(arbiter) if not child.is_zombie]
    return [pid for pid in children if processes.title(pid).startswith("prefork: worker")]


def all_have_open(path: Path, *arbiters: int) -> bool:
    """Return whether arbiters and their workers all have a file open."""
    pids = [pid for arbiter in arbiters for pid in (arbiter, *workers_of(arbiter))]
    return all(str(path) in processes.descriptors(pid) for pid in pids)


def start_successor(server: Server) -> int:
    """Send USR2, wait until the other arbiter is ready; return its pid."""
    server.signal(signal.SIGUSR2)
    server.wait_log(READY)
    return pidfile(server.folder, "pid.2")


# preforkctl upgrade


def test_new_code_is_served_by_a_new_arbiter(tmp_path: Path, worker_class: WorkerClass) -> None:
    """Nothing is lost over TCP or Unix, on connections that stay or not, while the new arbiter takes over."""
    deploy(tmp_path, "one")
    path = str(tmp_path / "web.sock")
    keep = worker_class is GTHREAD
    arguments = f"-w 2 -b unix:{path} -p pid {control.FLAGS} app:app"
    with Server(tmp_path, arguments) as server, ExitStack() as stack:
        loads = [stack.enter_context(Load(where, keep=keep)) for where in (server.address, path)]
        old = server.pid
        held = stack.enter_context(hold(server, "a"))
        loads[0].wait()
        deploy(tmp_path, "two")
        upgrade = control.start(tmp_path, "upgrade", "--json")
        for load in loads:
            load.wait_only_version("two")
        assert upgrade.poll() is None, "it waits for the end of the old one"
        assert pidfile(tmp_path) == old
        release(server, "a")
        assert read_answer(held).text.startswith("one")
        out, err = upgrade.communicate(timeout=20)
        assert upgrade.returncode == 0, err
        assert server.wait_exit() == 0
        server.follow(pidfile(tmp_path))
        assert f'"pid": {server.pid}' in out
        assert control.ask(tmp_path, "status")["pid"] == server.pid
        assert [name for name in os.listdir(tmp_path) if name.endswith(".2")] == []
        for load in loads:
            load.wait()
            load.check()
    assert not (tmp_path / "web.sock").exists()
    assert not (tmp_path / "pid").exists()


UNTIL_GO: Final = "[time.sleep(0.01) for _ in iter(lambda: os.path.exists('go'), True)]"

BROKEN: Final = (
    ("", "raise RuntimeError('broken')", "exit code 3: no worker could boot"),
    ("workers = 'many'", "", "workers is 'many'"),
    ("", "open('forbidden', 'w').close()", "the hook pre_exec failed: OSError('forbidden')"),
)
"""What is wrong in the configuration file, what the application does when it is loaded, what is said."""

PRE_EXEC: Final = """
import os
def pre_exec(server):
    if os.path.exists("forbidden"):
        raise OSError("forbidden")
"""


@only(SYNC)
def test_a_new_arbiter_that_fails_is_ended_and_the_old_one_serves_on(tmp_path: Path) -> None:
    common = f'wsgi_app = "app:app"\npidfile = "pid"\ncontrol_socket = "{control.SOCKET}"\nworkers = 2\n'
    common += PRE_EXEC
    configure(tmp_path, common)
    deploy(tmp_path, "one")
    with Server(tmp_path, "") as server, Load(server.address) as load:
        server.wait_log("ready after", count=2)
        workers = server.workers()
        for settings, application, why in BROKEN:
            deploy(tmp_path, "two", boot=application)
            if "forbidden" in application:
                (tmp_path / "forbidden").touch()
            configure(tmp_path, common + settings)
            _, err = control.ctl(tmp_path, "upgrade", expect=1)
            assert why in err
            assert "this server serves on" in err
            server.wait_log(why)
        assert server.log().count("; this one serves on") == len(BROKEN)
        load.wait()
        load.check()
        assert server.workers() == workers
        assert pidfile(tmp_path) == server.pid
        assert "failed: " in control.ask(tmp_path, "status")["upgrade"]


# The dance by hand


@only(SYNC)
def test_usr2_winch_and_term_move_a_server_to_a_new_arbiter(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, f"-w 2 -p pid {control.FLAGS} app:app") as server, Load(server.address) as load:
        old = server.pid
        deploy(tmp_path, "two")
        new = start_successor(server)
        server.signal(signal.SIGUSR2)
        server.wait_log(f"upgrade refused: an upgrade is under way: arbiter {new} is ready")
        os.kill(new, signal.SIGUSR2)
        server.wait_log(f"upgrade refused: the arbiter before this one ({old}) has not gone yet")
        load.wait_version("one")
        server.signal(signal.SIGWINCH)
        load.wait_only_version("two")
        until(lambda: not workers_of(old), "the end of the old workers")
        assert (pidfile(tmp_path), pidfile(tmp_path, "pid.2")) == (old, new)
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        server.follow(new)
        assert (pidfile(tmp_path), pidfile(tmp_path, "pid.2")) == (new, 0)
        assert control.ask(tmp_path, "status")["pid"] == new
        load.wait()
        load.check()


@only(SYNC)
def test_either_arbiter_is_told_of_log_files_that_have_moved(tmp_path: Path) -> None:
    """What rotates them knows one pid. The other one may start just then, or finish its last requests."""
    deploy(tmp_path, "one")
    log = tmp_path / "error.log"
    arguments = "-w 1 -p pid --error-logfile error.log --access-logfile access.log app:app"
    with Server(tmp_path, arguments) as server, hold(server, "a") as held:
        deploy(tmp_path, "two", boot="print(os.getpid(), file=open('boots', 'w')); " + UNTIL_GO)
        server.signal(signal.SIGUSR2)
        until((tmp_path / "boots").exists, "a worker of the new arbiter")
        new = pidfile(tmp_path, "pid.2")
        for told, name in ((server.pid, "early"), (new, "late")):
            for path in (log, tmp_path / "access.log"):
                path.rename(f"{path}.{name}")
            os.kill(told, signal.SIGUSR1)
            until(lambda: all_have_open(log, server.pid, new), "everybody to have the new file")
            (tmp_path / "go").touch()
            until(lambda: READY in "".join(each.read_text() for each in tmp_path.glob("error.log*")), "both")
            if told is not new:
                server.signal(signal.SIGWINCH)
        release(server, "a")
        assert read_answer(held).status == 200
        assert "GET /hold/a" in (tmp_path / "access.log").read_text()
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        server.follow(new)


@only(SYNC)
def test_winch_hup_and_term_bring_the_old_one_back(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    path = str(tmp_path / "web.sock")
    with Server(tmp_path, "-w 2 -p pid app:app", address=path) as server, Load(path) as load:
        deploy(tmp_path, "two")
        new = start_successor(server)
        server.signal(signal.SIGWINCH)
        load.wait_only_version("two")
        deploy(tmp_path, "three")
        server.signal(signal.SIGHUP)
        load.wait_version("three")
        os.kill(new, signal.SIGTERM)
        load.wait_only_version("three")
        server.wait_log(f"arbiter {new} ended (exit code 0)")
        assert (pidfile(tmp_path), pidfile(tmp_path, "pid.2")) == (server.pid, 0)
        load.check()


@only(SYNC)
def test_an_old_one_without_workers_takes_over_when_the_new_one_is_killed(tmp_path: Path) -> None:
    """Also as often as that happens; requests in the queue wait for it."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 -p pid app:app") as server:
        for _ in range(2):
            count = server.log().count(READY) + 1
            server.signal(signal.SIGUSR2)
            server.wait_log(READY, count=count)
            new = pidfile(tmp_path, "pid.2")
            server.signal(signal.SIGWINCH)
            until(lambda: not workers_of(server.pid), "a server without workers")
            os.kill(new, signal.SIGKILL)
            with Load(server.address) as load:
                server.wait_log(
                    f"upgrade failed: arbiter {new} ended (killed by SIGKILL); this one serves on"
                )
                load.wait()
                load.check()


@only(SYNC)
def test_a_new_one_goes_on_when_the_old_one_is_killed(tmp_path: Path) -> None:
    """Workers without an arbiter leave the socket to it, and it takes the paths."""
    deploy(tmp_path)
    path = str(tmp_path / "web.sock")
    with Server(tmp_path, f"-w 2 -p pid {control.FLAGS} app:app", address=path, expect=-9) as server:
        orphans = server.wait_workers(2)
        new = start_successor(server)
        server.signal(signal.SIGKILL)
        until(lambda: pidfile(tmp_path) == new, "the pidfile of the new one")
        server.follow(new)
        until(lambda: not any(map(processes.is_running, orphans)), "the end of the orphans")
        with Load(path) as load:
            load.wait()
            load.check()
        assert control.ask(tmp_path, "status")["pid"] == new


@only(SYNC)
def test_a_stop_ends_a_new_one_that_is_not_ready(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 -p pid app:app") as server:
        deploy(tmp_path, boot="time.sleep(60)")
        server.signal(signal.SIGUSR2)
        new = until(lambda: pidfile(tmp_path, "pid.2"), "another arbiter")
        until(lambda: processes.children(new), "a worker of it")
        server.stop()
        server.wait_log("upgrade given up: stopping")
        assert not processes.is_running(new)
        assert list(tmp_path.glob("pid*")) == []


# What is handed on


@only(SYNC)
def test_a_preloading_server_can_change_its_address_and_folder(tmp_path: Path) -> None:
    """Of the listeners each one serves what its settings name; TTIN and the moved link are followed."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        deploy(tmp_path / name, name)
    (tmp_path / "current").symlink_to("one")
    kept, given_up, added = (("127.0.0.1", free_port()) for _ in range(3))
    common = 'wsgi_app = "app:app"\nworkers = 1\npreload_app = True\nchdir = "current"\n'

    def bind(*addresses: tuple[str, int]) -> str:
        return (
            common
            + f"bind = {[bind_text(address) for address in addresses]}\ncontrol_socket = '{tmp_path}/c'\n"
        )

    configure(tmp_path, bind(kept, given_up))
    with Server(tmp_path, "", address=kept, bind=False) as server, Load(kept) as load, Load(given_up) as last:
        server.signal(signal.SIGTTIN)
        server.wait_log("ready after", count=3)  # the template too
        configure(tmp_path, bind(kept, added))
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").replace(tmp_path / "current")
        control.ctl(tmp_path, "-s", "c", "upgrade")
        last.wait_end()
        load.wait_only_version("two")
        new = int(server.log().rpartition("all is left to arbiter ")[2].split()[0])
        server.follow(new)
        until(lambda: len(workers_of(new)) == 2, "two workers")
        with Load(added) as load_added:
            load_added.wait()
            load_added.check()
        load.check()
        assert not last.lost
