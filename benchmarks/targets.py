# SPDX-License-Identifier: MIT
"""The table of targets, and whether results meet them. It measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from report import METRICS, RATIO, REFERENCE, Metric, Spread, line, ratio, spread

if TYPE_CHECKING:
    from report import Results


class Sense(Enum):
    """On which side of the bound the figure has to be."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


class Verdict(Enum):
    """What became of a target."""

    MET = "**met**"
    MISSED = "**not met**"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """What prefork has to reach.

    Args:
        case: a name of `cases.CASES`.
        metric: a name of `report.METRICS`.
        sense: at most or at least.
        bound: of the figure, or of its ratio to the peer's.
        against: the peer; empty if the figure itself counts.
    """

    case: str
    metric: str
    sense: Sense
    bound: float
    against: str = ""

    def value(self, results: Results) -> Spread | None:
        """Return what was reached over rounds, None if it was not measured."""
        if self.against:
            return ratio(results, self.case, self.metric, REFERENCE, self.against)
        return spread(results, self.case, REFERENCE, self.metric)

    def verdict(self, results: Results) -> Verdict:
        """Return whether the median over rounds is within the bound."""
        value = self.value(results)
        if value is None:
            return Verdict.UNKNOWN
        within = value.median <= self.bound if self.sense is Sense.AT_MOST else value.median >= self.bound
        return Verdict.MET if within else Verdict.MISSED

    @property
    def shown_as(self) -> Metric:
        """How value and bound are written."""
        return Metric("", "{:.3f}") if self.against else METRICS.get(self.metric, RATIO)


MOST: Final = Sense.AT_MOST
LEAST: Final = Sense.AT_LEAST

TARGETS: Final = (
    Target("hello-9-keepalive", "cpu_us", MOST, 1 / 8, "gunicorn-gthread"),
    Target("hello-9-keepalive", "cpu_us", MOST, 1.0, "granian"),
    Target("hello-9-keepalive", "cpu_us", MOST, 1.0, "granian-threads"),
    Target("hello-9-close", "cpu_us", MOST, 1 / 5, "gunicorn-gthread"),
    Target("hello-9-close", "cpu_us", MOST, 1.0, "granian"),
    Target("hello-9-close", "cpu_us", MOST, 1.0, "granian-threads"),
    Target("flask-hello", "rate", LEAST, 1.5, "gunicorn-gthread"),
    Target("idle-10000", "idle_bytes", MOST, 4_096),
    Target("idle-10000", "p99_ratio", MOST, 1.5),
    Target("slow-clients", "p99_ratio", MOST, 3.0),
    Target("slow-clients", "unanswered", MOST, 0),
    Target("cpu-bound", "over_plain", MOST, 1.15),
    Target("long-request", "p95_us", MOST, 20_000),
    Target("overload-sleep-keepalive", "goodput", LEAST, 0.95),
    Target("overload-sleep-keepalive", "p99_of_limit", MOST, 1.0),
    Target("overload-compute-close", "goodput", LEAST, 0.95),
    Target("overload-compute-close", "p99_of_limit", MOST, 1.0),
    Target("checked-aborts", "wrong", MOST, 0),
    Target("checked-aborts", "unanswered", MOST, 0),
)


def table(results: Results) -> str:
    """Return the Markdown table of targets; those of cases that nobody ran are left out."""
    ran = {sample.case for sample in results.samples}
    lines = [
        line(["target", "bound", "reached: median (range)", "", "rounds"]),
        line(["---", "--:", "--:", "---", "--:"]),
    ]
    for target in TARGETS:
        if target.case not in ran:
            continue
        value, metric = target.value(results), target.shown_as
        against = f", × {target.against}" if target.against else ""
        rounds = sum(s.case == target.case and s.server == REFERENCE and not s.error for s in results.samples)
        lines.append(
            line(
                [
                    f"{target.case}: {METRICS[target.metric].title}{against}",
                    f"{target.sense.value} {metric.show(target.bound)}",
                    value.show(metric) if value else "–",
                    target.verdict(results).value,
                    str(rounds),
                ]
            )
        )
    return "\n".join(lines)
