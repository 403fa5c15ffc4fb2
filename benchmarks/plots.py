# SPDX-License-Identifier: MIT
"""Draws results: how prefork stands to each peer, and for each group its figures as bars. Sums up nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import report
from cases import Sense
from report import GROUPS, METRICS, REFERENCE
from targets import TARGETS, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from report import Results

OWN: Final = "#1f6f8b"
OTHER: Final = "#b8c4cc"
GOOD: Final = "#7fbf8f"
BAD: Final = "#e59a8f"
DPI: Final = 130


def pyplot() -> Any:
    """Return matplotlib's drawing module, without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def draw(results: Results, stem: Path) -> dict[str, str]:
    """Draw everything.

    Args:
        results: what was measured.
        stem: path of the results without a suffix.

    Returns:
        Group, or `overview` → name of its PNG beside the results.
    """
    made = {}
    if _overview(results, picture := stem.with_name(f"{stem.name}-overview.png")):
        made["overview"] = picture.name
    for group in GROUPS:
        picture = stem.with_name(f"{stem.name}-{group}.png")
        if _group(results, group, picture):
            made[group] = picture.name
    return made


def _group(results: Results, group: str, path: Path) -> bool:
    """Draw a row of panels for each case of a group, a column for each metric; False if there is nothing."""
    cases = [case for case in report.cases_of(results, group) if report.servers_of(results, case)]
    if not cases:
        return False
    plt = pyplot()
    metrics = GROUPS[group].plotted
    heights = [len(report.servers_of(results, case)) + 1.2 for case in cases]
    figure, panels = plt.subplots(
        len(cases),
        len(metrics),
        figsize=(4.2 * len(metrics), 1.2 + 0.34 * sum(heights)),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for row, case in zip(panels, cases, strict=True):
        shown = [metric for metric in metrics if report.measured(results, case, metric)]
        for column, metric in enumerate(shown):
            _bars(row[column], results, case, metric, named=column == 0)
        for axes in row[len(shown) :]:
            axes.axis("off")
    figure.suptitle(f"{GROUPS[group].title}\n{_wrapped(report.circumstances(results))}", fontsize=8)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return True


def _wrapped(text: str) -> str:
    """Return text in lines that fit above two panels."""
    import textwrap

    return "\n".join(textwrap.wrap(text, 150))


def _bars(axes: Any, results: Results, case: str, name: str, *, named: bool) -> None:
    """Draw one panel: a bar for each server's median, with a line from the lowest to the highest round."""
    servers = report.servers_of(results, case)
    found = [(server, report.spread(results, case, server, name)) for server in servers]
    metric = METRICS[name]
    high = max((own.high for _, own in found if own), default=0.0) * metric.scale
    for place, (server, own) in enumerate(found):
        if own is None:
            continue
        median, low, top = (value * metric.scale for value in (own.median, own.low, own.high))
        colour = OWN if server == REFERENCE else OTHER
        axes.barh(
            place, median, xerr=[[median - low], [top - median]], color=colour, ecolor="#444444", capsize=2
        )
        axes.annotate(
            metric.show(own.median),
            (top, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(servers)), servers if named else [""] * len(servers))
    axes.invert_yaxis()
    axes.set_xlim(0, (high or 1) * 1.25)
    axes.set_title(f"{case}: {metric.title}", fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _overview(results: Results, path: Path) -> bool:
    """Draw how each peer's CPU time stands to prefork's, and beside it the targets; False without prefork."""
    peers = [name for name in report.servers_of(results) if name != REFERENCE]
    cases = [
        case
        for case in report.cases_of(results)
        if any(report.ratio(results, case, "cpu_us", peer, REFERENCE) for peer in peers)
    ]
    reached = [target for target in TARGETS if target.verdict(results) is not Verdict.UNKNOWN]
    if not cases and not reached:
        return False
    plt = pyplot()
    size = (7 + 0.9 * len(peers), 2.2 + 0.3 * max(len(cases), len(reached)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained", width_ratios=(1.2, 1))
    _matrix(left, results, cases, peers)
    _targets(right, results)
    figure.suptitle(_wrapped(report.circumstances(results)), fontsize=8)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return True


def _matrix(axes: Any, results: Results, cases: list[str], peers: list[str]) -> None:
    """Draw a field for each case and peer: green where prefork takes less CPU time, red where more."""
    from math import log2, nan

    if not cases:
        axes.axis("off")
        return
    ratios = [[report.ratio(results, case, "cpu_us", peer, REFERENCE) for peer in peers] for case in cases]
    shades = [[log2(own.median) if own else nan for own in row] for row in ratios]
    axes.imshow(shades, cmap="RdYlGn", vmin=-3.5, vmax=3.5, aspect="auto")
    for y, row in enumerate(ratios):
        for x, own in enumerate(row):
            if own:
                axes.text(x, y, f"{own.median:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(peers)), peers, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.set_title(
        "CPU time per request: the peer's over prefork's\n(over 1, green: prefork takes less)", fontsize=9
    )


def _targets(axes: Any, results: Results) -> None:
    """Draw each target as a bar to its bound, which is 1: green if met, red and beyond it if not."""
    shown = [(target, value) for target in TARGETS if (value := target.value(results)) and target.bound.value]
    if not shown:
        axes.axis("off")
        return
    for place, (target, value) in enumerate(shown):
        used = value.median / target.bound.value
        if target.bound.sense is Sense.AT_LEAST:
            used = target.bound.value / value.median if value.median else 10.0
        met = target.verdict(results) is Verdict.MET
        axes.barh(place, min(used, 3.0), color=GOOD if met else BAD)
        axes.text(0.02, place, f"{value.show(target.shown_as)} {target.limit}", va="center", fontsize=7)
    names = [f"{target.case}\n{target.title}" for target, _ in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=6)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlim(0, 3.0)
    axes.invert_yaxis()
    axes.set_title("Targets: the bound is at 1, less is better\n(what is over 3 is cut)", fontsize=9)
