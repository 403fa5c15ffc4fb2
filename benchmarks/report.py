# SPDX-License-Identifier: MIT
"""Decides how measured rounds are summed up and written down: JSON, Markdown. Measures and draws nothing."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

REFERENCE: Final = "prefork"
"""The server that the others are compared with."""
FORMAT: Final = 2
"""Of the JSON. The first had other names for everything."""


class FormatError(Exception):
    """Recorded results cannot be read."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run.

    Args:
        title: as a column has it, with the unit.
        form: how a value is written.
        scale: what it is multiplied with for that.
    """

    title: str
    form: str = "{:,.0f}"
    scale: float = 1.0

    def show(self, value: float) -> str:
        """Return a value as text."""
        return self.form.format(value * self.scale)


METRICS: Final = {
    "cpu_us": Metric("CPU µs/request", "{:,.1f}"),
    "system_us": Metric("of it in the kernel", "{:,.1f}"),
    "rate": Metric("requests/s"),
    "p50_us": Metric("p50 ms", "{:,.2f}", 1e-3),
    "p95_us": Metric("p95 ms", "{:,.2f}", 1e-3),
    "p99_us": Metric("p99 ms", "{:,.2f}", 1e-3),
    "p50_alone_us": Metric("p50 ms without", "{:,.2f}", 1e-3),
    "p99_alone_us": Metric("p99 ms without", "{:,.2f}", 1e-3),
    "p99_ratio": Metric("p99 with / without", "{:,.2f}"),
    "pss_start_mib": Metric("MiB at start", "{:,.1f}"),
    "pss_mib": Metric("MiB after load", "{:,.1f}"),
    "uss_mib": Metric("MiB private", "{:,.1f}"),
    "private_mib": Metric("MiB private to a worker", "{:,.1f}"),
    "fewest": Metric("requests of each worker, at least"),
    "idle_bytes": Metric("bytes/idle connection"),
    "held": Metric("idle connections held"),
    "cpu_share": Metric("cores used", "{:.3f}"),
    "unanswered": Metric("not answered"),
    "seconds": Metric("s for all", "{:.3f}"),
    "plain_seconds": Metric("s in plain processes", "{:.3f}"),
    "over_plain": Metric("× plain processes", "{:.2f}"),
    "capacity": Metric("capacity/s"),
    "service_us": Metric("service p99 ms", "{:,.2f}", 1e-3),
    "goodput": Metric("goodput / capacity", "{:.3f}"),
    "shed_share": Metric("% shed", "{:.1f}", 100),
    "unanswered_share": Metric("% not answered", "{:.1f}", 100),
    "p99_of_limit": Metric("p99 / (limit + service)", "{:.2f}"),
    "row_workers": Metric("workers used, one by one", "{:.0f}"),
    "row_busiest": Metric("busiest / mean, one by one", "{:.2f}"),
    "row_wakeups": Metric("wake-ups each, one by one", "{:.1f}"),
    "burst_workers": Metric("workers used, at once", "{:.0f}"),
    "burst_busiest": Metric("busiest / mean, at once", "{:.2f}"),
    "burst_wakeups": Metric("wake-ups each, at once", "{:.1f}"),
    "aborted": Metric("aborted"),
    "wrong": Metric("wrong answers"),
}
"""Name in a sample → how it is shown. What is measured and not here stays in the JSON."""


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are shown together.

    Args:
        title: a heading.
        about: what a reader must know of them.
        metrics: columns of the table.
        plotted: those that are drawn.
        compared: the metric whose ratio to one server is shown, if any.
        to: that server.
    """

    title: str
    about: str
    metrics: tuple[str, ...]
    plotted: tuple[str, ...]
    compared: str = ""
    to: str = REFERENCE


LOADED: Final = ("cpu_us", "system_us", "rate", "p50_us", "p99_us", "pss_mib")
DRAWN: Final = ("cpu_us", "rate", "p50_us", "p99_us")

GROUPS: Final = {
    "hello": Group(
        "Thirteen bytes",
        "One worker, 4 threads, 16 connections. 2 fields: `Host`, `Connection`; 9: a browser's; varied: 9, "
        "with another `Cookie` and `traceparent` in each request, so that nothing can be remembered of them.",
        LOADED,
        DRAWN,
        "cpu_us",
    ),
    "sizes": Group("Larger responses, and uploads", "Keep-alive, 4 threads.", LOADED, DRAWN, "cpu_us"),
    "frameworks": Group(
        "Flask and Django",
        "Keep-alive, 4 threads; thirteen bytes through the framework, and a template with 50 rows.",
        LOADED,
        DRAWN,
        "cpu_us",
    ),
    "threads": Group("1, 2 and 8 threads", "hello-9-keepalive has 4.", LOADED, DRAWN, "cpu_us"),
    "workers": Group(
        "Two workers", "Two workers need both cores, so nothing is pinned.", LOADED, DRAWN, "cpu_us"
    ),
    "classes": Group(
        "Other worker classes",
        "Each beside what its users have now, with an application of thirteen bytes, 16 connections and the "
        "same event loop on both sides: gunicorn's worker classes for gevent and Tornado, those that aiohttp "
        "has for gunicorn, and uvicorn with httptools.",
        LOADED,
        DRAWN,
        "cpu_us",
    ),
    "sleep": Group(
        "10 ms of sleep, 512 clients",
        "At most 400 requests/s for 4 threads and 3,200 for 32; what is left is how evenly clients wait.",
        ("rate", "p50_us", "p99_us", "cpu_us", "pss_mib"),
        ("rate", "p50_us", "p99_us", "cpu_us"),
        "rate",
    ),
    "memory": Group(
        "Memory",
        "Four workers of 4 threads with Flask: the whole tree's memory over the workers. Pages that "
        "processes share count in part for each (PSS); private is what no other process has (USS). "
        "Nothing is pinned.",
        ("pss_start_mib", "pss_mib", "uss_mib"),
        ("pss_start_mib", "pss_mib", "uss_mib"),
        "pss_mib",
    ),
    "sharing": Group(
        "What Django's workers have of memory for themselves",
        "Four sync workers of a Django project with models, admin and SQLite; 500 requests for several "
        "pages, a pause for `--refork` to be over, and 500 more. Private is what no other process has (USS), "
        "the median of the workers; after load, what all processes of the server take, template and arbiter "
        "too, over the workers (PSS). django-orm: a number from the database, and a form. django-admin: six "
        "pages of the shop and five of the admin. prefork-warmup has `--warmup` for each of these pages. "
        "Nothing is pinned.",
        ("private_mib", "pss_mib", "fewest"),
        ("private_mib", "pss_mib"),
        "private_mib",
        "prefork-sync",
    ),
    "crowds": Group(
        "Idle and slow clients",
        "500 requests/s without and with others. idle-10000: with 10,000 idle keep-alive connections, and "
        "wrk beside them (requests/s). slow-clients: with 200 dripping heads, 50 slow uploads of 1 MB and 50 "
        "readers at 1 kB/s. What is never answered is as late as it was given up, 2 s after the last.",
        (
            "idle_bytes",
            "rate",
            "p50_alone_us",
            "p50_us",
            "p99_alone_us",
            "p99_us",
            "p99_ratio",
            "unanswered",
            "cpu_share",
        ),
        ("p99_alone_us", "p99_us", "p99_ratio", "idle_bytes"),
    ),
    "fairness": Group(
        "Two workers and unequal requests",
        "cpu-bound: 8 computations at once on 2 × 4 threads, beside two plain processes that compute the "
        "same. long-request: 500 requests/s on new connections, 2 × 1 threads, while one request takes 12 s; "
        "the clients are done before it is. Nothing is pinned.",
        ("seconds", "plain_seconds", "over_plain", "p50_us", "p95_us", "p99_us", "unanswered"),
        ("over_plain", "p50_us", "p95_us", "p99_us"),
    ),
    "spread": Group(
        "Connections and wake-ups, over 1, 4 and 16 workers",
        "200 connections that stay, each with one request of no work: one by one (200 a second, so that each "
        "finds all workers idle), then all at once. Busiest / mean: 1 is even, and as many as there are "
        "workers means that one has all. Wake-ups: how often any thread of the server was woken, for each "
        "connection, timers included; where more workers mean more of them, several are woken for one. "
        "More than one worker is not pinned.",
        ("row_workers", "row_busiest", "row_wakeups", "burst_workers", "burst_busiest", "burst_wakeups"),
        ("row_busiest", "row_wakeups", "burst_busiest", "burst_wakeups"),
    ),
    "overload": Group(
        "Twice of what it can answer",
        "Requests come at twice the measured capacity, whatever is answered. prefork has `queue_timeout` "
        "0.1 s; gunicorn has no such thing and is there to show what happens without. Service: with as many "
        "clients as threads, so that none waits for one.",
        (
            "capacity",
            "rate",
            "goodput",
            "shed_share",
            "unanswered_share",
            "service_us",
            "p50_us",
            "p99_us",
            "p99_of_limit",
        ),
        ("goodput", "shed_share", "p99_us", "p99_of_limit"),
    ),
    "checked": Group(
        "Every answer checked",
        "64 clients of our own; each answer must carry its request's token, and one request in ten is left "
        "at a random point.",
        ("rate", "cpu_us", "aborted", "wrong", "unanswered", "p99_us"),
        ("cpu_us", "rate", "p99_us"),
        "cpu_us",
    ),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One server in one round of one case; `error` is empty when it counts."""

    group: str
    case: str
    round: int
    server: str
    figures: dict[str, float]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """What one run of the benchmarks leaves behind."""

    when: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, Any]
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the extremes around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, metric: Metric) -> str:
        """Return it as text: the median, and the extremes where there are some."""
        shown = [metric.show(value) for value in (self.median, self.low, self.high)]
        return shown[0] if self.low == self.high else f"{shown[0]} ({shown[1]}–{shown[2]})"


RATIO: Final = Metric("", "{:.2f}")


def machine() -> dict[str, str]:
    """Return what a reader must know of the machine, and nothing that names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.2f} (1 minute, before the run)",
    }


def write(results: Results, path: Path) -> None:
    """Record results as JSON, so that a reader sees the old ones or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps({"format": FORMAT, **asdict(results)}, indent=1) + "\n")
    beside.replace(path)


def read(path: Path) -> Results:
    """Return recorded results.

    Raises:
        FormatError: an earlier version of the benchmarks wrote them.
    """
    found = json.loads(path.read_text())
    if found.pop("format", 1) != FORMAT:
        raise FormatError(f"{path.name} was written by an earlier version; its plot lies beside it")
    return Results(**{**found, "samples": [Sample(**sample) for sample in found["samples"]]})


def valid(results: Results, case: str, server: str) -> dict[int, dict[str, float]]:
    """Return round → figures of the runs that count."""
    return {
        sample.round: sample.figures
        for sample in results.samples
        if sample.case == case and sample.server == server and not sample.error
    }


def spread(results: Results, case: str, server: str, metric: str) -> Spread | None:
    """Return the spread of a figure, None if no run has it."""
    values = [figures[metric] for figures in valid(results, case, server).values() if metric in figures]
    return Spread.of(values) if values else None


def ratio(results: Results, case: str, metric: str, server: str, to: str) -> Spread | None:
    """Return the spread of one server's figure over another's of the same round; None without a pair."""
    own, other = valid(results, case, server), valid(results, case, to)
    values = [
        own[number][metric] / other[number][metric]
        for number in sorted(own.keys() & other.keys())
        if own[number].get(metric) is not None and other[number].get(metric)
    ]
    return Spread.of(values) if values else None


def cases_of(results: Results, group: str = "") -> list[str]:
    """Return the cases of a group that have runs, or of all, in the order they were run."""
    return list(dict.fromkeys(s.case for s in results.samples if group in ("", s.group)))


def servers_of(results: Results, case: str = "") -> list[str]:
    """Return the servers with runs that count in a case, or in any; the reference first."""
    found = dict.fromkeys(s.server for s in results.samples if case in ("", s.case) and not s.error)
    return sorted(found, key=lambda name: name != REFERENCE)


def measured(results: Results, case: str, metric: str) -> bool:
    """Return whether any server has a figure in a case."""
    return any(spread(results, case, server, metric) for server in servers_of(results, case))


def line(cells: list[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def table(results: Results, group: str) -> str:
    """Return the Markdown table of a group."""
    about = GROUPS[group]
    cases = cases_of(results, group)
    shown = [name for name in about.metrics if any(measured(results, case, name) for case in cases)]
    compared = [f"{METRICS[about.compared].title}, × {about.to}"] if about.compared else []
    head = ["case", "server", *(METRICS[name].title for name in shown), *compared, "rounds"]
    lines = [line(head), line(["---", "---", *["--:"] * (len(head) - 2)])]
    for case in cases:
        for server in servers_of(results, case):
            spreads = [(spread(results, case, server, name), METRICS[name]) for name in shown]
            cells = [own.show(metric) if own else "–" for own, metric in spreads]
            if about.compared:
                against = ratio(results, case, about.compared, server, about.to)
                cells.append(against.show(RATIO) if against else "–")
            lines.append(line([case, server, *cells, str(len(valid(results, case, server)))]))
    return "\n".join(lines)


def overview(results: Results) -> str:
    """Return the Markdown table of every case and peer: the peer's CPU time per request over prefork's.

    It is empty without a run of prefork beside a peer.
    """
    peers = [name for name in servers_of(results) if name != REFERENCE]
    lines = [line(["case", *peers]), line(["---", *["--:"] * len(peers)])]
    for case in cases_of(results):
        ratios = [ratio(results, case, "cpu_us", peer, REFERENCE) for peer in peers]
        if any(ratios):
            lines.append(line([case, *(f"{own.median:.2f}" if own else "" for own in ratios)]))
    return "\n".join(lines) if len(lines) > 2 else ""


def failures(results: Results) -> str:
    """Return a list of the runs that do not count, with the reason of each."""
    rounds: dict[tuple[str, str, str], list[str]] = {}
    for sample in results.samples:
        if sample.error:
            reason = " ".join(sample.error.split())[:400]
            rounds.setdefault((sample.case, sample.server, reason), []).append(str(sample.round + 1))
    return "\n".join(
        f"* {case}, {server}, round {', '.join(numbers)}: {reason}"
        for (case, server, reason), numbers in rounds.items()
    )


def circumstances(results: Results) -> str:
    """Return where and how it was measured, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    settings = results.settings
    where = results.machine
    return (
        f"{where['cpu']}, {where['cores']} cores, {where['kernel']}, {where['python']}; one worker on one "
        f"core, the load on another; median (lowest–highest) of {settings['rounds']} alternating rounds of "
        f"{settings['seconds']:g} s; {versions}; load average {where['load']}."
    )


def markdown(results: Results, verdicts: str, pictures: dict[str, str]) -> str:
    """Return the whole report.

    Args:
        results: what was measured.
        verdicts: the table of targets.
        pictures: group, or `overview` → file name of its plot.
    """
    parts = [f"# Benchmarks of {results.when[:10]}", circumstances(results), "## Targets", verdicts]
    if against := overview(results):
        parts += ["## CPU time per request, × prefork", "Over 1: the peer takes more.", against]
    parts += [f"![]({pictures['overview']})"] if "overview" in pictures else []
    for name, group in GROUPS.items():
        if cases_of(results, name):
            parts += [f"## {group.title}", group.about, table(results, name)]
            parts += [f"![]({pictures[name]})"] if name in pictures else []
    if left_out := failures(results):
        parts += ["## Runs that do not count", left_out]
    return "\n\n".join(part for part in parts if part) + "\n"
