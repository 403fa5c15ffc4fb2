# SPDX-License-Identifier: MIT
"""Decides how measured rounds are summed up and shown: a table, JSON and a plot. Measures nothing."""

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


@dataclass(frozen=True, slots=True)
class Results:
    """What one run of the benchmarks leaves behind."""

    when: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, Any]
    samples: list[dict[str, Any]]


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


@dataclass(frozen=True, slots=True)
class Row:
    """One server in one case.

    Args:
        rate: requests per second.
        cpu: microseconds of CPU per request.
        system: the kernel's part of it, the median.
        ratio: its CPU time over the reference's of the same round, None without the reference.
    """

    case: str
    server: str
    rounds: int
    rate: Spread
    cpu: Spread
    system: float
    ratio: Spread | None


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
    """Record results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")


def read(path: Path) -> Results:
    """Return recorded results."""
    return Results(**json.loads(path.read_text()))


def rows(results: Results) -> list[Row]:
    """Return one row for each case and server with a valid round, the cheapest first in its case."""
    valid = [sample for sample in results.samples if not sample["error"]]
    reference = {(s["case"], s["round"]): s["cpu_us"] for s in valid if s["server"] == REFERENCE}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in valid:
        found.setdefault((sample["case"], sample["server"]), []).append(sample)
    made = []
    for (case, server), samples in found.items():
        pairs = [(s["cpu_us"], reference.get((case, s["round"]))) for s in samples]
        ratios = [own / other for own, other in pairs if other]
        made.append(
            Row(
                case,
                server,
                len(samples),
                Spread.of([s["rate"] for s in samples]),
                Spread.of([s["cpu_us"] for s in samples]),
                statistics.median([s["system_us"] for s in samples]),
                Spread.of(ratios) if ratios else None,
            )
        )
    cases = list(dict.fromkeys(row.case for row in made))
    return sorted(made, key=lambda row: (cases.index(row.case), row.cpu.median))


def table(results: Results) -> str:
    """Return the results as a Markdown table, medians (and extremes), and which rounds were left out."""
    head = (
        "case",
        "server",
        "requests/s",
        "µs CPU/request",
        "in the kernel",
        f"CPU of {REFERENCE}",
        "rounds",
    )
    lines = ["", f"| {' | '.join(head)} |", "|---|---|---:|---:|---:|---:|---:|"]
    for row in rows(results):
        ratio = f"× {row.ratio.median:.2f} ({row.ratio.low:.2f}–{row.ratio.high:.2f})" if row.ratio else "–"
        cpu = f"{row.cpu.median:.1f} ({row.cpu.low:.1f}–{row.cpu.high:.1f})"
        cells = (
            row.case,
            row.server,
            f"{row.rate.median:,.0f}",
            cpu,
            f"{row.system:.1f}",
            ratio,
            str(row.rounds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        f"\nleft out: {sample['case']}, round {sample['round'] + 1}, {sample['server']}: {sample['error']}"
        for sample in results.samples
        if sample["error"]
    ]
    return "\n".join(lines)


def plot(results: Results, path: Path) -> Path:
    """Draw the medians as bars, with a line from the lowest to the highest round.

    Args:
        results: what to draw.
        path: of the PNG.

    Returns:
        The path.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    summed = rows(results)
    cases = list(dict.fromkeys(row.case for row in summed))
    heights = [sum(row.case == case for row in summed) for case in cases]
    figure, panels = plt.subplots(
        len(cases),
        2,
        figsize=(11, 1.6 + 0.42 * sum(heights) + 0.9 * len(cases)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for (left, right), case in zip(panels, cases, strict=True):
        own = [row for row in summed if row.case == case]
        names = [row.server for row in own]
        _bars(
            left, names, [row.cpu for row in own], f"{case}: µs of CPU per request (less is better)", "{:.1f}"
        )
        _bars(right, names, [row.rate for row in own], f"{case}: requests/s (more is better)", "{:,.0f}")
        right.set_yticklabels([])
    settings = results.settings
    figure.suptitle(
        f"{results.machine['cpu']}, {results.machine['python']}, {results.machine['kernel']}\n"
        "one worker on one core, wrk on another, "
        f"median and extremes of {settings['rounds']} alternating rounds of {settings['seconds']:g} s, "
        f"{settings['connections']} connections",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _bars(axes: Any, names: list[str], spreads: list[Spread], title: str, form: str) -> None:
    """Draw one panel; the reference has a colour of its own."""
    medians = [spread.median for spread in spreads]
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    colours = ["#1f6f8b" if name == REFERENCE else "#b8c4cc" for name in names]
    axes.barh(names, medians, xerr=[below, above], color=colours, ecolor="#444444", capsize=3)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlim(0, max(spread.high for spread in spreads) * 1.18)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    for place, spread in enumerate(spreads):
        axes.annotate(
            form.format(spread.median),
            (spread.high, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
