# SPDX-License-Identifier: MIT
"""What tells one state of a file from another.

It decides what counts as a save: a write within the same tick of the clock is one by its size, and a file put
in another's place by its number.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Stamp(NamedTuple):
    """One state of a file."""

    modified: int
    """Nanoseconds since the epoch."""
    size: int
    inode: int


def stamp_of(path: str) -> Stamp | None:
    """Return the present state of a file, following links; None when there is none.

    Args:
        path: of the file.
    """
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
