# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from snapshots import seat, snapshot

from prefork.control import metrics
from prefork.control.metrics import Metric, Sample
from prefork.control.report import Listening, Totals

LINE: Final = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<label>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\\n]|\\[\\"n])*)"\})? '
    r"(?P<number>-?[0-9.e+-]+)"
)
"""A sample with one label or none, by the grammar of the format."""


def samples(text: str) -> dict[str, float]:
    """Return the values by name and labels, of text that is whole and right."""
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            matched = LINE.fullmatch(line)
            assert matched, line
            found[line.rpartition(" ")[0]] = float(matched["number"])
    return found


def test_every_metric_has_its_help_and_type_before_its_values() -> None:
    lines = metrics.text(snapshot(seat(0))).splitlines()
    known: set[str] = set()
    for before, line in pairwise(lines):
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in {"counter", "gauge", "summary"}
            assert before.startswith(f"# HELP {name} ")
            assert name not in known
            known.add(name)
        elif not line.startswith("#"):
            name = re.split(r"[ {]", line)[0]
            assert name in known or name.removesuffix("_sum").removesuffix("_count") in known
    assert len(known) == 18


def test_the_facts_are_in_it() -> None:
    found = samples(
        metrics.text(snapshot(seat(0, busy=3), seat(1, state="stopping"), totals=Totals(100, 2, 1, 0.5, 10)))
    )
    assert found['prefork_info{version="1.2.3"}'] == 1
    assert found["prefork_start_time_seconds"] == 1_700_000_000
    assert found["prefork_requests_total"] == 100
    assert found["prefork_request_errors_total"] == 2
    assert found["prefork_requests_shed_total"] == 1
    assert found["prefork_request_queue_seconds_sum"] == 0.5
    assert found["prefork_request_queue_seconds_count"] == 10
    assert found["prefork_workers_target"] == 2
    assert found['prefork_workers{state="ready"}'] == 1
    assert found['prefork_workers{state="stopping"}'] == 1
    assert found['prefork_workers{state="killed"}'] == 0
    assert found['prefork_worker_kills_total{reason="timeout"}'] == 2
    assert found['prefork_worker_kills_total{reason="memory"}'] == 0
    assert found["prefork_threads"] == 8
    assert found["prefork_threads_busy"] == 3
    assert found["prefork_connections"] == 6
    assert found["prefork_connections_idle"] == 4
    assert found['prefork_listener_queue{listener="http://127.0.0.1:8000"}'] == 3


def test_the_memory_of_workers_that_were_weighed_is_in_it() -> None:
    text = metrics.text(snapshot(seat(0), seat(7, memory=50_000_000)))
    found = {name: value for name, value in samples(text).items() if "memory_bytes" in name}
    assert found == {'prefork_worker_memory_bytes{slot="7"}': 50_000_000}


def test_a_queue_that_is_not_known_has_no_value() -> None:
    unknown = (Listening("unix:/run/a", None, closing=False),)
    assert "prefork_listener_queue{" not in metrics.text(snapshot(listeners=unknown))


def test_large_counters_are_written_to_the_last_digit() -> None:
    assert "prefork_requests_total 12345678901234567\n" in metrics.text(
        snapshot(totals=Totals(12345678901234567))
    )


@given(st.text())
def test_any_text_can_be_a_label(value: str) -> None:
    text = metrics.render([Metric("m", "gauge", "A metric.", (Sample(1, (("label", value),)),))])
    line = text.removeprefix("# HELP m A metric.\n# TYPE m gauge\n")
    matched = LINE.fullmatch(line.removesuffix("\n"))
    assert matched
    unescaped = re.sub(r'\\([\\"n])', lambda found: "\n" if found[1] == "n" else found[1], matched["value"])
    assert unescaped == value


def test_a_line_end_in_a_help_is_escaped() -> None:
    assert metrics.render([Metric("m", "gauge", "a\\b\nc", ())]) == "# HELP m a\\\\b\\nc\n# TYPE m gauge\n"
