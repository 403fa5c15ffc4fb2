# SPDX-License-Identifier: MIT
"""Which cgroups the process is in, and the least limit that one of them sets.

It decides where to look. What a limit means, and in which file it is, is the caller's.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[Path], float]

ROOT: Final = Path("/sys/fs/cgroup")
"""Where cgroups are mounted."""
MEMBERSHIP: Final = Path("/proc/self/cgroup")
"""The kernel's list of the groups that the process is in."""


def least(controller: str, version_2: Read, version_1: Read, root: Path, membership: Path) -> float:
    """Return the least limit of the process's own group and all those above it; infinity without one.

    Args:
        controller: such as "cpu".
        version_2: reads the limit in a folder of cgroup version 2; infinity for none.
        version_1: the same for version 1.
        root: where cgroups are mounted.
        membership: the kernel's list of the groups that the process is in.
    """
    try:
        lines = membership.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return math.inf
    limits: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += [version_2(folder) for folder in _upwards(root, path)]
        elif controller in controllers.split(","):
            mounts = (root / controllers, root / controller)
            limits += [version_1(folder) for mount in mounts for folder in _upwards(mount, path)]
    return min(limits, default=math.inf)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above it. A container sees its own group as the root."""
    folder = root / path.lstrip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root
