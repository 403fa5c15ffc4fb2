# SPDX-License-Identifier: MIT

from __future__ import annotations

import report
import targets
from cases import CASES, Bound, Sense
from report import Results, Sample
from servers import SERVERS
from targets import Target, Verdict


def results(*samples: Sample) -> Results:
    return Results("", {}, {}, {}, list(samples))


def run(server: str, **figures: float) -> Sample:
    return Sample("hello", "a-case", 0, server, figures)


def verdict(bound: float, sense: Sense = Sense.AT_MOST, against: str = "", **figures: float) -> Verdict:
    found = results(run("prefork", **figures), run("peer", cpu_us=10.0))
    return Target("a-case", Bound("cpu_us", sense, bound, against)).verdict(found)


def test_a_figure_at_its_bound_meets_it() -> None:
    assert verdict(5.0, cpu_us=5.0) is Verdict.MET
    assert verdict(4.9, cpu_us=5.0) is Verdict.MISSED
    assert verdict(5.1, Sense.AT_LEAST, cpu_us=5.0) is Verdict.MISSED


def test_against_a_peer_the_ratio_counts() -> None:
    assert verdict(0.5, against="peer", cpu_us=5.0) is Verdict.MET
    assert verdict(0.4, against="peer", cpu_us=5.0) is Verdict.MISSED


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    assert verdict(5.0, rate=1.0) is Verdict.UNKNOWN
    assert verdict(5.0, against="nobody", cpu_us=1.0) is Verdict.UNKNOWN


def test_prefork_run_in_another_way_has_targets_of_its_own() -> None:
    found = results(run("plain", cpu_us=10.0), run("preloading", cpu_us=4.0))
    target = Target("a-case", Bound("cpu_us", Sense.AT_MOST, 0.3, "plain", of="preloading"))

    assert target.verdict(found) is Verdict.MISSED
    assert target.title == "CPU µs/request of preloading, × plain"


def test_the_table_says_bound_value_and_verdict() -> None:
    figures = {"goodput": 0.97, "p99_of_limit": 1.2}
    found = results(Sample("overload", "overload-compute-close", 0, "prefork", figures))

    assert targets.table(found).splitlines()[2:] == [
        "| overload-compute-close: goodput / capacity | ≥ 0.950 | 0.970 | **met** | 1 |",
        "| overload-compute-close: p99 / (limit + service) | ≤ 1.00 | 1.20 | **not met** | 1 |",
    ]


def test_each_target_is_of_a_case_that_runs_both_servers_and_of_a_metric_that_can_be_shown() -> None:
    cases = {case.name: case for case in CASES}
    for target in targets.TARGETS:
        pair = {target.bound.of, target.bound.against or target.bound.of}
        assert pair <= set(cases[target.case].servers)
        assert target.bound.metric in report.METRICS


def test_each_case_has_a_name_of_its_own_a_group_and_known_servers() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.group for case in CASES} == report.GROUPS.keys()
    assert {name for case in CASES for name in case.servers} <= {server.name for server in SERVERS}


def test_who_warms_up_is_told_each_page() -> None:
    case = next(case for case in CASES if case.name == "django-admin")
    server = next(server for server in SERVERS if server.warming)
    command = server.arguments(case.setup, 8000)

    assert [part for part in command if part.startswith("--warmup=")] == [
        f"--warmup={page}" for page in case.pages
    ]


def test_every_command_line_can_be_filled_in() -> None:
    for case in CASES:
        for server in SERVERS:
            command = server.arguments(case.setup, 8000)
            assert not any("{" in part for part in command)
            assert "8000" in "".join(command)
