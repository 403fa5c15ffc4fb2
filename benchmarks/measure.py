# SPDX-License-Identifier: MIT
"""Decides what is read off one run of one server in one case: a function for each `Measure`. Sums nothing up.

Each starts where the server answers rightly, and returns figures by the names of `report.METRICS`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import processes
from cases import IDLE, SLOW_CLIENTS, VISITS, Measure
from load import Generator, LoadError
from servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cases import Case
    from servers import Server

    Figures = dict[str, float]

WARMUP: Final = 0.5
"""Seconds of load that are not counted: CPython specialises its bytecode within hundreds of requests."""
MODEST: Final = 500
"""Requests per second of normal clients: enough for a p99, far from what any server here can do."""
SPELLS: Final = 3
"""How often the times beside idle connections are taken."""
SETTLING: Final = 1.0
"""Seconds between a crowd's arrival and the times beside it: those of its arrival are not asked for."""
SETTLED: Final = 2.0
"""Seconds without a new process after which a server has all that it will have."""
PATIENCE: Final = 30.0
"""Seconds in which that must be so."""
FAILURES: Final = (LoadError, processes.ServerError, OSError, subprocess.SubprocessError, ValueError)
"""What a run may end with that does not count; the next one is made all the same."""
BURSTS: Final = 3
"""How often computations are asked for all at once; the median counts."""
ARRIVING: Final = 200.0
"""Connections per second where they come one after the other: each finds all workers idle."""
COMPUTE: Final = """
import os, sys, time, plain
begun = time.perf_counter()
for _ in range(int(sys.argv[1])):
    if not os.fork():
        for _ in range(int(sys.argv[2])):
            plain.work(plain.WORK_LONG)
        os._exit(0)
for _ in range(int(sys.argv[1])):
    os.wait()
print(time.perf_counter() - begun)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A server that runs, and how long and where it is loaded.

    Args:
        pid: of its first process.
        case: what is measured.
        generator: makes its load.
        seconds: of load.
        cores: of the server.
    """

    pid: int
    case: Case
    generator: Generator
    seconds: float
    cores: frozenset[int]


def load(run: Run) -> Figures:
    """Load it as far as it goes, and weigh it before and after."""
    if run.case.workers > 1:
        time.sleep(1.0)  # one of them has answered, the others may still start
    at_start = processes.memory_of(run.pid)
    run.generator.warm(WARMUP)
    before = processes.cpu_of(run.pid)
    seen = run.generator.load(run.seconds)
    after = processes.cpu_of(run.pid)
    at_end = processes.memory_of(run.pid)
    workers = run.case.workers
    return {
        "requests": seen.requests,
        "rate": seen.requests / seen.seconds,
        "cpu_us": (after.total - before.total) / seen.requests,
        "system_us": (after.system - before.system) / seen.requests,
        "p50_us": seen.p50,
        "p99_us": seen.p99,
        "pss_start_mib": at_start.pss / 1024 / workers,
        "pss_mib": at_end.pss / 1024 / workers,
        "uss_mib": at_end.uss / 1024 / workers,
    }


def typical(ask: Callable[[], Figures]) -> Figures:
    """Return the median of each figure over several spells of asking."""
    spells = [ask() for _ in range(SPELLS)]
    return {name: statistics.median(spell[name] for spell in spells) for name in spells[0]}


def idle(run: Run) -> Figures:
    """Ask at a modest rate without and with a crowd that has asked once and stays; load it with the crowd.

    The times are those of the modest rate: the load generator and the crowd's client share a core, so under
    full load they would tell of that core. One percent of two seconds' requests are ten, which one hiccup of
    the machine delays: so several spells are timed, when the crowd has settled, and the median counts.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(IDLE, hard - 500)
    ask = partial(run.generator.ask, "paced", path="/echo", rate=MODEST, seconds=run.seconds)
    run.generator.warm(WARMUP)
    alone = typical(ask)
    before = processes.memory_of(run.pid)
    with run.generator.crowd("idle", path="/echo", connections=count) as end:
        taken = processes.memory_of(run.pid).pss - before.pss
        time.sleep(SETTLING)
        beside = typical(ask)
        cpu = processes.cpu_of(run.pid).total
        load = run.generator.load(run.seconds)
        cpu = processes.cpu_of(run.pid).total - cpu
        seen = end()
    if seen["wrong"] or seen["held"] < 0.99 * count:
        raise LoadError(
            f"of {count} idle connections {seen['held']:.0f} were kept; wrong answers: {seen['wrong']:.0f}"
        )
    return {
        "connections": count,
        "held": seen["held"],
        "idle_bytes": taken * 1024 / count,
        "cpu_us": cpu / load.requests,
        "rate": load.requests / load.seconds,
        "p50_alone_us": alone["p50_us"],
        "p99_alone_us": alone["p99_us"],
        "p50_us": beside["p50_us"],
        "p99_us": beside["p99_us"],
        "p99_ratio": beside["p99_us"] / alone["p99_us"],
        "unanswered": beside["lost"] + beside["other"],
    }


def slow(run: Run) -> Figures:
    """Ask at a modest rate without and with a crowd of slow clients; what is never answered is lost."""
    ask = partial(run.generator.ask, "paced", path="/echo", rate=MODEST, seconds=run.seconds)
    run.generator.warm(WARMUP)
    alone = ask()
    with run.generator.crowd("slow", crowd=SLOW_CLIENTS) as end:
        cpu = processes.cpu_of(run.pid).total
        beside = ask()
        cpu = processes.cpu_of(run.pid).total - cpu
        crowd = end()
    return {
        "crowd_refused": sum(count for what, count in crowd.items() if what.endswith("refused")),
        "cpu_share": cpu / 1e6 / run.seconds,
        "p50_alone_us": alone["p50_us"],
        "p99_alone_us": alone["p99_us"],
        "p50_us": beside["p50_us"],
        "p99_us": beside["p99_us"],
        "p99_ratio": beside["p99_us"] / alone["p99_us"],
        "unanswered": beside["lost"] + beside["other"],
        "late_us": beside["late_us"],
    }


def plainly(count: int, each: int, cores: frozenset[int]) -> float:
    """Return the seconds in which so many plain processes compute what requests will.

    They have a session of their own, as a server has: the scheduler divides the cores among sessions first
    (sched(7), autogroup), and what else the machine does must hinder both alike.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMPUTE, str(count), str(each)],
        env={**os.environ, "PYTHONPATH": str(processes.APPLICATIONS)},
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=True,
        preexec_fn=partial(processes.confine, cores),
    )
    return float(done.stdout)


def cpu_bound(run: Run) -> Figures:
    """Ask for computations, all at once, and let plain processes do the same before and after."""
    workers, requests = run.case.workers, run.case.connections
    first = plainly(workers, requests // workers, run.cores)
    seen = run.generator.ask("burst", path="/burst", connections=requests, repeats=BURSTS)
    last = plainly(workers, requests // workers, run.cores)
    if seen["answered"] != BURSTS * requests:
        raise LoadError(f"not all were answered: {seen}")
    plain = (first + last) / 2
    return {"seconds": seen["seconds"], "plain_seconds": plain, "over_plain": seen["seconds"] / plain}


@contextlib.contextmanager
def long_request(port: int) -> Iterator[None]:
    """Hold a request that is not answered for 12 s."""
    with socket.create_connection((HOST, port)) as sock:
        sock.sendall(b"GET /long?x HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        yield


def long(run: Run) -> Figures:
    """Ask at a modest rate while one request takes very long."""
    run.generator.ask("paced", path="/echo", rate=MODEST, seconds=0.5)
    with long_request(run.generator.port):
        seen = run.generator.ask("paced", path="/echo", rate=MODEST, seconds=2 * run.seconds)
    figures = {name: seen[name] for name in ("p50_us", "p95_us", "p99_us", "late_us")}
    return {**figures, "unanswered": seen["lost"] + seen["other"]}


def overload(run: Run) -> Figures:
    """Find what it can answer, then ask for twice as much; the limit is of queue and service together."""
    path = run.case.target.partition("?")[0]
    busy = partial(run.generator.ask, "closed", path=path, seconds=run.seconds, settle=run.seconds / 4)
    # As many clients as threads: nobody waits for a thread, so that is how long the service takes.
    service = busy(connections=run.case.threads)
    full = busy(connections=run.case.connections)
    capacity = full["rate"]
    if not capacity:
        raise LoadError(f"no capacity: {full}")
    seconds = 1.5 * run.seconds
    seen = run.generator.ask("paced", path=path, rate=2 * capacity, seconds=seconds, settle=seconds / 6)
    total = seen["answered"] + seen["shed"] + seen["other"] + seen["lost"]
    assert run.case.queue_timeout is not None
    limit = run.case.queue_timeout + service["p99_us"] / 1e6
    return {
        "capacity": capacity,
        "service_us": service["p99_us"],
        "rate": seen["rate"],
        "goodput": seen["rate"] / capacity,
        "shed_share": seen["shed"] / total,
        "unanswered_share": (seen["lost"] + seen["other"]) / total,
        "p50_us": seen["p50_us"],
        "p99_us": seen["p99_us"],
        "p99_of_limit": seen["p99_us"] / 1e6 / limit,
        "late_us": seen["late_us"],
    }


def checked(run: Run) -> Figures:
    """Ask with tokens, some clients leaving at random points; every other one must get its own answer."""
    before = processes.cpu_of(run.pid).total
    seen = run.generator.play(
        "closed", path="/echo", connections=run.case.connections, seconds=run.seconds, aborts=0.1
    )
    cpu = processes.cpu_of(run.pid).total - before
    if seen["lost"] or seen["other"]:
        raise LoadError(
            f"answers lost: {seen['lost']:.0f} without one, {seen['other']:.0f} with another status"
        )
    return {
        "rate": seen["rate"],
        "aborted": seen["aborted"],
        "wrong": seen["wrong"],
        "unanswered": seen["lost"] + seen["other"],
        "cpu_us": cpu / seen["answered"],
        "p50_us": seen["p50_us"],
        "p99_us": seen["p99_us"],
    }


def spread(run: Run) -> Figures:
    """Let connections come that stay, one after the other and all at once: who gets them, who is woken."""
    time.sleep(1.0)  # one of them has answered, the others may still start
    count, workers = run.case.connections, run.case.workers
    figures: Figures = {}
    for manner, rate in (("row", ARRIVING), ("burst", 0.0)):
        before = processes.wakeups_of(run.pid)
        with run.generator.crowd("spread", path="/worker", connections=count, rate=rate) as end:
            woken = processes.wakeups_of(run.pid) - before
            seen = end()
        if seen["held"] < count:
            raise LoadError(f"of {count} connections {seen['held']:.0f} were kept")
        figures[f"{manner}_workers"] = seen["workers"]
        figures[f"{manner}_busiest"] = seen["most"] * workers / count
        figures[f"{manner}_wakeups"] = woken / count
    return figures


def sharing(run: Run) -> Figures:
    """Ask for pages until all is as it will be, as often again, and weigh each process that has answered."""
    run.generator.visit(VISITS)
    # Here a worker may become the template, and others be forked from it.
    processes.settle(run.pid, SETTLED, PATIENCE)
    answers = run.generator.visit(VISITS)
    if len(answers) != run.case.workers:
        raise LoadError(f"{len(answers)} processes have answered, of {run.case.workers} workers")
    private = [processes.memory_of(pid).uss for pid in answers]
    return {
        "private_mib": statistics.median(private) / 1024,
        "pss_mib": processes.memory_of(run.pid).pss / 1024 / run.case.workers,
        "fewest": min(answers.values()),
    }


MEASURES: Final[dict[Measure, Callable[[Run], Figures]]] = {
    Measure.LOAD: load,
    Measure.IDLE: idle,
    Measure.SLOW: slow,
    Measure.CPU_BOUND: cpu_bound,
    Measure.LONG: long,
    Measure.OVERLOAD: overload,
    Measure.CHECKED: checked,
    Measure.SPREAD: spread,
    Measure.SHARING: sharing,
}


@contextlib.contextmanager
def prepared(case: Case) -> Iterator[dict[str, str]]:
    """Make what the application of a case needs, in a folder that lasts as long; yield what names it."""
    if not case.prepare:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        environ = {"BENCH_FOLDER": folder}
        subprocess.run(
            [sys.executable, "-m", case.prepare],
            env={**os.environ, "PYTHONPATH": str(processes.APPLICATIONS), **environ},
            check=True,
        )
        yield environ


@contextlib.contextmanager
def running(
    case: Case, server: Server, seconds: float, cores: list[int], environ: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """Start a server for a case, and end it.

    Args:
        case: what it must serve.
        server: whom.
        seconds: of load.
        cores: of the machine; of a case with one worker the server gets the first and the load the second.
        environ: what is added to its environment.

    Yields:
        It, once it answers rightly.

    Raises:
        LoadError: it answers wrongly.
        ServerError: it did not start.
    """
    pinned = case.workers == 1
    own, others = (frozenset(cores[:1]), frozenset(cores[1:2])) if pinned else (frozenset(cores),) * 2
    generator = Generator(HOST, processes.free_port(), case, others)
    command = server.arguments(case.setup, generator.port)
    with (
        prepared(case) as folder,
        processes.serving(command, own, generator.check, {**folder, **(environ or {})}) as pid,
    ):
        yield Run(pid, case, generator, seconds, own)


def measure(case: Case, server: Server, seconds: float, cores: list[int]) -> Figures:
    """Start a server, measure a case, and check that it still answers.

    Args:
        case: what.
        server: whom.
        seconds: of load.
        cores: of the machine.

    Returns:
        The figures.

    Raises:
        LoadError: a run that cannot be counted, with the reason.
        ServerError: it did not start.
        OSError: it answered no more.
    """
    with running(case, server, seconds, cores) as run:
        figures = MEASURES[case.measure](run)
        if case.measure is Measure.LOAD:
            run.generator.check()
    return figures
