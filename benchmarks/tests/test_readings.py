# SPDX-License-Identifier: MIT

from __future__ import annotations

import pytest
from readings import Function, read_counts, read_perf, read_stacks, read_strace

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.87    0.205518         231       887       517 futex
 14.96    0.038031           5      7122           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.254134          16      8009       517 total
"""
PERF = """\
# Samples: 3K of event 'cpu-clock'
    40.20%  [.] _PyEval_EvalFrameDefault
    10.13%  [k] _raw_spin_unlock_irqrestore
"""


def test_system_calls_are_read_with_their_errors_and_without_the_total() -> None:
    assert read_strace(STRACE) == {"futex": (887, 517), "sendto": (7122, 0)}


def test_symbols_say_whether_they_are_the_kernels() -> None:
    assert read_perf(PERF) == {
        (".", "_PyEval_EvalFrameDefault"): 40.20,
        ("k", "_raw_spin_unlock_irqrestore"): 10.13,
    }


def test_a_sample_is_that_of_the_function_on_top() -> None:
    stacks = "run (/a/b/loop.py:1);send (/a/net/stream.py:9) 3\nrun (/a/b/loop.py:1) 1\n"

    assert read_stacks(stacks) == {
        Function("send", "net/stream.py"): 0.75,
        Function("run", "b/loop.py"): 0.25,
    }


def test_nothing_sampled_has_no_shares() -> None:
    assert read_stacks("") == {}


def test_counts_are_of_one_request_and_not_of_what_counts() -> None:
    functions = [
        ["run", "/a/b/loop.py", 4, 40],
        ["app", "/benchmarks/applications/counted.py", 4, 400],
    ]

    counts = read_counts({"requests": 4, "allocations": 12, "functions": functions})

    assert counts.calls == {Function("run", "b/loop.py"): 1.0}
    assert counts.instructions == {Function("run", "b/loop.py"): 10.0}
    assert counts.allocations == pytest.approx(3.0)
