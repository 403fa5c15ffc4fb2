# SPDX-License-Identifier: MIT
"""The value of the Date field, made once a second."""

from __future__ import annotations

from time import gmtime, time

# Names of RFC 9110 §5.6.7 are English; strftime would take those of the locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# The second and its text in one tuple, so that no thread can see a torn pair.
_now: tuple[float, str] = (0.0, "")


def http_date() -> str:
    """Return the current time as an IMF-fixdate (RFC 9110 §5.6.7)."""
    global _now  # noqa: PLW0603 (replaced as a whole)
    now = time()
    second, text = _now
    if not 0.0 <= now - second < 1.0:
        t = gmtime(now)
        day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
        text = f"{day} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
        _now = (now // 1.0, text)
    return text
