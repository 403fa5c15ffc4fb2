# SPDX-License-Identifier: MIT
"""Waiting for conditions: with a deadline, and a reason when it passes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 20.0
"""Seconds after which what was waited for has not happened. Many times what it takes when idle, and less than
graceful_timeout: a stop that waits for that has failed."""

_PAUSE: Final = 0.01

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Wait until a condition is true.

    Args:
        condition: called again and again.
        what: what should become true, for the failure's message.
        timeout: seconds.

    Returns:
        What the condition returned.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s, but never: {what}")
        time.sleep(_PAUSE)
    return found
