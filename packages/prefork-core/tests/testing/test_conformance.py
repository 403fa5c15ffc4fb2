# SPDX-License-Identifier: MIT
"""The suite finds what is wrong; tests/conformance of each package shows that it passes for what is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from prefork.testing import WorkerConformance

MODEST: Final = """\
from prefork.testing import WorkerConformance
class TestModest(WorkerConformance):
    worker = "modest:Modest"
"""

NAIVE: Final = '''\
import select
from prefork.worker import Worker
class Modest(Worker):
    """Answers all alike, and reads nothing to its end."""
    api = 1
    def run(self, ctx):
        ctx.ready()
        while not ctx.stopping:
            select.select([*ctx.listeners, ctx.stop_fd], [], [])
            for listener in ctx.listeners:
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    continue
                with sock:
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
'''


def pytest_of(folder: Path, suite: str, chosen: str) -> list[str]:
    """Run tests of the suite in a folder; return the last words of each line of a result."""
    (folder / "test_modest.py").write_text(suite)
    (folder / "modest.py").write_text(NAIVE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q", "-k", chosen, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    results = [line.split() for line in done.stdout.splitlines() if line.startswith(("PASSED", "FAILED"))]
    assert results, done.stdout + done.stderr
    return sorted(f"{result[0]} {result[1].rpartition('::')[2]}" for result in results)


def test_a_worker_class_that_does_not_conform_fails(tmp_path: Path) -> None:
    chosen = "whole_and or length_reaches or 204 or two or ready"
    assert pytest_of(tmp_path, MODEST, chosen) == [
        "FAILED test_a_204_has_no_body",
        "FAILED test_a_body_with_a_length_reaches_the_application",
        "FAILED test_an_answer_is_whole_and_of_this_application",
        "FAILED test_what_is_malformed_is_refused_and_closed[two",
        "PASSED test_it_says_that_it_is_ready",
    ]


def names_in(suite: type[WorkerConformance]) -> set[str]:
    return {name for name in dir(suite) if name.startswith("test_") and callable(getattr(suite, name))}


def test_what_a_worker_class_is_not_made_for_is_no_test_of_it() -> None:
    class One(WorkerConformance):
        keeps_alive = False

    class Two(WorkerConformance):
        concurrent = False

    class Three(WorkerConformance):
        ends_blocked = False

    everything = names_in(WorkerConformance)
    assert everything - names_in(One) == {
        "test_a_body_that_nobody_reads_is_no_request",
        "test_a_connection_stays_for_the_next_request",
        "test_an_idle_connection_is_closed",
        "test_pipelined_requests_are_answered_in_order",
    }
    assert everything - names_in(Two) == {"test_requests_wait_beside_each_other"}
    assert everything - names_in(Three) == {"test_a_call_that_blocks_its_worker_is_explained_and_ended"}


def test_each_test_says_what_it_holds() -> None:
    """Whose worker class fails reads it."""
    assert not [name for name in names_in(WorkerConformance) if not getattr(WorkerConformance, name).__doc__]
