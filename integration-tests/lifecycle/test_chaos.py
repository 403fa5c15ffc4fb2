# SPDX-License-Identifier: MIT
"""Whatever operators, bugs and the machine do to a server, only what was in a killed process is lost.

`nox -s chaos` runs this for minutes. What happens is planned by a seed, which the output names;
`--seed` repeats a plan, and `--only NAME` leaves only some of `chaos.EVENTS` in it.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support import chaos, control
from support.application import deploy, hold, release
from support.chaos import Chaos
from support.journal import Journal
from support.server import Server
from support.workers import BUILT_IN, OF_PACKAGES, WorkerClass, present

from prefork.testing import client, processes
from prefork.testing.load import Load
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS: Final = 2.0
"""Of chaos in CI, for each of four shapes."""
WORKERS: Final = 3
GROWTH: Final = 4096
"""KiB by which the arbiter may grow."""
CLIENTS: Final = 6
ASKS_AGAIN: Final = 0.012
"""Seconds from one request of a client to its next: 1,000 a second leave the machine time for the rest."""
NEVER: Final = (
    "error in the arbiter",
    "the worker crashed",
    "error in the hook",
    "stuck in the kernel",
    "killed by SIGUSR1",
    "_Stopped",
)
"""What no log may say."""
LEFT: Final = re.compile(r"app\.py|prefork\.conf\.py|logs(\.\d+)?|journal-\d+-\d+|server-\w+\.log")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have the long form under the worker classes of all packages, too."""
    if metafunc.function is test_only_what_was_in_a_killed_process_is_lost:
        is_long = metafunc.config.getoption("--minutes") is not None
        found = (*BUILT_IN, *OF_PACKAGES) if is_long else BUILT_IN
        metafunc.parametrize("worker_class", found, indirect=True, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def worker_class(request: pytest.FixtureRequest) -> Iterator[WorkerClass]:
    """Run the servers of a test under a worker class; see `support.workers`."""
    with present(request.param) as found:
        yield found


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_only_what_was_in_a_killed_process_is_lost(
    tmp_path: Path, preload: bool, worker_class: WorkerClass, pytestconfig: pytest.Config
) -> None:
    """At the end counts, generations and scoreboard agree, and nothing is left over."""
    minutes = pytestconfig.getoption("--minutes")
    seed = pytestconfig.getoption("--seed") or random.randrange(1_000_000)
    only_these = pytestconfig.getoption("--only")
    seconds = SECONDS if minutes is None else minutes * 60
    print(f"--- seed {seed}, {seconds:g} s, {worker_class.name}{', preload' if preload else ''}")
    chaos.prepare(tmp_path, worker_class.interface)
    flags = f"-w {WORKERS} {chaos.FLAGS}{' --preload' if preload else ''}"
    with Server(tmp_path, f"{flags} app:app") as server:
        closing = Load(server.address, clients=CLIENTS, interval=ASKS_AGAIN)
        keeping = Load(server.address, clients=CLIENTS, interval=ASKS_AGAIN, keep=True, first=CLIENTS)
        happened = Chaos(server, (closing, keeping), worker_class.interface)
        try:
            complete(happened)
            wait_held(server)
            held, weight = until(lambda: alike(server), "all of a kind to hold the same"), weigh(server.pid)
            with closing, keeping:
                happened.run(chaos.plan(seed, seconds, preload=preload, only=only_these))
                happened.note("all is to be well again")
                complete(happened)
            happened.check_requests()
            check_agreement(happened, worker_class.threads)
            wait_held(server)
            until(lambda: alike(server) == held, f"each to hold {held}, and not {holdings(server)}")
            print(f"--- the arbiter: {weight} KiB of its own before, {weigh(server.pid)} after")
            assert weigh(server.pid) - weight < GROWTH
        except BaseException as error:
            happened.print_evidence(seed)
            print(f"--- {error!r}")  # pytest says so at the end of the session, which may be far away
            raise
        happened.print_counts()
    assert [path.name for path in tmp_path.iterdir() if not LEFT.fullmatch(path.name)] == []
    for path in (*happened.logs("error.log*"), *tmp_path.glob("server-*.log")):
        text = path.read_text()
        assert not [never for never in NEVER if never in text], text


def test_an_arbiter_is_known_that_takes_over_just_when_its_workers_are_killed(tmp_path: Path) -> None:
    """`preforkctl upgrade` exits with 1 then, and yet the old one has gone."""
    chaos.prepare(tmp_path)
    chaos.settle(tmp_path, timeout=0)  # the request that is held may be held for long
    with Server(tmp_path, f"-k sync -w {WORKERS} {chaos.FLAGS} app:app") as server, ExitStack() as stack:
        happened = Chaos(server, ())
        held = stack.enter_context(hold(server, "1"))
        happened.upgrade(random.Random())
        until(lambda: "handing over" in str(control.ask(tmp_path, "status")["upgrade"]), "a ready successor")
        deploy(tmp_path, boot="os._exit(9)")  # nobody comes in the place of those who are killed
        successor = int((tmp_path / "server.pid.2").read_text())
        children = {child.pid for child in processes.children(server.pid)}
        assert successor in children - {*happened.replaceable()}, "who tells it to end ends the server"
        for worker in processes.children(successor):
            happened.custody.kill(worker.pid)
        release(server, "1")
        assert client.read_answer(held).status == 200
        assert server.wait_exit() == 0
        happened.reload(random.Random(1))
        assert server.pid == successor
        control.wait_status(server, pid=successor, ready=WORKERS)


def complete(happened: Chaos) -> None:
    """Reload, which must succeed now that nothing is broken, and wait until nothing is under way."""
    control.ctl(happened.folder, "scale", str(WORKERS))
    happened.renew()
    answer = control.ctl_json(happened.folder, "reload")
    assert answer["workers"] == WORKERS
    others = dict.fromkeys(("booting", "retiring", "stopping", "aborted", "killed"), 0)
    generation = answer["generation"]
    control.wait_status(happened.server, mode="running", generation=generation, ready=WORKERS, **others)


def check_agreement(happened: Chaos, threads: int) -> None:
    """Check that what the server says of itself is what is seen from outside, when nobody asks any more."""
    server, folder = happened.server, happened.folder
    until(lambda: "prefork_connections 0\n" in control.ctl(folder, "metrics")[0], "no connection")
    status, rows = control.ask(folder, "status"), control.ask(folder, "workers")["workers"]
    assert {row["pid"] for row in rows} == set(server.workers())
    assert len(rows) == status["workers"]["target"] == WORKERS
    assert {row["generation"] for row in rows} == {status["generation"]}
    assert [row for row in rows if row["busy"] or row["connections"] or row["state"] != "ready"] == []
    assert (status["errors"], status["shed"]) == (0, 0)
    assert happened.ask_status("/readyz").status == 200
    assert json.loads(happened.ask_status("/status").body)["requests"] == status["requests"]
    # A request that is in hand when its worker is killed is begun, and never finished.
    begun = Journal(folder).begun_under(server.pid)
    threads = min(threads, CLIENTS * 2)
    assert begun - threads * len(happened.custody.killed) <= status["requests"] <= begun
    kills = {why: count for why, count in status["kills"].items() if count}
    print(f"--- {status['requests']} of {begun} finished, {status['generation']} generations, kills: {kills}")
    assert server.exit_code in {None, 0}, "after an upgrade the first arbiter has ended in peace"
    (status_process,) = server.statuses()
    ours = {server.pid, status_process, *server.workers(), *server.templates()}
    # The machine's first process reaps an arbiter that has left to another one, when it gets to it.
    until(
        lambda: {found.pid for found in server.belonging()} == ours,
        f"no others than {ours}: no orphans, nor ended ones that nobody reaps; and not {server.belonging()}",
    )


def wait_held(server: Server) -> None:
    """Wait until the arbiter has no other descriptors than it needs."""
    until(lambda: (len(server.workers()), len(server.statuses())) == (WORKERS, 1), "all processes")
    others = len(server.templates()) + 1
    # Three that listen, a channel to each child; a pipe for signals, one for the stacks of each worker.
    needed = {"socket": 3 + WORKERS + others, "pipe": 2 + WORKERS, "anon_inode": 1}

    def held() -> Counter[str]:
        names = [name.partition(":") for name in processes.descriptors(server.pid)]
        return Counter(kind for kind, colon, _ in names if colon)

    until(lambda: held() == needed, f"the arbiter to hold {needed}, and not {held()}")


def alike(server: Server) -> dict[str, set[tuple[str, ...]]] | None:
    """Return what each process of a kind has open, None while one has more than another."""
    found = holdings(server)
    return found if all(len(kinds) <= 1 for kinds in found.values()) else None


def holdings(server: Server) -> dict[str, set[tuple[str, ...]]]:
    """Return what the processes of each kind have open, by what that is."""
    kinds = {
        "arbiter": [server.pid],
        "worker": server.workers(),
        "template": server.templates(),
        "status process": server.statuses(),
    }
    return {kind: {_holds(pid) for pid in pids} for kind, pids in kinds.items()}


def _holds(pid: int) -> tuple[str, ...]:
    """Return what a process has open: names of files and kinds of all else; and its pages that are shared."""
    # libuv has /dev/null in reserve as soon as it had a connection.
    opened = [name for name in processes.descriptors(pid) if name != "/dev/null"]
    names = [name.rpartition("/")[2].partition(":")[0] for name in opened]
    shared = Path(f"/proc/{pid}/maps").read_text().count("/dev/zero")
    return *sorted(re.sub(r"\d+", "N", name) for name in names), f"{shared} shared"


def weigh(pid: int) -> int:
    """Return how much memory a process has for itself, in KiB."""
    fields = processes.memory(pid)
    return fields["Private_Clean"] + fields["Private_Dirty"]
