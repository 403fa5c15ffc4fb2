# SPDX-License-Identifier: MIT
from __future__ import annotations

import time
from email.utils import formatdate, parsedate_to_datetime

from prefork.net.clock import http_date


def test_it_is_the_present_second_as_an_imf_fixdate() -> None:
    """RFC 9110 §5.6.7; compared with the standard library's, which is given the seconds around."""
    before = int(time.time())
    date = http_date()
    after = int(time.time())
    assert date in {formatdate(second, usegmt=True) for second in range(before, after + 1)}
    assert len(date) == 29


def test_it_moves_on() -> None:
    first = http_date()
    until = time.monotonic() + 5.0
    while (second := http_date()) == first and time.monotonic() < until:
        time.sleep(0.01)
    assert parsedate_to_datetime(second) > parsedate_to_datetime(first)
