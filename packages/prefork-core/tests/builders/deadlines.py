# SPDX-License-Identifier: MIT
"""Waiting in tests: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds. Much more than anything takes: only a test that fails waits so long."""


def eventually(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return the first true value of a condition.

    Args:
        condition: is asked again and again.
        seconds: how long.

    Raises:
        AssertionError: it was not true in all that time.
    """
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"still {value!r} after {seconds} s"
        time.sleep(0.002)
    return value
