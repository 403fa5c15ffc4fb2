# SPDX-License-Identifier: MIT
"""How much memory a worker may have, and what is said when it has more.

It decides who is too heavy. A weight is what a process shares with no other, in bytes. Only a
worker that has grown is replaced: the successor of one that has not would weigh the same, and
replacing it would never end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.supervisor.children import State

if TYPE_CHECKING:
    from prefork.supervisor.children import Child, Children
    from prefork.supervisor.messages import Policy

GROWTH: Final = 1.1
"""A worker has grown when it has so many times what it had when it was first weighed."""


def fatal(child: Child, policy: Policy) -> str:
    """Return why a worker must be killed, in words that go on after its name; empty if it need not.

    Args:
        child: has been weighed just now.
        policy: of the present generation.
    """
    if not 0 < policy.memory_hard < child.weight:
        return ""
    return f"has {size(child.weight)} of its own (max_worker_memory_hard {size(policy.memory_hard)})"


class Scales:
    """What all workers weigh. It remembers what has been said of that."""

    def __init__(self) -> None:
        self._is_over = False

    def judge(self, children: Children, child: Child, policy: Policy) -> list[str]:
        """Let whoever is too heavy want a successor.

        Args:
            children: the table.
            child: who of them has been weighed just now.
            policy: of the present generation.

        Returns:
            Warnings, about what a successor would not mend.
        """
        warnings = []
        if 0 < policy.memory < child.weight and _may_be_replaced(child):
            shown = f"has {size(child.weight)} of its own (max_worker_memory {size(policy.memory)})"
            if _has_grown(child):
                child.wants_successor = shown
            elif child.weighings == 1:
                warnings.append(f"{child} {shown} and is new: it stays, a successor would have no less")
        if policy.memory_total:
            warnings += self._judge_all(children, policy)
        return warnings

    def _judge_all(self, children: Children, policy: Policy) -> list[str]:
        total = sum(child.weight for child in children)
        was_over, self._is_over = self._is_over, total > policy.memory_total
        # One after the other: what is on its way out will give its memory back.
        if not self._is_over or any(_is_going(child) for child in children):
            return []
        together = (
            f"the workers have {size(total)} of their own together (max_memory {size(policy.memory_total)})"
        )
        grown = [child for child in children.among(State.READY) if _has_grown(child)]
        if grown:
            largest = max(grown, key=lambda child: child.weight)
            largest.wants_successor = f"has {size(largest.weight)}, and {together}"
        elif not was_over:
            return [f"{together}, and none has grown: fewer workers would need less"]
        return []


def size(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / 1024**2:.0f} MiB"


def _may_be_replaced(child: Child) -> bool:
    return child.state is State.READY and not child.wants_successor


def _has_grown(child: Child) -> bool:
    return child.weight > child.first_weight * GROWTH


def _is_going(child: Child) -> bool:
    return bool(child.wants_successor) or child.state not in {State.BOOTING, State.READY}
