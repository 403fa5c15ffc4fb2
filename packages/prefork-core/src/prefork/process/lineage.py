# SPDX-License-Identifier: MIT
"""Whose child a process is: who gets the orphans below it, and what the end of its parent means to it.

It decides how the kernel is asked (prctl(2)). Only Linux is: elsewhere the answer is no.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import signal

_SET_PDEATHSIG: Final = 1
_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> bool:
    """Make this process the parent of all orphans below it, for good.

    Returns:
        Whether it is; not where the platform has no such thing.
    """
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: signal.Signals) -> bool:
    """Have the kernel send this process a signal when its parent ends; a change of the user undoes it.

    Args:
        number: which signal.

    Returns:
        Whether it will.
    """
    return _prctl(_SET_PDEATHSIG, int(number))


def _prctl(option: int, argument: int) -> bool:
    done = False
    if sys.platform == "linux":
        import ctypes  # only servers that preload need it

        try:
            done = ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0
        except (OSError, AttributeError):
            done = False  # no such function in this C library
    return done
