# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.observe.clock import PerSecond, _clf, _error, _iso, clf_time, error_time, iso_time

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENT = datetime(2026, 11, 3, 6, 5, 7, 123999, tzinfo=UTC).timestamp()


@contextlib.contextmanager
def time_zone(name: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@pytest.mark.parametrize(
    ("zone", "clf", "iso", "error"),
    [
        ("UTC0", "03/Nov/2026:06:05:07 +0000", "2026-11-03T06:05:07", "2026-11-03 06:05:07 +0000"),
        ("XXX-05:30", "03/Nov/2026:11:35:07 +0530", "2026-11-03T11:35:07", "2026-11-03 11:35:07 +0530"),
        ("XXX+09:30", "02/Nov/2026:20:35:07 -0930", "2026-11-02T20:35:07", "2026-11-02 20:35:07 -0930"),
    ],
)
def test_a_second_is_written_in_local_time_with_its_offset(zone: str, clf: str, iso: str, error: str) -> None:
    with time_zone(zone):
        second = int(MOMENT)
        assert _clf(second) == f"[{clf}]"
        assert _iso(second) == (iso, clf[-5:-2] + ":" + clf[-2:])
        assert _error(second) == f"[{error}]"


@given(st.floats(min_value=0, max_value=4e9))
def test_an_iso_time_reads_back_to_the_millisecond(moment: float) -> None:
    read = datetime.fromisoformat(iso_time(moment))
    assert timedelta(0) <= datetime.fromtimestamp(moment, UTC) - read < timedelta(milliseconds=1.001)


def test_milliseconds_are_cut_not_rounded_so_that_no_line_is_from_the_future() -> None:
    assert ".123" in iso_time(MOMENT)


def test_a_clf_time_is_what_its_name_says() -> None:
    read = datetime.strptime(clf_time(MOMENT), "[%d/%b/%Y:%H:%M:%S %z]")
    assert read.timestamp() == int(MOMENT)


def test_an_error_time_reads_as_gunicorns() -> None:
    read = datetime.strptime(error_time(MOMENT), "[%Y-%m-%d %H:%M:%S %z]")
    assert read.timestamp() == int(MOMENT)


def test_a_second_is_rendered_once() -> None:
    rendered: list[int] = []

    def render(second: int) -> int:
        rendered.append(second)
        return second

    per_second = PerSecond(render)
    assert [per_second(second) for second in (5, 5, 6, 6, 5)] == [5, 5, 6, 6, 5]
    assert rendered == [0, 5, 6, 5]
