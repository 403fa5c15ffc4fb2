# SPDX-License-Identifier: MIT
"""How much memory a process has of its own, and how much all may have.

It decides what is counted. What is too much, and what follows, is `supervisor.weight`.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork.errors import ConfigError
from prefork.process import cgroups

if TYPE_CHECKING:
    from prefork.settings import Settings

_PROC: Final = Path("/proc")
_PRIVATE: Final = re.compile(rb"^Private_(?:Clean|Dirty): +([0-9]+) kB", re.MULTILINE)
_NEED_PROC: Final = ("max_worker_memory", "max_worker_memory_hard", "max_memory")


def private(pid: int, proc: Path = _PROC) -> int | None:
    """Return how many bytes of memory a process shares with no other (its USS).

    Without leave to read that, which root in a container has not for workers of another user
    (CAP_SYS_PTRACE), the memory that belongs to no file is taken. That is more: it has what the
    process still shares with its parent, too.

    Args:
        pid: the process.
        proc: where proc(5) is mounted.

    Returns:
        Bytes; None when the process has ended, or the system has no proc(5) as on Linux.
    """
    folder = proc / str(pid)
    try:
        found = _PRIVATE.findall((folder / "smaps_rollup").read_bytes())
        return 1024 * sum(map(int, found)) if found else None
    except OSError:
        return _anonymous(folder)


def _anonymous(folder: Path) -> int | None:
    try:
        _, resident, shared = (folder / "statm").read_bytes().split()[:3]
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") or None


def check(settings: Settings, proc: Path = _PROC) -> None:
    """Find out before a fork whether limits of memory can be kept.

    Args:
        settings: those about memory are read.
        proc: where proc(5) is mounted.

    Raises:
        ConfigError: one is set, and the system does not say how much memory a process has.
    """
    asked = [name for name in _NEED_PROC if getattr(settings, name)]
    if asked and private(os.getpid(), proc) is None:
        raise ConfigError(
            f"{asked[0]} cannot be kept: this system does not say how much memory a process has of its own",
            hint="it needs the /proc of Linux: leave the setting out, or use max_requests",
        )


def allowance(wanted: int | str) -> int:
    """Return how many bytes a setting allows.

    Args:
        wanted: bytes, or a text such as "80%" for a share of what this process may have.
    """
    if not isinstance(wanted, str):
        return wanted
    return int(min(limit(), _machine()) * float(wanted.rstrip("%")) / 100)


def limit(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float:
    """Return the bytes that cgroups allow, infinity without a limit.

    Args:
        root: where cgroups are mounted.
        membership: the kernel's list of the groups that the process is in.
    """
    return cgroups.least("memory", _limit_v2, _limit_v1, root, membership)


def _limit_v2(folder: Path) -> float:
    return _number(folder / "memory.max")


def _limit_v1(folder: Path) -> float:
    return _number(folder / "memory.limit_in_bytes")  # without a limit it is 2**63, in whole pages


def _number(file: Path) -> float:
    try:
        text = file.read_text("ascii").strip()
        return math.inf if text == "max" else int(text)
    except (OSError, ValueError):
        return math.inf


def _machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
