# SPDX-License-Identifier: MIT
"""How many CPUs the process may use, and so how many workers `auto` is.

It decides the arithmetic: the host's count is wrong in nearly every container.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, NamedTuple

from prefork.process import cgroups

if TYPE_CHECKING:
    from pathlib import Path


class Count(NamedTuple):
    """A number of workers, and how it came about."""

    workers: int
    why: str


def workers(wanted: int | str, most: int, cpus: float | None = None) -> Count:
    """Return how many workers to run.

    Args:
        wanted: the setting: a number or "auto".
        most: for "auto".
        cpus: the CPUs to count with; None finds out.
    """
    if not isinstance(wanted, str):
        return Count(wanted, "as set")
    share = available() if cpus is None else cpus
    whole = max(1, math.ceil(share))
    number = min(2 * whole + 1, most)
    noun = "CPU" if whole == 1 else "CPUs"
    return Count(number, f"auto: 2 × {whole} {noun} + 1")


def available() -> float:
    """Return the CPUs that this process may use: affinity, or the cgroup's quota if that is less."""
    return min(_affinity(), quota())


def quota(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float:
    """Return the CPUs that cgroups allow, infinite without a limit.

    Args:
        root: where cgroups are mounted.
        membership: the kernel's list of the groups that the process is in.
    """
    return cgroups.least("cpu", _quota_v2, _quota_v1, root, membership)


def _quota_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text("ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text("ascii"))
        period = int((folder / "cpu.cfs_period_us").read_text("ascii"))
        return quota / period if quota > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
