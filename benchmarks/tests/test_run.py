# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import replace

from cases import CASES
from run import LISTED, Plan
from servers import SERVERS

CASE = replace(CASES[0], servers=("prefork", "granian", "bjoern"), enough=None)
ABLE = [server for server in SERVERS if server.name in CASE.servers]


def test_each_round_runs_every_server_once_in_an_order_that_turns_by_one() -> None:
    ran = [(number, server.name) for number, server in Plan([CASE], SERVERS, 2, 1.0).runs(CASE)]

    names = [server.name for server in ABLE]
    assert ran == [(0, name) for name in names] + [(1, name) for name in [*names[1:], names[0]]]


def test_a_case_that_needs_fewer_rounds_takes_less_time() -> None:
    plan = Plan([CASE], ABLE, 5, 1.0)
    counting = replace(CASE, enough=3)

    assert len(list(plan.runs(counting))) == 3 * len(ABLE)
    assert plan.estimate(counting) < plan.estimate(CASE)
    assert plan.rounds_of(replace(CASE, enough=9)) == 5


def test_a_full_run_takes_no_longer_than_the_readme_says() -> None:
    plan = Plan(CASES, SERVERS, 5, LISTED)

    assert sum(map(plan.estimate, CASES)) <= 53 * 60
