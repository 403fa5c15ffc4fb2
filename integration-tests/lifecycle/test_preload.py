# SPDX-License-Identifier: MIT
"""With --preload the application is loaded once in each generation, and nothing else is different."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from folders import public_folder
from support.application import deploy, hold, release, reload_slowly
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing import processes
from prefork.testing.client import read_answer
from prefork.testing.load import Load
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

NOBODY: Final = 65534
SERVED: Final = "ready, 2 of 2 replaced"
NOTED: Final = "open(f'loaded-{os.getpid()}', 'w').close()"
"""At the import of the application: a file that names the process."""


def loaders(folder: Path) -> set[int]:
    """Return who has loaded the application."""
    return {int(path.name.partition("-")[2]) for path in folder.glob("loaded-*")}


def template(server: Server) -> int:
    """Return the pid of the only template, once it is the only one."""
    until(lambda: len(server.templates()) == 1, "one template")
    return server.templates()[0]


def sockets(pid: int) -> int:
    return sum(name.startswith("socket:") for name in processes.descriptors(pid))


# What is shared


def test_the_application_is_loaded_once_by_the_template(tmp_path: Path) -> None:
    """The arbiter is the workers' parent all the same."""
    deploy(tmp_path, boot=NOTED)
    with Server(tmp_path, "-w 3 --preload app:app") as server:
        server.wait_log("ready after", count=4)
        server.wait_workers(3)
        assert loaders(tmp_path) == {template(server)}
        assert processes.title(template(server)) == "prefork: template [app:app]"
        until(lambda: not processes.children(template(server)), "the end of what was in between")


def test_each_worker_runs_its_hooks_and_has_a_number_of_its_own(tmp_path: Path) -> None:
    """Python seeds `random` anew in a forked process, and so in each worker."""
    (tmp_path / "prefork.conf.py").write_text(
        "import os, random\n"
        "workers = 3\n"
        "preload_app = True\n"
        "def pre_fork(server, worker):\n"
        "    server.log.info('pre_fork of %d in the arbiter: %s', worker.age, os.getpid() == server.pid)\n"
        "def post_fork(server, worker):\n"
        "    worker.log.info('post_fork %s %s', worker.ppid == server.pid, worker.pid == os.getpid())\n"
        "def post_worker_init(worker):\n"
        "    with open(f'number-{worker.pid}', 'w') as file:\n"
        "        file.write(str(random.random()))\n"
        "def child_exit(server, worker):\n"
        "    server.log.info('child_exit %d', worker.pid)\n"
    )
    deploy(tmp_path, boot="import random; random.seed(4)")
    with Server(tmp_path) as server:
        server.wait_log("ready after", count=4)
        workers = server.wait_workers(3)
        assert {path.name for path in tmp_path.glob("number-*")} == {f"number-{pid}" for pid in workers}
        assert len({path.read_text() for path in tmp_path.glob("number-*")}) == 3
        assert server.log().count("in the arbiter: True") == 3
        assert server.log().count("post_fork True True") == 3
        server.stop()
        assert all(f"child_exit {pid}" in server.log() for pid in workers)


def test_nobody_holds_what_is_the_arbiters(tmp_path: Path) -> None:
    """A template has the listener and its line, a worker the listener and its channel."""
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --preload app:app") as server:
        server.wait_log("ready after", count=3)
        for round_ in (1, 2):
            assert sockets(template(server)) == 2
            for pid in server.wait_workers(2):
                until(lambda pid=pid: sockets(pid) == 2, "two sockets")  # type: ignore[misc]
            server.signal(signal.SIGHUP)
            server.wait_log(SERVED, count=round_)
            template(server)


@only(SYNC)
def test_privileges_are_given_up_before_the_application_is_loaded() -> None:
    """Without root there are none, and the same user is the one that it has."""
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    with public_folder() as folder:
        deploy(folder, boot=f"assert os.getuid() == {user}")
        with Server(folder, f"-w 2 -u {user} --preload app:app") as server:
            for pid in (template(server), *server.wait_workers(2)):
                assert processes.status(pid, "Uid").split() == [str(user)] * 4


def test_a_worker_more_is_there_without_another_import(tmp_path: Path) -> None:
    deploy(tmp_path, boot="open('imports', 'a').write('x')")
    with Server(tmp_path, "-w 1 --preload app:app") as server:
        server.signal(signal.SIGTTIN)
        server.wait_log("ready after", count=3)
        server.wait_workers(2)
        assert (tmp_path / "imports").read_text() == "x"


# Reloads


def test_a_reload_loads_new_code(tmp_path: Path) -> None:
    deploy(tmp_path, "one", boot=NOTED)
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address) as load:
        load.wait()
        first = template(server)
        deploy(tmp_path, "two", boot=NOTED)
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        server.wait_log(SERVED)
        second = template(server)
        until(lambda: not processes.is_running(first), "the end of the old template")
        assert loaders(tmp_path) == {first, second}
        load.check()


def test_an_import_that_takes_long_costs_no_capacity(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address) as load:
        reload_slowly(server, load, 3)
        server.wait_log(SERVED)


def test_new_code_that_cannot_be_loaded_is_rolled_back_and_the_old_code_kept(tmp_path: Path) -> None:
    """A worker that dies later gets a successor with the old code, though the new one is on the disk."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address) as load:
        load.wait()
        first = template(server)
        deploy(tmp_path, "two", boot="raise RuntimeError('broken')")
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        assert server.log().count("RuntimeError: broken") == 1
        assert template(server) == first
        load.check()
        old = server.wait_workers(2)
        os.kill(old[0], signal.SIGKILL)
        server.wait_log("ready after", count=4)
        load.wait_only_version("one")


def test_new_code_that_loads_for_too_long_is_rolled_back_with_its_stack(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    arguments = "-w 2 --preload --boot-timeout 1 app:app"
    with Server(tmp_path, arguments) as server, Load(server.address) as load:
        load.wait()
        deploy(tmp_path, "two", boot="time.sleep(60)")
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        server.wait_log('app.py", line')
        template(server)
        load.wait_only_version("one")
        load.check()


def test_preload_can_be_turned_on_and_off_by_a_reload(tmp_path: Path) -> None:
    deploy(tmp_path, boot=NOTED)
    (tmp_path / "prefork.conf.py").write_text("workers = 2\npreload_app = False\n")
    with Server(tmp_path) as server, Load(server.address) as load:
        server.wait_log("ready after", count=2)
        assert loaders(tmp_path) == set(server.wait_workers(2))
        (tmp_path / "prefork.conf.py").write_text("workers = 2\npreload_app = True\n")
        server.signal(signal.SIGHUP)
        server.wait_log(SERVED)
        assert template(server) in loaders(tmp_path)
        assert not loaders(tmp_path) & set(server.wait_workers(2))
        (tmp_path / "prefork.conf.py").write_text("workers = 2\npreload_app = False\n")
        server.signal(signal.SIGHUP)
        server.wait_log(SERVED, count=2)
        until(lambda: not server.templates(), "the end of the template")
        load.check()


# Deaths


def test_a_template_that_is_killed_comes_back_while_the_workers_serve(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address) as load:
        load.wait()
        server.wait_log("ready after", count=3)
        workers = server.wait_workers(2)
        for count in (1, 2, 3):
            old = template(server)
            os.kill(old, signal.SIGKILL)
            server.wait_log("ended unexpectedly while it was needed: killed by SIGKILL", count=count)
            server.wait_log("ready after", count=3 + count)
            assert template(server) != old
            assert server.wait_workers(2) == workers
        server.signal(signal.SIGTTIN)
        server.wait_log("ready after", count=7)
        load.check()


def test_a_template_that_stands_still_is_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --preload --boot-timeout 2 app:app") as server, Load(server.address) as load:
        load.wait()
        old = template(server)
        os.kill(old, signal.SIGSTOP)
        server.signal(signal.SIGTTIN)
        server.wait_log(f"template {old} (generation 1) has not forked a worker in time: sending SIGKILL")
        server.wait_workers(2)
        server.wait_log("ready after", count=4)
        load.check()


def test_workers_that_are_killed_are_replaced(tmp_path: Path, worker_class: WorkerClass) -> None:
    deploy(tmp_path, boot=NOTED)
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address) as load:
        load.wait()
        for pid in server.wait_workers(2):
            os.kill(pid, signal.SIGKILL)
        server.wait_log("ready after", count=5)
        load.wait()
        assert len(load.lost) <= 2 * worker_class.threads
        assert loaders(tmp_path) == {template(server)}


def test_a_worker_that_dies_before_anything_else_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "prefork.conf.py").write_text(
        "import os\n"
        "preload_app = True\n"
        "def post_fork(server, worker):\n"
        "    if os.path.exists('die') and worker.age < 6:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server, Load(server.address) as load:
        load.wait()
        (tmp_path / "die").touch()
        server.signal(signal.SIGTTIN)
        server.wait_log("ended unexpectedly before it was ready: killed by SIGKILL", count=4)
        server.wait_log("ready after", count=3)
        server.wait_workers(2)
        load.check()


def test_a_killed_arbiter_leaves_nobody(tmp_path: Path) -> None:
    deploy(tmp_path)
    expect = -signal.SIGKILL
    with Server(tmp_path, "-w 2 --preload app:app", expect=expect) as server, ExitStack() as stack:
        server.wait_log("ready after", count=3)
        pids = [template(server), *server.wait_workers(2)]
        sock = stack.enter_context(hold(server, "a"))
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        until(lambda: not processes.is_running(pids[0]), "the end of the template")
        release(server, "a")
        assert read_answer(sock).status == 200
        until(lambda: not any(map(processes.is_running, pids)), "the end of all")


def test_a_template_that_loads_does_not_outlive_the_arbiter(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 1 --preload app:app", expect=-signal.SIGKILL) as server:
        deploy(tmp_path, "two", boot="open('loading', 'w').close(); time.sleep(60)")
        server.signal(signal.SIGHUP)
        until((tmp_path / "loading").exists, "the import")
        pids = [*server.templates(), *server.wait_workers(1)]
        assert len(pids) == 3
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        until(lambda: not any(map(processes.is_running, pids)), "the end of all")


def test_orphans_of_the_application_are_reaped_without_a_word(tmp_path: Path) -> None:
    """They are the arbiter's, because it is a subreaper."""
    request = (
        "if path == '/spawn' and os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(0.5)\n"
        "        os._exit(7)"
    )
    deploy(tmp_path, request=request)
    with Server(tmp_path, "-w 1 --preload app:app") as server:
        (worker,) = server.wait_workers(1)
        server.ask("/spawn")
        until(lambda: len(processes.children(server.pid)) == 3, "the orphan")
        until(lambda: len(processes.children(server.pid)) == 2, "only the template and the worker")
        assert server.wait_workers(1) == [worker]
        assert "unexpectedly" not in server.log()


# Starts and stops


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    for number in range(3):
        with (
            Server(tmp_path, "-w 2 --preload app:app") as server,
            Load(server.address, clients=8, interval=0) as load,
        ):
            load.wait(200 + 50 * number)
            server.signal(signal.SIGTERM)
            load.outlast(server)


def test_ctrl_c_ends_all_quietly(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --preload app:app") as server:
        server.wait_log("ready after", count=3)
        server.signal(signal.SIGINT, to_all=True)
        assert server.wait_exit() == 0
        assert "Traceback" not in server.log()
        assert "unexpectedly" not in server.log()


def test_a_stop_does_not_wait_for_a_template_that_loads(tmp_path: Path) -> None:
    deploy(tmp_path, boot="open('loading', 'w').close(); time.sleep(60)")
    with Server(tmp_path, "-w 2 --preload app:app", ready=False) as server:
        until((tmp_path / "loading").exists, "the import")
        server.stop()  # long before the import is over
        assert "Traceback" not in server.log()


@only(SYNC)
@pytest.mark.parametrize(
    ("arguments", "boot", "code", "said"),
    [
        ("app:app", "os.environ['DATABASE_URL']", 3, "KeyError: 'DATABASE_URL'"),
        ("app:app", "sys.exit(7)", 3, "sys.exit(7)"),
        ("app:app", "os._exit(7)", 3, "exit code 7"),
        ("app:app", "os.abort()", 3, "SIGABRT"),
        ("app:wsgi", "pass", 4, "has no 'wsgi'"),
        ("nothing:app", "pass", 4, "there is no module 'nothing'"),
    ],
)
def test_a_start_that_cannot_succeed(tmp_path: Path, arguments: str, boot: str, code: int, said: str) -> None:
    """It ends as without --preload, with one traceback for all workers."""
    deploy(tmp_path, boot=boot)
    with Server(tmp_path, f"-w 4 --preload {arguments}", ready=False, expect=code) as server:
        assert server.wait_exit() == code
        assert said in server.log()
        assert f"the first worker could not boot: giving up (exit code {code})" in server.log()
        assert server.log().count("Traceback") <= 1


@only(SYNC)
def test_a_start_that_takes_too_long_shows_where(tmp_path: Path) -> None:
    deploy(tmp_path, boot="time.sleep(60)")
    arguments = "--preload --boot-timeout 1 app:app"
    with Server(tmp_path, arguments, ready=False, expect=3) as server:
        assert server.wait_exit() == 3
        assert "is not ready after 1.0 s (boot_timeout): sending SIGABRT" in server.log()
        assert 'app.py", line' in server.log()


def test_log_files_are_opened_anew_by_the_template_too(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --preload --log-file error.log app:app") as server:
        log = tmp_path / "error.log"
        until(lambda: "ready after" in log.read_text(), "a line")
        log.rename(tmp_path / "error.log.1")
        server.signal(signal.SIGUSR1)
        pid = template(server)
        moved = str(tmp_path / "error.log.1")
        until(lambda: moved not in processes.descriptors(pid), "the template has let go of the old file")
        server.signal(signal.SIGTTIN)
        until(lambda: "ready after" in log.read_text(), "a line in the new file")
        new = max(server.wait_workers(2))
        assert moved not in processes.descriptors(new)


# What makes a fork unsafe, and warm


def test_what_no_fork_can_carry_over_is_named_once(tmp_path: Path) -> None:
    deploy(
        tmp_path,
        boot="import socket, threading\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "database = socket.create_connection(listener.getsockname())\n"
        "print('PORT', listener.getsockname()[1], file=sys.stderr, flush=True)\n"
        "threading.Thread(target=time.sleep, args=(60,), name='exporter').start()\n",
    )
    with Server(tmp_path, "-w 3 --preload app:app") as server:
        server.wait_log("ready after", count=4)
        log = server.log()
        port = log.split("PORT ")[1].split()[0]
        assert log.count("started threads while it was loaded, which no worker will have: exporter (") == 1
        assert log.count("has opened what all workers will share while it was loaded: ") == 1
        assert f"127.0.0.1:{port} (descriptor" in log


def test_an_application_that_does_neither_is_not_blamed(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --preload app:app") as server:
        server.wait_log("ready after", count=3)
        assert "while it was loaded" not in server.log()


def test_warm_up_requests_come_before_the_first_fork(tmp_path: Path) -> None:
    line = "f\"{os.getpid()} {path}?{environ['QUERY_STRING']} {environ['HTTP_HOST']}\\n\""
    note = f"open('warm', 'a').write({line})"
    deploy(tmp_path, request=f"environ['HTTP_USER_AGENT'] == 'prefork-warmup' and {note}")
    arguments = "-w 2 --preload --warmup /a?b=1 --warmup http://shop.example/c app:app"
    with Server(tmp_path, arguments) as server:
        pid = template(server)
        assert (tmp_path / "warm").read_text().splitlines() == [
            f"{pid} /a?b=1 localhost",
            f"{pid} /c? shop.example",
        ]


def test_a_warm_up_request_that_fails_is_a_failed_boot(tmp_path: Path) -> None:
    deploy(tmp_path, request="if path == '/bad': raise LookupError('no table')")
    with Server(tmp_path, "-w 2 --preload --warmup /bad app:app", ready=False, expect=3) as server:
        assert server.wait_exit() == 3
        assert "warmup: /bad raised LookupError: no table" in server.log()
        assert 'app.py", line' in server.log()
