# SPDX-License-Identifier: MIT
"""A reload takes no request, whatever the new code, the new configuration or the operator does."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Final

import pytest
from support import control
from support.application import deploy, hold, release, reload_slowly
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing import client
from prefork.testing.client import RequestFailed
from prefork.testing.load import CLIENTS, Load
from prefork.testing.server import free_port
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

SERVED: Final = "ready, 2 of 2 replaced"


def configure(folder: Path, text: str) -> None:
    (folder / "prefork.conf.py").write_text(text)


def refuses(address: client.Address) -> bool:
    try:
        client.ask(address, timeout=5)
    except RequestFailed as error:
        return error.kind == "refused"
    return False


# What is reloaded


def test_new_code_is_served_by_a_new_generation(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        old = server.workers()
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        server.wait_log("2 of 2 replaced")
        new = server.wait_workers(2)
        assert not set(old) & set(new)
        load.check()


def test_every_old_worker_serves_until_a_new_one_is_ready(tmp_path: Path) -> None:
    """An import of four seconds costs no request and no capacity."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --reload-batch 2 app:app") as server, Load(server.address) as load:
        load.wait()
        old = set(server.workers())
        deploy(tmp_path, "two", boot="time.sleep(4)")
        server.signal(signal.SIGHUP)
        until(lambda: set(server.workers()) - old, "a new worker")
        seen = load.answered
        assert old <= set(server.workers())
        load.wait_version("two", timeout=40)
        assert load.versions["one"] > seen + 100
        server.wait_log("2 of 2 replaced", timeout=40)
        load.wait_only_version("two")
        load.check()
        assert load.longest_gap < 4, "it was not as long as the import"
        assert set(server.wait_workers(2)) & old == set()


def test_new_settings_take_effect(tmp_path: Path) -> None:
    """Application, number of workers and log files of the configuration file are those of the new one."""
    deploy(tmp_path, "one")
    configure(tmp_path, 'wsgi_app = "app:app"\nworkers = 2\naccesslog = "first.log"\n')
    with Server(tmp_path, "") as server, Load(server.address) as load:
        load.wait()
        (tmp_path / "other.py").write_text((tmp_path / "app.py").read_text().replace("one", "other"))
        configure(tmp_path, 'wsgi_app = "other:app"\nworkers = 3\naccesslog = "second.log"\n')
        server.signal(signal.SIGHUP)
        load.wait_only_version("other")
        server.wait_log("3 of 3 replaced")
        server.wait_workers(3)
        until(lambda: (tmp_path / "second.log").read_text().count("\n") > 50, "lines in the new access log")
        before = (tmp_path / "first.log").stat().st_size
        load.wait()
        assert (tmp_path / "first.log").stat().st_size == before
        configure(tmp_path, 'wsgi_app = "app:app"\nworkers = 1\nerrorlog = "error.log"\n')
        server.signal(signal.SIGHUP)
        load.wait_only_version("one")
        server.wait_workers(1)
        until(lambda: "1 of 1 replaced" in (tmp_path / "error.log").read_text(), "the new error log")
        load.check()


def test_a_new_address_is_served_and_the_old_one_is_drained(tmp_path: Path) -> None:
    """Connections in the queue of an address that is given up are answered, later ones are refused."""
    deploy(tmp_path)
    old = ("127.0.0.1", free_port())
    new = ("127.0.0.1", free_port())
    both = f'bind = ["127.0.0.1:{old[1]}", "127.0.0.1:{new[1]}"]\nworkers = 2\n'
    configure(tmp_path, f'bind = "127.0.0.1:{old[1]}"\nworkers = 2\n')
    with Server(tmp_path, address=old, bind=False) as server, Load(old) as load:
        load.wait()
        configure(tmp_path, both)
        server.signal(signal.SIGHUP)
        server.wait_log(SERVED)
        with Load(new) as second:
            second.wait()
            load.wait()
            configure(tmp_path, f'bind = "127.0.0.1:{new[1]}"\nworkers = 2\n')
            server.signal(signal.SIGHUP)
            load.wait_end()
            second.wait()
            second.check()
        assert not load.lost
        server.address = new


def test_an_old_worker_finishes_its_request_after_the_reload(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, hold(server, "a") as sock:
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        server.wait_log(SERVED)
        assert server.ask().text.startswith("two")
        release(server, "a")
        assert client.read_answer(sock).text.startswith("one")


def test_an_old_worker_that_outlasts_graceful_timeout_is_named_and_killed(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --graceful-timeout 1 app:app") as server, hold(server, "endless") as sock:
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        server.wait_log("did not stop in time, on GET /hold/endless")
        with pytest.raises(RequestFailed):
            client.read_answer(sock)
        server.wait_workers(2)
        assert server.ask().text.startswith("two")


def test_a_link_to_the_present_release_is_followed(tmp_path: Path, worker_class: WorkerClass) -> None:
    """As deploys do it that move `current`; after a roll-back new workers run the release from before."""
    for name, boot in (("one", ""), ("two", ""), ("bad", "raise RuntimeError('bad')")):
        (tmp_path / name).mkdir()
        deploy(tmp_path / name, name, boot=boot)
    current = tmp_path / "current"

    def release_as(name: str) -> None:
        fresh = tmp_path / "current.new"
        fresh.symlink_to(name)
        fresh.replace(current)

    release_as("one")
    with Server(tmp_path, "-w 2 --chdir current app:app") as server, Load(server.address) as load:
        load.wait_only_version("one")
        release_as("two")
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        release_as("bad")
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        load.check()
        old = server.wait_workers(2)
        os.kill(old[0], signal.SIGKILL)
        until(lambda: set(server.workers()) - set(old), "a new worker")
        server.wait_workers(2)
        load.wait_only_version("two")
        assert len(load.lost) <= worker_class.threads


def test_a_hangup_of_the_terminal_is_a_reload(tmp_path: Path) -> None:
    """HUP that reaches the workers too means nothing to them."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address, clients=8, interval=0) as load:
        load.wait()
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP, to_all=True)
        load.wait_only_version("two")
        load.check()
        assert "unexpectedly" not in server.log()


def test_a_number_of_workers_set_by_signals_survives(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server:
        server.signal(signal.SIGTTIN)
        server.wait_workers(2)
        server.wait_log("ready", count=2)
        server.signal(signal.SIGHUP)
        server.wait_log(SERVED)
        server.wait_workers(2)


def test_a_server_with_one_worker_reloads_without_a_gap(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 1 app:app") as server, Load(server.address) as load:
        reload_slowly(server, load, 2)


# What cannot be reloaded


BROKEN_APPLICATIONS: Final = {
    "raise RuntimeError('no database today')": "no database today",
    "def broken(:": "SyntaxError",
    "import a_module_that_is_not_there": "a_module_that_is_not_there",
    "sys.exit(5)": "sys.exit(5)",
    "os._exit(7)": "exit code 7",
    "os.kill(os.getpid(), 11)": "SIGSEGV",
}
"""Statements that run when the new code is loaded, and what the log must say."""


def test_a_broken_application_is_rolled_back(tmp_path: Path) -> None:
    """The old code serves on, the log says why, and the next good deploy is served."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        for count, (boot, said) in enumerate(BROKEN_APPLICATIONS.items(), 1):
            deploy(tmp_path, "bad", boot=boot)
            server.signal(signal.SIGHUP)
            server.wait_log("reload rolled back", count=count)
            server.wait_log("generation 1 serves on", count=count)
            server.wait_workers(2)
            assert said in server.log().rpartition("starting generation")[2]
            load.wait()
        assert load.answered == load.versions["one"]
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        load.check()


def test_a_generation_that_dies_when_it_is_ready_is_rolled_back(
    tmp_path: Path, worker_class: WorkerClass
) -> None:
    """Only the requests that its workers had are lost."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        deploy(tmp_path, "bad", boot="import threading; threading.Timer(0.3, os._exit, [9]).start()")
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        server.wait_log("exit code 9")
        server.wait_workers(2)
        load.wait_only_version("one")
        assert len(load.lost) <= worker_class.threads
        assert not load.refused


def test_an_application_that_is_gone_is_rolled_back(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        (tmp_path / "app.py").unlink()
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        server.wait_log("generation 1 serves on")
        load.wait()
        load.check()
        assert "exit code 4" in server.log()


BROKEN_CONFIGURATIONS: Final = {
    "workers = = 3": "prefork.conf.py",
    "workers = 'many'": "workers",
    "worker = 3": "workers",
    "raise RuntimeError('no vault')": "no vault",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "bind = '127.0.0.1:http'": "127.0.0.1:http",
    "errorlog = 'no/such/folder/error.log'": "no/such/folder",
    "chdir = 'nowhere'": "nowhere",
    "worker_class = 'async'": "async",
    "user = 'nobody-of-that-name'": "nobody-of-that-name",
    "on_reload = 5": "on_reload",
}
"""Configuration files, and what the log must say of them."""


@only(SYNC)  # the environment, which sets another class, has precedence over the file
def test_a_broken_configuration_changes_nothing(tmp_path: Path) -> None:
    """The very same workers serve on, and the log says what is wrong."""
    deploy(tmp_path, "one")
    address = ("127.0.0.1", free_port())
    good = f"workers = 2\nbind = '127.0.0.1:{address[1]}'\n"
    configure(tmp_path, good)
    with Server(tmp_path, address=address, bind=False) as server, Load(address) as load:
        load.wait()
        workers = server.workers()
        deploy(tmp_path, "two")
        for count, (text, said) in enumerate(BROKEN_CONFIGURATIONS.items(), 1):
            configure(tmp_path, text)
            server.signal(signal.SIGHUP)
            server.wait_log("reload refused, everything stays as it was", count=count)
            assert said in server.log().rpartition("reload refused")[2]
            load.wait(20)
        load.wait()
        assert server.workers() == workers
        assert load.answered == load.versions["one"]
        configure(tmp_path, good)
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        load.check()


def test_a_new_address_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    address = ("127.0.0.1", free_port())
    configure(tmp_path, f'bind = "127.0.0.1:{address[1]}"\nworkers = 2\n')
    with (
        Server(tmp_path, address=address, bind=False) as server,
        Load(address) as load,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        free = f"127.0.0.1:{free_port()}"
        configure(tmp_path, f'bind = ["{free}", "{taken}"]\nworkers = 2\n')
        workers = server.workers()
        server.signal(signal.SIGHUP)
        server.wait_log("reload refused")
        assert taken in server.log().partition("reload refused")[2]
        load.wait()
        load.check()
        assert server.workers() == workers
        host, _, port = free.partition(":")
        assert refuses((host, int(port))), "the address that could be opened was closed again"


def test_a_generation_that_does_not_become_ready_is_rolled_back(tmp_path: Path) -> None:
    """After boot_timeout, with the stack that says where it hangs."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 --boot-timeout 2 app:app") as server, Load(server.address) as load:
        load.wait()
        deploy(tmp_path, "two", boot="time.sleep(600)")
        server.signal(signal.SIGHUP)
        server.wait_log("reload rolled back")
        assert "boot_timeout" in server.log()
        server.wait_log('app.py", line 6')
        server.wait_workers(2)
        load.wait()
        load.check()
        assert not load.versions["two"]


# Reloads that meet something else


def test_the_newest_of_two_reloads_wins(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        old = set(server.workers())
        deploy(tmp_path, "two", boot="time.sleep(600)")
        server.signal(signal.SIGHUP)
        until(lambda: set(server.workers()) - old, "a worker of the second generation")
        deploy(tmp_path, "three")
        server.signal(signal.SIGHUP)
        load.wait_only_version("three")
        server.wait_log("generation 3 ready, 2 of 2 replaced")
        assert not set(server.wait_workers(2)) & old
        load.check()
        assert not load.versions["two"]


BROKEN: Final = ("raise RuntimeError('broken')", "os._exit(9)")
LONG: Final = 50
"""Reloads from which on somebody has given the test a machine of its own, and wants to know of delays."""


def test_reloads_good_and_broken_lose_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Every other of those that fail has a broken application, the others a broken configuration."""
    reloads = pytestconfig.getoption("--reloads")
    good = "workers = 2\n"
    deploy(tmp_path, "0")
    configure(tmp_path, good)
    with (
        Server(tmp_path, f"{control.FLAGS} app:app") as server,
        Load(server.address) as closing,
        Load(server.address, keep=True, first=CLIENTS) as keeping,
    ):
        for number in range(reloads):
            closing.wait(40)
            keeping.wait(40)
            if number % 5:
                deploy(tmp_path, str(number))
                control.ctl(tmp_path, "reload")
            elif number % 2:
                configure(tmp_path, "wokers = 2\n")
                control.ctl(tmp_path, "reload", expect=1)
                configure(tmp_path, good)
            else:
                deploy(tmp_path, "broken", boot=BROKEN[number // 10 % 2])
                control.ctl(tmp_path, "reload", expect=1)
                deploy(tmp_path, f"{number} repaired")
        for load in (closing, keeping):
            load.finish()
            load.check()
            assert "broken" not in load.versions
            assert reloads < LONG or load.slowest < 1, "a step in the time to an answer"
        server.wait_workers(2)


def test_a_storm_of_reloads_loses_nothing(tmp_path: Path) -> None:
    deploy(tmp_path, "0")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        for number in range(1, 8):
            load.wait(20)
            deploy(tmp_path, str(number))
            server.signal(signal.SIGHUP)
        load.wait_only_version("7")
        server.wait_workers(2)
        load.check()


def test_a_stop_ends_a_reload(tmp_path: Path) -> None:
    """The workers of both generations go; what they had accepted is answered."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 2 app:app") as server, Load(server.address) as load:
        load.wait()
        old = set(server.workers())
        deploy(tmp_path, "two", boot="time.sleep(600)")
        server.signal(signal.SIGHUP)
        until(lambda: set(server.workers()) - old, "a worker of the second generation")
        server.stop()
        load.wait_end()
        assert not load.lost


def test_a_worker_that_is_killed_during_a_reload_is_replaced(tmp_path: Path) -> None:
    """The reload goes on, and ends with as many workers as it should."""
    deploy(tmp_path, "one")
    with Server(tmp_path, "-w 3 app:app") as server:
        deploy(tmp_path, "two", boot="time.sleep(1)")
        server.signal(signal.SIGHUP)
        server.wait_log("starting generation 2")
        os.kill(int(server.ask().text.split()[1]), signal.SIGKILL)
        server.wait_log("generation 2 ready, 3 of 3 replaced")
        server.wait_workers(3)
