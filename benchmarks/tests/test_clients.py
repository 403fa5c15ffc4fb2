# SPDX-License-Identifier: MIT

from __future__ import annotations

from math import isnan

from clients import Seen, Spec, percentile


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    assert isnan(percentile([], 0.5))


def test_an_answer_with_another_token_is_wrong() -> None:
    seen = Seen()
    seen.count(200, b"mine", "mine", 0.0)
    seen.count(200, b"yours", "mine", 0.0)

    assert seen.wrong == 1
    assert seen.summary()["answered"] == 2


def test_a_shed_request_is_neither_answered_nor_lost_and_has_no_latency() -> None:
    seen = Seen()
    seen.count(503, b"", "mine", 0.0)

    summary = seen.summary()

    assert (summary["shed"], summary["answered"], summary["lost"]) == (1, 0, 0)
    assert seen.latencies == []


def test_a_lost_request_is_as_late_as_it_was_given_up() -> None:
    seen = Seen()
    seen.lose(0.0)

    assert seen.summary()["lost"] == 1
    assert seen.latencies[0] > 0


def test_a_request_says_whether_its_connection_is_kept() -> None:
    spec = Spec("paced", "h", 1, path="/echo")

    assert spec.request("t").startswith(b"GET /echo?t HTTP/1.1\r\nHost: h:1\r\n")
    assert b"\r\nConnection: keep-alive\r\n\r\n" in spec.request("t")
    assert b"\r\nConnection: close\r\n\r\n" in Spec("paced", "h", 1, persistent=False).request("t")


def test_a_rate_is_of_what_came_after_settling_and_before_the_end() -> None:
    seen = Seen(finished=[100.0, 100.9, 101.0, 101.9, 102.0, 102.5])

    assert seen.rate(Spec("closed", "h", 1, seconds=2.0, settle=1.0), end=102.0) == 2.0
