# SPDX-License-Identifier: MIT
"""Measures servers beside each other: `nox -s bench`, `nox -s bench -- --quick --cases close`.

Rounds alternate: each round runs every server once, in an order that turns by one each time, so
that what else the machine does falls on all of them alike. A figure is a median over rounds, and a
ratio is the median of the ratios inside each round. A round with one wrong answer is not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import load
import processes
import report
from servers import HOST, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from servers import Server

RESULTS: Final = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Sample:
    """One server in one round of one case; `error` is empty when it counts."""

    case: str
    round: int
    server: str
    requests: int = 0
    rate: float = 0.0
    cpu_us: float = 0.0
    system_us: float = 0.0
    """The kernel's part of `cpu_us`, which no server can do much about."""
    p50_us: int = 0
    p99_us: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Args:
        cases: names of `load.CASES`.
        servers: in the order of the first round.
        rounds: how often each server runs in each case.
        seconds: of load in each run.
        warmup: seconds of load before it that are not counted.
        server_core: the core of the server.
        load_core: the core of wrk.
    """

    cases: Sequence[str]
    servers: Sequence[Server]
    rounds: int
    seconds: float
    warmup: float
    server_core: int
    load_core: int

    def runs(self) -> Iterator[tuple[str, int, Server]]:
        """Yield case, round and server, each round's order turned by one."""
        for case in self.cases:
            able = [server for server in self.servers if case in server.commands]
            for number in range(self.rounds):
                turn = number % len(able) if able else 0
                for server in able[turn:] + able[:turn]:
                    yield case, number, server


def measure(plan: Plan, case: str, number: int, server: Server) -> Sample:
    """Run one server under load once."""
    port = processes.free_port()
    sample = partial(Sample, case, number, server.name)
    check = partial(load.check, HOST, port, case)
    try:
        with processes.serving(server.command(case, port), plan.server_core, check) as pid:
            load.run(HOST, port, case, plan.warmup, plan.load_core)
            before = processes.cpu_of(pid)
            seen = load.run(HOST, port, case, plan.seconds, plan.load_core)
            after = processes.cpu_of(pid)
            check()
    except (load.LoadError, processes.ServerError, OSError) as error:
        return sample(error=str(error))
    if seen.errors or not seen.requests:
        return sample(requests=seen.requests, error=f"errors seen by wrk: {seen.errors or 'no answer'}")
    return sample(
        requests=seen.requests,
        rate=seen.requests / seen.seconds,
        cpu_us=(sum(after) - sum(before)) / seen.requests,
        system_us=(after.system - before.system) / seen.requests,
        p50_us=seen.p50,
        p99_us=seen.p99,
    )


def execute(plan: Plan) -> list[Sample]:
    """Run the plan and say what happens on the way."""
    samples = []
    for case, number, server in plan.runs():
        sample = measure(plan, case, number, server)
        samples.append(sample)
        figures = sample.error or f"{sample.rate:9.0f} requests/s {sample.cpu_us:7.1f} µs CPU/request"
        print(f"{case:10} round {number + 1}/{plan.rounds} {server.name:20} {figures}", flush=True)
    return samples


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    names = [server.name for server in SERVERS]
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure prefork beside its peers.")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server in each case (default 5)")
    parser.add_argument("--seconds", type=float, default=5, help="load in each run (default 5)")
    parser.add_argument(
        "--servers", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--cases", nargs="+", choices=load.CASES, default=list(load.CASES), help="default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of two seconds: a look, not a result"
    )
    parser.add_argument("--output", type=Path, help="where the JSON goes (the plot goes beside it)")
    parser.add_argument(
        "--plot", type=Path, metavar="JSON", help="only draw and print recorded results again"
    )
    return parser.parse_args(argv)


def plan_of(chosen: argparse.Namespace) -> Plan:
    """Return the plan for a command line.

    Raises:
        LoadError: the machine cannot run it.
    """
    load.find_wrk()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise load.LoadError("two cores are needed: one for the server, one for wrk")
    servers = [server for server in SERVERS if server.name in chosen.servers]
    for server in servers:
        if server.version() is None:
            raise load.LoadError(
                f"{server.distribution} is not installed; leave {server.name} out by --servers"
            )
    rounds, seconds = (2, 2.0) if chosen.quick else (chosen.rounds, chosen.seconds)
    return Plan(chosen.cases, servers, rounds, seconds, min(seconds, 2.0), cores[0], cores[1])


def main(argv: Sequence[str]) -> int:
    """Run, print and record; 1 when a run had to be left out."""
    chosen = options(argv)
    if chosen.plot:
        results = report.read(chosen.plot)
    else:
        plan = plan_of(chosen)
        now = datetime.now(UTC)
        results = report.Results(
            when=now.isoformat(timespec="seconds"),
            machine=report.machine(),
            versions={server.distribution: str(server.version()) for server in plan.servers},
            settings={"rounds": plan.rounds, "seconds": plan.seconds, "connections": load.CONNECTIONS},
            samples=[asdict(sample) for sample in execute(plan)],
        )
        chosen.plot = chosen.output or RESULTS / f"{now:%Y-%m-%d-%H%M}.json"
        report.write(results, chosen.plot)
    print(report.table(results))
    print(f"\n{chosen.plot}\n{report.plot(results, chosen.plot.with_suffix('.png'))}")
    return int(any(sample["error"] for sample in results.samples))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except load.LoadError as error:
        sys.exit(f"bench: {error}")
