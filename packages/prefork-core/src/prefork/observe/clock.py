# SPDX-License-Identifier: MIT
"""How a moment is written in a log line.

Local time with its offset, in digits and English month names whatever `setlocale` says.
What a second looks like is worked out once in that second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

T = TypeVar("T")


class PerSecond(Generic[T]):
    """A rendering of a second, remembered until another second is asked for.

    Threads may share it: the second and its rendering are replaced as one tuple.

    Args:
        render: makes the rendering from a second since the epoch.
    """

    __slots__ = ("_last", "_render")

    def __init__(self, render: Callable[[int], T]) -> None:
        self._render = render
        self._last = (0, render(0))

    def __call__(self, second: int) -> T:
        """Return the rendering of a second since the epoch."""
        last = self._last
        if last[0] != second:
            self._last = last = (second, self._render(second))
        return last[1]


def _offset(local: time.struct_time, colon: str) -> str:
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    return f"{sign}{hours:02d}{colon}{minutes:02d}"


def _clf(second: int) -> str:
    local = time.localtime(second)
    day = f"{local.tm_mday:02d}/{_MONTHS[local.tm_mon - 1]}/{local.tm_year:04d}"
    return f"[{day}:{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d} {_offset(local, '')}]"


def _iso(second: int) -> tuple[str, str]:
    local = time.localtime(second)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local), _offset(local, ":")


def _error(second: int) -> str:
    local = time.localtime(second)
    return f"[{time.strftime('%Y-%m-%d %H:%M:%S', local)} {_offset(local, '')}]"


_clf_of: Final = PerSecond(_clf)
_iso_of: Final = PerSecond(_iso)
_error_of: Final = PerSecond(_error)


def clf_time(moment: float) -> str:
    """Return a moment as the Common Log Format has it: `[23/Nov/2026:06:15:00 +0000]`.

    Args:
        moment: seconds since the epoch.
    """
    return _clf_of(int(moment))


def iso_time(moment: float) -> str:
    """Return a moment in ISO 8601 with milliseconds: `2026-11-23T06:15:00.123+00:00`.

    Args:
        moment: seconds since the epoch.
    """
    second = int(moment)
    day_time, offset = _iso_of(second)
    return f"{day_time}.{int((moment - second) * 1000):03d}{offset}"


def error_time(moment: float) -> str:
    """Return a moment as the error log has it: `[2026-11-23 06:15:00 +0000]`.

    Args:
        moment: seconds since the epoch.
    """
    return _error_of(int(moment))
