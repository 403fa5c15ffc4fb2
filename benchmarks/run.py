# SPDX-License-Identifier: MIT
"""Measures servers beside each other: `nox -s bench`, `nox -s bench -- --quick --groups hello`.

Rounds alternate: each round of a case runs every server once, in an order that turns by one each time,
so that what else the machine does falls on all of them alike. A figure is a median over rounds, and a
ratio is the median of the ratios inside each round. A run with one wrong answer is not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import hotpath
import load
import plots
import report
import targets
from cases import CASES, DURATION
from measure import FAILURES, measure
from servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cases import Case
    from servers import Server

RESULTS: Final = Path(__file__).with_name("results")
LISTED: Final = 2.0
"""Seconds of load for which `cases.DURATION` says how long a run takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Args:
        cases: in their order.
        servers: in the order of the first round.
        rounds: how often each server runs in each case.
        seconds: of load in each run.
    """

    cases: Sequence[Case]
    servers: Sequence[Server]
    rounds: int
    seconds: float

    def able(self, case: Case) -> list[Server]:
        """Return the servers of a case."""
        return [server for server in self.servers if server.name in case.servers]

    def rounds_of(self, case: Case) -> int:
        """Return how often each server runs in a case."""
        return min(self.rounds, case.enough or self.rounds)

    def estimate(self, case: Case) -> float:
        """Return about how many seconds a case takes."""
        run = DURATION[case.measure] * case.longer * (0.4 + 0.6 * self.seconds / LISTED)
        return run * self.rounds_of(case) * len(self.able(case))

    def runs(self, case: Case) -> Iterator[tuple[int, Server]]:
        """Yield round and server, each round's order turned by one."""
        able = self.able(case)
        for number in range(self.rounds_of(case)):
            turn = number % len(able) if able else 0
            for server in able[turn:] + able[:turn]:
                yield number, server


@dataclass(slots=True)
class Progress:
    """Says what happens, and how long it will go on at the pace so far."""

    plan: Plan
    done: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def say(self, case: Case, number: int, server: Server, sample: report.Sample) -> None:
        """Print one line for a run."""
        rounds = self.plan.rounds_of(case)
        self.done += self.plan.estimate(case) / (rounds * len(self.plan.able(case)))
        left = max(0.0, sum(map(self.plan.estimate, self.plan.cases)) - self.done)
        pace = (time.monotonic() - self.begun) / self.done
        names = [name for name in report.GROUPS[case.group].plotted if name in sample.figures]
        shown = [
            f"{report.METRICS[name].show(sample.figures[name])} {report.METRICS[name].title}"
            for name in names
        ]
        place = self.plan.cases.index(case) + 1
        text = f"NOT COUNTED: {' '.join(sample.error.split())[-300:]}" if sample.error else ", ".join(shown)
        print(
            f"[case {place} of {len(self.plan.cases)}, {left * pace / 60:.1f} min left]",
            f"{case.name} {number + 1}/{rounds}",
            f"{server.name}: {text}",
            flush=True,
        )


def attempt(plan: Plan, case: Case, number: int, server: Server, cores: list[int]) -> report.Sample:
    """Run one server in one case once; a failure becomes the sample's error."""
    try:
        figures = measure(case, server, plan.seconds * case.longer, cores)
    except FAILURES as error:
        return report.Sample(case.group, case.name, number, server.name, {}, str(error) or repr(error))
    return report.Sample(case.group, case.name, number, server.name, figures)


def execute(plan: Plan, results: report.Results, output: Path) -> None:
    """Run the plan; what was measured is written after each case, so that an interruption loses little."""
    cores = sorted(os.sched_getaffinity(0))
    progress = Progress(plan)
    for case in plan.cases:
        for number, server in plan.runs(case):
            sample = attempt(plan, case, number, server, cores)
            results.samples.append(sample)
            progress.say(case, number, server, sample)
        report.write(results, output)


def publish(results: report.Results, output: Path) -> None:
    """Draw and write the report beside the results, and print what matters most."""
    pictures = plots.draw(results, output.with_suffix(""))
    verdicts = targets.table(results)
    output.with_suffix(".md").write_text(report.markdown(results, verdicts, pictures))
    print(f"\n{report.overview(results)}\n\n{verdicts}\n\n{report.failures(results)}\n")
    print(output.with_suffix(".md"))


def options(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    servers = [server.name for server in SERVERS]
    cases = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="nox -s bench --", description="Measure prefork beside its peers.")
    parser.add_argument("--list", action="store_true", help="print the cases and how long they take")
    parser.add_argument(
        "--groups",
        nargs="+",
        choices=report.GROUPS,
        default=list(report.GROUPS),
        metavar="GROUP",
        help=", ".join(report.GROUPS),
    )
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases, metavar="CASE", help="see --list")
    parser.add_argument(
        "--servers", nargs="+", choices=servers, default=servers, metavar="NAME", help=", ".join(servers)
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server in each case (default 5)")
    parser.add_argument("--seconds", type=float, default=LISTED, help="load in each run (default 2)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: a look, not a result")
    parser.add_argument("--profile", action="store_true", help="say where the time of one request goes, only")
    parser.add_argument("--output", type=Path, help="where the JSON goes (report and plots go beside it)")
    parser.add_argument(
        "--plot", type=Path, metavar="JSON", help="only report and draw recorded results again"
    )
    return parser.parse_args(argv)


def plan_of(chosen: argparse.Namespace) -> Plan:
    """Return the plan for a command line; servers that are not installed are named and left out."""
    cases = [case for case in CASES if case.group in chosen.groups and case.name in chosen.cases]
    servers = [server for server in SERVERS if server.name in chosen.servers]
    for server in servers:
        if server.missing:
            print(f"{', '.join(server.missing)} is not installed, so {server.name} is left out", flush=True)
    installed = [server for server in servers if not server.missing]
    rounds, seconds = (1, 1.0) if chosen.quick else (chosen.rounds, chosen.seconds)
    return Plan(
        [case for case in cases if Plan(cases, installed, 1, 1).able(case)], installed, rounds, seconds
    )


def listing(plan: Plan) -> str:
    """Return the plan as a table."""
    lines = [
        f"{case.group:11}{case.name:26}{plan.estimate(case) / 60:5.1f} min  {names}"
        for case in plan.cases
        for names in [" ".join(server.name for server in plan.able(case))]
    ]
    total = sum(map(plan.estimate, plan.cases)) / 60
    return "\n".join([*lines, f"{'':37}{total:5.1f} min for {plan.rounds} rounds of {plan.seconds:g} s"])


def fresh(plan: Plan) -> report.Results:
    """Return results without samples.

    Raises:
        LoadError: the machine cannot run the plan.
    """
    load.find_wrk()
    if len(os.sched_getaffinity(0)) < 2:
        raise load.LoadError("two cores are needed: one for the server, one for the load")
    taking_part = {server.name: server for case in plan.cases for server in plan.able(case)}
    versions = {name: text for each in taking_part.values() for name, text in each.versions.items()}
    settings = {"rounds": plan.rounds, "seconds": plan.seconds}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return report.Results(when, report.machine(), versions, settings, [])


def main(argv: Sequence[str]) -> int:
    """Run, print and record; 1 when a run does not count, 130 when it was interrupted."""
    chosen = options(argv)
    if chosen.plot:
        publish(report.read(chosen.plot), chosen.plot)
        return 0
    if chosen.profile:
        output = chosen.output or RESULTS / f"{datetime.now(UTC):%Y-%m-%d-%H%M}-profile.md"
        return int(not hotpath.record(output))
    plan = plan_of(chosen)
    if chosen.list:
        print(listing(plan))
        return 0
    results = fresh(plan)
    output = chosen.output or RESULTS / f"{datetime.fromisoformat(results.when):%Y-%m-%d-%H%M}.json"
    status = 0
    try:
        execute(plan, results, output)
        status = int(any(sample.error for sample in results.samples))
    except KeyboardInterrupt:
        report.write(results, output)
        status = 130
    publish(results, output)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (load.LoadError, report.FormatError) as error:
        sys.exit(f"bench: {error}")
