# SPDX-License-Identifier: MIT
"""When a worker that does nothing wrong has been there for long enough, and how that is said.

It decides which workers want a successor. When they get it, and go, is `staffing` and `machine`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.children import State

if TYPE_CHECKING:
    from prefork.supervisor.children import Children
    from prefork.supervisor.messages import Policy

_GOLDEN: Final = 0.6180339887498949
"""Multiples of it, without their whole part, fill an interval so that no two in a row are near each other."""

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def lifetime(serial: int, policy: Policy) -> float:
    """Return for how many seconds a worker may serve; infinity for ever.

    Workers that are ready together must not be replaced together. Chance could still put two of them
    next to each other, so the jitter is spread by serial number.

    Args:
        serial: of the worker.
        policy: lifetime and lifetime_jitter are read.
    """
    if not policy.lifetime:
        return inf
    return policy.lifetime + policy.lifetime_jitter * (serial * _GOLDEN % 1.0)


def note_age(children: Children, policy: Policy, now: float) -> None:
    """Let each worker that has served for long enough want a successor.

    Args:
        children: the table.
        policy: of the present generation.
        now: the time.
    """
    for child in children.among(State.READY):
        if child.expires <= now and not child.wants_successor:
            child.wants_successor = f"is older than max_worker_lifetime ({duration(policy.lifetime)})"


def duration(seconds: float) -> str:
    """Return a time in the largest unit that it has one of, such as "1.5 h"."""
    size, unit = next((found for found in _UNITS if seconds >= found[0]), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
