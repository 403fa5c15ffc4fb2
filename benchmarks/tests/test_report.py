# SPDX-License-Identifier: MIT

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import report
from report import Results, Sample, Spread


def results(*samples: Sample) -> Results:
    return Results(
        "2026-01-02T03:04:05+00:00",
        {"cpu": "a CPU", "cores": "2", "kernel": "Linux", "python": "CPython", "load": "0"},
        {"gunicorn": "27"},
        {"rounds": 3, "seconds": 2.0},
        list(samples),
    )


def run(server: str, number: int, error: str = "", case: str = "hello-9-close", **figures: float) -> Sample:
    return Sample("hello", case, number, server, figures, error)


def test_a_ratio_is_taken_inside_each_round_before_its_median() -> None:
    """The medians' own ratio would be 2 / 1 here."""
    found = results(
        run("peer", 0, cpu_us=2.0),
        run("prefork", 0, cpu_us=0.5),
        run("peer", 1, cpu_us=1.0),
        run("prefork", 1, cpu_us=1.0),
        run("peer", 2, cpu_us=30.0),
        run("prefork", 2, cpu_us=10.0),
    )

    assert report.ratio(found, "hello-9-close", "cpu_us", "peer", "prefork") == Spread(3.0, 1.0, 4.0)


def test_a_round_that_one_of_both_has_failed_has_no_ratio() -> None:
    found = results(
        run("peer", 0, cpu_us=2.0),
        run("prefork", 0, error="it fell over", cpu_us=1.0),
        run("peer", 1, cpu_us=6.0),
        run("prefork", 1, cpu_us=2.0),
    )

    assert report.ratio(found, "hello-9-close", "cpu_us", "peer", "prefork") == Spread(3.0, 3.0, 3.0)


def test_nothing_is_said_of_what_was_not_measured() -> None:
    found = results(run("peer", 0, rate=5.0))

    assert report.ratio(found, "hello-9-close", "rate", "peer", "prefork") is None
    assert report.spread(found, "hello-9-close", "peer", "cpu_us") is None


def test_a_spread_shows_its_median_and_what_lies_around_it() -> None:
    assert Spread.of([3_000.0, 1_000.0, 2_000.0]).show(report.METRICS["p99_us"]) == "2.00 (1.00–3.00)"
    assert Spread.of([1_000.0]).show(report.METRICS["p99_us"]) == "1.00"


def test_a_table_has_a_row_for_each_server_the_reference_first() -> None:
    found = results(run("peer", 0, cpu_us=4.0), run("prefork", 0, cpu_us=2.0))

    lines = report.table(found, "hello").splitlines()

    assert lines[0] == "| case | server | CPU µs/request | CPU µs/request, × prefork | rounds |"
    assert lines[2:] == [
        "| hello-9-close | prefork | 2.0 | 1.00 | 1 |",
        "| hello-9-close | peer | 4.0 | 2.00 | 1 |",
    ]


def test_the_overview_leaves_a_field_empty_where_a_peer_has_no_run() -> None:
    found = results(
        run("prefork", 0, cpu_us=2.0),
        run("peer", 0, cpu_us=4.0),
        run("other", 0, case="hello-2-close", cpu_us=1.0),
    )

    assert report.overview(found).splitlines()[2:] == ["| hello-9-close | 2.00 |  |"]


def test_runs_that_do_not_count_are_named_once_with_their_rounds() -> None:
    found = results(run("peer", 0, "no\nanswer"), run("peer", 2, "no answer"))

    assert report.failures(found) == "* hello-9-close, peer, round 1, 3: no answer"


def test_the_report_shows_only_groups_that_ran() -> None:
    text = report.markdown(results(run("prefork", 0, cpu_us=2.0)), "the targets", {"hello": "hello.png"})

    assert "## Thirteen bytes" in text
    assert "![](hello.png)" in text
    assert "## Memory" not in text


def test_every_metric_of_a_group_can_be_shown() -> None:
    used = {name for group in report.GROUPS.values() for name in (*group.metrics, *group.plotted)}

    assert used <= report.METRICS.keys()


def test_written_results_are_read_back(tmp_path: Path) -> None:
    found = results(run("prefork", 0, cpu_us=2.0), run("peer", 0, "it fell over"))

    report.write(found, tmp_path / "some.json")

    assert report.read(tmp_path / "some.json") == found
    assert [path.name for path in tmp_path.iterdir()] == ["some.json"]


def test_results_of_the_first_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(dataclasses.asdict(results())))

    with pytest.raises(report.FormatError):
        report.read(tmp_path / "old.json")
