# SPDX-License-Identifier: MIT
"""A start that cannot succeed ends within seconds and says why; one that does is what was asked for."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from folders import public_folder
from support.application import deploy, hold, release
from support.server import Server

from prefork.testing import processes
from prefork.testing.client import RequestFailed, connect, read_answer, send
from prefork.testing.load import Load
from prefork.testing.server import clean_environ, free_port
from prefork.testing.waiting import PATIENCE, until

NOBODY: Final = 65534
SOON: Final = 10.0
"""Seconds within which a start that cannot succeed must have ended."""


class Failure(NamedTuple):
    """A start that cannot succeed."""

    arguments: str
    code: int
    said: str
    boot: str = ""


FAILURES: Final = {
    "the application raises": Failure("app:app", 3, "KeyError: 'DATABASE_URL'", "os.environ['DATABASE_URL']"),
    "the application has a syntax error": Failure("app:app", 3, "SyntaxError", "def broken(:"),
    "an import of the application fails": Failure("app:app", 3, "No module named 'absent'", "import absent"),
    "the application exits": Failure("app:app", 3, "sys.exit(7)", "sys.exit(7)"),
    "the application ends the process": Failure("app:app", 3, "exit code 7", "os._exit(7)"),
    "the application crashes": Failure("app:app", 3, "SIGABRT", "os.abort()"),
    "the module is missing": Failure("nothing:app", 4, "nothing"),
    "the attribute is missing": Failure("app:wsgi", 4, "wsgi"),
    "the attribute is no application": Failure("app:VERSION", 4, "VERSION"),
    "no application is named": Failure("", 2, "prefork: error:"),
    "a flag is unknown": Failure("--wrokers 2 app:app", 2, "--workers"),
    "a value is wrong": Failure("--workers many app:app", 2, "--workers"),
    "the configuration file is missing": Failure("-c nowhere.py app:app", 1, "nowhere.py"),
    "the worker class is unknown": Failure("-k gevnet app:app", 1, "gevnet"),
    "the address is none": Failure("-b :http app:app", 1, ":http"),
    "the user does not exist": Failure("-u no-such-user app:app", 1, "no-such-user"),
    "the folder does not exist": Failure("--chdir nowhere app:app", 1, "nowhere"),
    "the folder of the log does not exist": Failure("--log-file no/where.log app:app", 1, "no/where.log"),
    "the folder of the pidfile does not exist": Failure("-p no/where.pid app:app", 1, "no/where.pid"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_start_that_cannot_succeed(tmp_path: Path, name: str) -> None:
    """It ends with the right exit code, says what is wrong, and leaves nothing behind."""
    arguments, code, said, boot = FAILURES[name]
    deploy(tmp_path, boot=boot)
    began = time.monotonic()
    with Server(tmp_path, f"-w 2 -p prefork.pid {arguments}", ready=False, expect=code) as server:
        assert server.wait_exit() == code
        assert said in server.log()
        assert time.monotonic() - began < SOON
        if code == 3 and "process" not in name and "crashes" not in name:
            assert 'app.py", line' in server.log() or said == "sys.exit(7)"
        if code in {1, 2}:
            assert "Traceback" not in server.log()
    assert not (tmp_path / "prefork.pid").exists()


def test_a_first_boot_that_takes_too_long_ends_with_its_stack(tmp_path: Path) -> None:
    deploy(tmp_path, boot="time.sleep(600)")
    with Server(tmp_path, "-w 2 --boot-timeout 1 app:app", ready=False, expect=3) as server:
        assert server.wait_exit(SOON) == 3
        assert "boot_timeout" in server.log()
        assert 'app.py", line' in server.log()


def test_a_broken_configuration_file(tmp_path: Path) -> None:
    """File and line are named."""
    deploy(tmp_path)
    (tmp_path / "prefork.conf.py").write_text("workers = 2\n\nraise ValueError('not today')\n")
    with Server(tmp_path, ready=False, expect=1) as server:
        assert server.wait_exit() == 1
        assert "prefork.conf.py:3" in server.log()
        assert "not today" in server.log()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefork", *arguments],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_check_config_says_what_a_start_would(tmp_path: Path) -> None:
    deploy(tmp_path)
    (tmp_path / "prefork.conf.py").write_text("wsgi_app = 'app:app'\n")
    good = run(tmp_path, "--check-config")
    assert (good.returncode, good.stdout) == (0, "ok\n")
    deploy(tmp_path, boot="raise RuntimeError('no database')")
    bad = run(tmp_path, "--check-config")
    assert bad.returncode == 3
    assert "no database" in bad.stderr
    (tmp_path / "app.py").unlink()
    assert run(tmp_path, "--check-config").returncode == 4
    (tmp_path / "prefork.conf.py").write_text("worker = 5\n")
    wrong = run(tmp_path, "--check-config", "app:app")
    assert wrong.returncode == 1
    assert "prefork.conf.py" in wrong.stderr
    assert "workers" in wrong.stderr


def test_print_config_names_the_source_of_every_value(tmp_path: Path) -> None:
    (tmp_path / "prefork.conf.py").write_text("timeout = 5\n")
    shown = run(tmp_path, "--print-config", "-w", "3", "app:app").stdout.splitlines()
    assert next(line for line in shown if line.startswith("workers =")).endswith("# flag -w")
    assert "prefork.conf.py" in next(line for line in shown if line.startswith("timeout ="))
    assert next(line for line in shown if line.startswith("backlog =")).endswith("# default")


# The process


def test_titles_show_what_each_process_does(tmp_path: Path) -> None:
    deploy(tmp_path, boot="hold_boot = [time.sleep(0.01) for _ in iter(lambda: os.path.exists('go'), True)]")
    with Server(tmp_path, "-w 2 --name shop app:app", ready=False) as server:
        workers = server.wait_workers(2)
        until(
            lambda: processes.title(server.pid) == "prefork: arbiter [shop] starting, 0 of 2 workers", "title"
        )
        until(lambda: processes.title(workers[0]) == "prefork: worker [shop] booting", "title of a worker")
        (tmp_path / "go").touch()
        until(
            lambda: processes.title(server.pid) == "prefork: arbiter [shop] running, 2 of 2 workers", "title"
        )
        until(lambda: processes.title(workers[0]) == "prefork: worker [shop]", "title of a worker")


def test_a_second_server_with_the_same_pidfile_is_refused(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 -p prefork.pid app:app") as server:
        assert (tmp_path / "prefork.pid").read_text() == f"{server.pid}\n"
        second = run(tmp_path, "-p", "prefork.pid", "-b", f"127.0.0.1:{free_port()}", "app:app")
        assert second.returncode == 1
        assert f"another server holds it (pid {server.pid})" in second.stderr
        assert (tmp_path / "prefork.pid").read_text() == f"{server.pid}\n"
        assert server.ask().status == 200
    assert not (tmp_path / "prefork.pid").exists()


def test_a_daemon(tmp_path: Path) -> None:
    """The command returns when the daemon serves; signals reach it by its pidfile; nothing is left."""
    deploy(tmp_path)
    arguments = "-D -w 2 -p prefork.pid --log-file error.log app:app"
    with Server(tmp_path, arguments, ready=False) as server:
        assert server.wait_exit() == 0
        assert server.ask().status == 200
        pid = int((tmp_path / "prefork.pid").read_text())
        server.follow(pid)
        daemon = processes.look(pid)
        assert daemon is not None
        assert daemon.session != server.started
        assert daemon.session != daemon.pid, "a session leader could get a terminal"
        assert processes.descriptors(pid).count("/dev/null") == 3
        with Load(server.address) as load:
            load.wait()
            deploy(tmp_path, "two")
            server.signal(signal.SIGHUP)
            load.wait_only_version("two")
            load.check()
        server.signal(signal.SIGWINCH)
        server.wait_workers(0)
        server.signal(signal.SIGTTIN)
        server.wait_workers(1)
        assert server.ask().text.startswith("two")
        server.signal(signal.SIGHUP)
        server.wait_workers(2)

        def has_said(text: str) -> bool:
            return text in (tmp_path / "error.log").read_text()

        until(lambda: has_said("generation 3 ready"), "the end of the reload")
        server.signal(signal.SIGUSR2)
        until(lambda: has_said("stop this one to finish"), "a successor")
        successor = int((tmp_path / "prefork.pid.2").read_text())
        server.signal(signal.SIGTERM)
        until(lambda: not server.is_running, "the end of the first daemon")
        server.follow(successor)
        assert (tmp_path / "prefork.pid").read_text() == f"{successor}\n"
        assert server.ask().text.startswith("two")
        server.stop()
        assert not (tmp_path / "prefork.pid").exists()


def test_a_daemon_that_cannot_start_says_so_to_the_shell(tmp_path: Path) -> None:
    deploy(tmp_path, boot="raise RuntimeError('no database')")
    with Server(tmp_path, "-D -w 2 --log-file error.log app:app", ready=False, expect=3) as server:
        assert server.wait_exit() == 3
        assert "prefork: error: no worker could boot" in server.log()
        assert "no database" in (tmp_path / "error.log").read_text()
        until(lambda: not server.belonging(), "the end of the daemon")


def test_umask(tmp_path: Path) -> None:
    deploy(tmp_path, request="open('made', 'w').close()")
    with Server(tmp_path, "-w 1 --umask 027 --access-logfile access.log app:app") as server:
        server.ask()
        for name in ("made", "access.log"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_workers_are_who_they_should_be() -> None:
    """Root stays the arbiter; workers and what they must open are another's. Without root it is an error."""
    with public_folder() as folder:
        deploy(folder)
        group = 54321  # which is no user's own
        arguments = f"-w 2 -u {NOBODY} -g {group} --access-logfile access.log app:app"
        if os.geteuid() != 0:
            refused = run(folder, "-u", "0", "app:app")
            assert refused.returncode == 1
            assert "only root can run workers as user" in refused.stderr
            return
        with Server(folder, arguments, address=str(folder / "s")) as server, Load(server.address) as load:
            load.wait()
            for pid in server.wait_workers(2):
                assert processes.status(pid, "Uid").split() == [str(NOBODY)] * 4
                assert processes.status(pid, "Gid").split() == [str(group)] * 4
                assert processes.status(pid, "Groups").split() == [str(group)]
            assert processes.status(server.pid, "Uid").split() == ["0"] * 4
            assert (folder / "s").stat().st_uid == NOBODY
            (folder / "access.log").rename(folder / "access.log.1")
            server.signal(signal.SIGUSR1)
            until((folder / "access.log").exists, "the new log file")
            until(lambda: (folder / "access.log").read_text().count("\n") > 20, "lines of workers in it")
            load.check()


def test_workers_that_may_not_remove_their_socket_outlive_a_killed_arbiter() -> None:
    """They answer who is in its queue, and go. Without root nobody can be kept from removing it."""
    with public_folder() as folder:
        deploy(folder)
        arguments = "-w 1 app:app" if os.geteuid() != 0 else f"-w 1 -u {NOBODY} -g {NOBODY} app:app"
        address = str(folder / "s")
        with Server(folder, arguments, address=address, expect=-signal.SIGKILL) as server:
            with Load(address) as load:
                load.wait()
                os.kill(server.pid, signal.SIGKILL)
                load.wait_end()
                server.wait_exit()
                until(lambda: not server.belonging(), "the end of the worker")
            assert "Traceback" not in server.log()
            assert len(load.lost) == 0


def ticks(server: Server) -> int:
    """Return the processor time of a server's processes so far, in hundredths of a second."""
    stats = [Path(f"/proc/{found.pid}/stat").read_text() for found in server.belonging()]
    return sum(int(field) for text in stats for field in text.rpartition(")")[2].split()[11:13])


def test_a_server_that_waits_uses_no_processor_time(tmp_path: Path) -> None:
    """With idle and half served connections, after a reload, and while it waits for a request to end."""
    deploy(tmp_path)
    arguments = f"-w 2 -b unix:{tmp_path / 's'} app:app"
    with Server(tmp_path, arguments) as server, ExitStack() as stack:

        def rests() -> bool:
            before = ticks(server)
            time.sleep(0.5)
            return ticks(server) - before <= 2

        server.signal(signal.SIGHUP)
        server.wait_log("2 of 2 replaced")
        for number in range(20):
            sock = stack.enter_context(connect(str(tmp_path / "s") if number % 2 else server.address))
            send(sock, b"GET / HTTP/1.1\r\n" if number % 4 < 2 else b"")
        until(rests, "a rest with connections open")
        busy = stack.enter_context(hold(server, "a"))
        server.signal(signal.SIGTTOU)
        until(rests, "a rest with a worker that leaves")
        server.signal(signal.SIGTERM)
        server.wait_log("stopping")
        until(rests, "a rest while stopping")
        release(server, "a")
        assert read_answer(busy).status == 200


# Hooks

HOOKS: Final = {
    "on_starting": "server",
    "on_reload": "server",
    "when_ready": "server",
    "pre_fork": "server, worker",
    "post_fork": "server, worker",
    "post_worker_init": "worker",
    "worker_int": "worker",
    "worker_abort": "worker",
    "pre_request": "worker, req",
    "post_request": "worker, req, environ, resp",
    "child_exit": "server, worker",
    "worker_exit": "server, worker",
    "nworkers_changed": "server, new, old",
    "on_exit": "server",
}
IN_THE_ARBITER: Final = frozenset(
    {"on_starting", "on_reload", "when_ready", "pre_fork", "child_exit", "nworkers_changed", "on_exit"}
)


def configure_hooks(folder: Path) -> None:
    text = "import os\n"
    for name, parameters in HOOKS.items():
        text += (
            f"def {name}({parameters}):\n"
            f"    with open('hooks', 'a') as file: file.write(f'{name} {{os.getpid()}}\\n')\n"
        )
    (folder / "gunicorn.conf.py").write_text(text)


def calls(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "hooks").read_text().splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def test_hooks_run_in_their_order_and_their_process(tmp_path: Path) -> None:
    """A life with every hook: start, request, reload, more workers, timeout, INT to a worker, stop."""
    deploy(tmp_path, request="if path == '/stuck': time.sleep(600)")
    configure_hooks(tmp_path)
    with Server(tmp_path, "-c gunicorn.conf.py -w 1 --timeout 1 app:app") as server:

        def wait_calls(name: str, count: int) -> None:
            until(
                lambda: [call for call, _ in calls(tmp_path)].count(name) >= count, f"{count} calls of {name}"
            )

        wait_calls("post_request", 1)
        wait_calls("when_ready", 1)
        first = server.workers()[0]
        begun = calls(tmp_path)
        arbiter = [name for name, pid in begun if pid == server.pid]
        assert arbiter == ["on_starting", "nworkers_changed", "pre_fork", "when_ready"]
        worker = [name for name, pid in begun if pid == first]
        assert worker == ["post_fork", "post_worker_init", "pre_request", "post_request"]

        server.signal(signal.SIGHUP)
        wait_calls("child_exit", 1)
        reloaded = [name for name, pid in calls(tmp_path)[len(begun) :] if pid == server.pid]
        assert reloaded == ["on_reload", "pre_fork", "child_exit"]
        assert ("worker_exit", first) in calls(tmp_path)

        server.signal(signal.SIGTTIN)
        wait_calls("nworkers_changed", 2)
        server.wait_workers(2)
        server.wait_log("ready", count=3)

        with pytest.raises(RequestFailed):
            server.ask("/stuck")
        wait_calls("worker_abort", 1)
        wait_calls("child_exit", 2)
        server.wait_log("ready", count=4)
        os.kill(server.wait_workers(2)[0], signal.SIGINT)
        wait_calls("worker_int", 1)
        wait_calls("child_exit", 3)
        server.wait_workers(2)
        server.stop()
        seen = calls(tmp_path)
        assert {name for name, _ in seen} == set(HOOKS)
        assert seen[-1] == ("on_exit", server.pid)
        assert all((pid == server.pid) == (name in IN_THE_ARBITER) for name, pid in seen)


def test_a_hook_that_raises_stops_nothing(tmp_path: Path) -> None:
    """But those that run before anything is served: on_starting and what belongs to a worker's boot."""
    deploy(tmp_path)
    careless = set(HOOKS) - {"on_starting", "post_fork", "post_worker_init", "pre_request"}
    text = "".join(
        f"def {name}({HOOKS[name]}):\n    raise RuntimeError('from {name}')\n" for name in careless
    )
    (tmp_path / "prefork.conf.py").write_text(text)
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        server.signal(signal.SIGHUP)
        server.wait_log("2 of 2 replaced")
        server.signal(signal.SIGTTIN)
        server.wait_workers(3)
        load.wait()
        load.check()
        assert "from on_reload" in server.log()
    assert "from on_exit" in server.log()
