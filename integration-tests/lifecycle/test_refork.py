# SPDX-License-Identifier: MIT
"""With --refork a worker that is warm becomes the template, and clients see nothing of it."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from support.application import deploy
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, only

from prefork.testing import processes
from prefork.testing.load import Load
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

ARGUMENTS: Final = "-w 2 --preload --refork 20 app:app"
DONE: Final = "is the template now"
NOTED: Final = "open(f'loaded-{os.getpid()}', 'w').close()"
"""At the import of the application: a file that names the process."""


def template(server: Server) -> int:
    """Return the pid of the only template, once it is the only one."""
    until(lambda: len(server.templates()) == 1, "one template")
    return server.templates()[0]


def reforked(server: Server, *, of: int, count: int = 1) -> int:
    """Wait until there is a template that was a worker, and all others are its own; return its pid.

    Args:
        server: the server.
        of: how many workers are to be replaced for it, with the first successor.
        count: how many reforks there were.
    """
    server.wait_log(DONE, count=count)
    server.wait_log("is from the old template: starting its successor", count=of * count)
    server.wait_workers(2)
    return template(server)


def test_it_takes_over_under_load_and_loses_nothing(tmp_path: Path) -> None:
    """What has loaded the application is only the first template, though that has gone."""
    deploy(tmp_path, boot=NOTED)
    with Server(tmp_path, ARGUMENTS) as server, ExitStack() as stack:
        first, workers = template(server), server.wait_workers(2)
        load = stack.enter_context(Load(server.address, clients=4, interval=0))
        warm = reforked(server, of=2)
        assert warm in workers
        assert not processes.is_running(first)
        assert [path.name for path in tmp_path.glob("loaded-*")] == [f"loaded-{first}"]
        load.wait()
        server.signal(signal.SIGTTIN)
        server.wait_workers(3)
        load.check()
        assert server.log().count(DONE) == 1


def test_it_holds_what_a_template_holds(tmp_path: Path) -> None:
    """The listener and its line. Its children are the arbiter's."""
    deploy(tmp_path)
    with Server(tmp_path, ARGUMENTS) as server, Load(server.address, interval=0):
        warm = reforked(server, of=2)

        def sockets() -> int:
            return sum(name.startswith("socket:") for name in processes.descriptors(warm))

        until(lambda: sockets() == 2, "two sockets")
        until(lambda: len(list(Path(f"/proc/{warm}/task").iterdir())) == 1, "one thread")
        assert not processes.children(warm)


def test_a_reload_loads_new_code_and_its_workers_get_a_refork_of_their_own(tmp_path: Path) -> None:
    deploy(tmp_path, "one")
    with Server(tmp_path, ARGUMENTS) as server, Load(server.address, interval=0) as load:
        reforked(server, of=2)
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        reforked(server, of=2, count=2)
        load.wait_only_version("two")
        load.check()


def test_one_that_is_killed_is_loaded_again_and_the_next_warm_worker_follows(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, ARGUMENTS) as server, Load(server.address, interval=0) as load:
        os.kill(reforked(server, of=2), signal.SIGKILL)
        server.wait_log("ended unexpectedly while it was needed: killed by SIGKILL")
        reforked(server, of=2, count=2)
        load.check()


def test_what_is_left_open_is_named_and_the_old_template_stays(tmp_path: Path) -> None:
    """The hook in which the application can close it is worker_exit."""
    deploy(
        tmp_path,
        boot="import socket\nKEPT = []",
        request="KEPT or KEPT.extend(socket.socketpair())",
    )
    (tmp_path / "prefork.conf.py").write_text(
        "import os\n"
        "def worker_exit(server, worker):\n"
        "    if os.path.exists('close'):\n"
        "        from app import KEPT\n"
        "        for sock in KEPT: sock.close()\n"
        "        KEPT.clear()\n"
    )
    with Server(tmp_path, ARGUMENTS) as server, ExitStack() as stack:
        first = template(server)
        load = stack.enter_context(Load(server.address, interval=0))
        server.wait_log("is no template, the old one stays; another one is tried")
        assert "open: a socket without a name (descriptor" in server.log()
        assert template(server) == first
        (tmp_path / "close").touch()
        assert reforked(server, of=2) != first
        load.check()


@only(SYNC)
def test_a_killed_arbiter_leaves_nobody(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, ARGUMENTS, expect=-signal.SIGKILL) as server:
        with Load(server.address, interval=0):
            warm = reforked(server, of=2)
        pids = [warm, *server.wait_workers(2)]
        os.kill(server.pid, signal.SIGKILL)
        server.wait_exit()
        until(lambda: not any(map(processes.is_running, pids)), "the end of all")
