# SPDX-License-Identifier: MIT
"""Whether results are within the bounds of `cases.CASES`. It measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from cases import CASES, Sense
from report import METRICS, RATIO, REFERENCE, Metric, Spread, line, ratio, spread

if TYPE_CHECKING:
    from cases import Bound
    from report import Results


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
        bound: one of that case.
    """

    case: str
    bound: Bound

    def value(self, results: Results) -> Spread | None:
        """Return what was reached over rounds, None if it was not measured."""
        metric, own, against = self.bound.metric, self.bound.of, self.bound.against
        if against:
            return ratio(results, self.case, metric, own, against)
        return spread(results, self.case, own, metric)

    def verdict(self, results: Results) -> Verdict:
        """Return whether the median over rounds is within the bound."""
        reached, bound = self.value(results), self.bound
        if reached is None:
            return Verdict.UNKNOWN
        at_most = bound.sense is Sense.AT_MOST
        within = reached.median <= bound.value if at_most else reached.median >= bound.value
        return Verdict.MET if within else Verdict.MISSED

    @property
    def title(self) -> str:
        """The figure that counts, in words."""
        against = f", × {self.bound.against}" if self.bound.against else ""
        own = f" of {self.bound.of}" if self.bound.of != REFERENCE else ""
        return f"{METRICS[self.bound.metric].title}{own}{against}"

    @property
    def shown_as(self) -> Metric:
        """How value and bound are written."""
        return Metric("", "{:.3f}") if self.bound.against else METRICS.get(self.bound.metric, RATIO)

    @property
    def limit(self) -> str:
        """The bound, in words."""
        return f"{self.bound.sense.value} {self.shown_as.show(self.bound.value)}"


TARGETS: Final = tuple(Target(case.name, bound) for case in CASES for bound in case.bounds)


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
        value = target.value(results)
        own = target.bound.of
        rounds = sum(s.case == target.case and s.server == own and not s.error for s in results.samples)
        lines.append(
            line(
                [
                    f"{target.case}: {target.title}",
                    target.limit,
                    value.show(target.shown_as) if value else "–",
                    target.verdict(results).value,
                    str(rounds),
                ]
            )
        )
    return "\n".join(lines)
