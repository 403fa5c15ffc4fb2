# SPDX-License-Identifier: MIT
"""Decides what every test run of the workspace has in common: skips, forks, and how hypothesis searches.

A test that CI skips is a test that nobody runs, so with --no-skips a skip fails the run unless its
reason is listed in `allowed_skips` of pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    import threading

# Deadlines of examples are off: they measure the machine's other load, and what hangs is caught by
# faulthandler_timeout. CI derives its examples from the test alone, so a failure can be repeated.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


_held: list[threading.Lock] = []


def _hold_coverage() -> None:
    """Hold the locks of coverage over a fork, so that no other thread does.

    Its thread would not be there in the child to give them back. Then the child could not save what it has
    measured, and would stay for ever, holding the pipe that whoever runs the tests reads to its end.
    """
    coverage = sys.modules.get("coverage")
    instances = coverage.Coverage._instances if coverage is not None else ()  # noqa: SLF001 (it has no hook)
    for measuring in instances:
        lock = getattr(measuring._collector, "data_lock", None)  # noqa: SLF001 (the same)
        if lock is not None:
            lock.acquire()
            _held.append(lock)


def _release_coverage() -> None:
    while _held:
        _held.pop().release()


os.register_at_fork(
    before=_hold_coverage, after_in_parent=_release_coverage, after_in_child=_release_coverage
)


class SkipGuard:
    """Fails a run in which something was skipped for a reason that nobody allowed.

    Args:
        allowed: the starts of allowed reasons.
    """

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = tuple(allowed)
        self.refused: list[str] = []

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(self.allowed):
            self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at one phase of a test."""
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a module that skipped itself while it was collected."""
        self._look(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Turn a run that passed into one that failed."""
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which skips were refused."""
        if self.refused:
            terminalreporter.section("skips that pyproject.toml does not allow", red=True)
            for line in self.refused:
                terminalreporter.line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --no-skips and the list of reasons that are allowed."""
    parser.addoption("--no-skips", action="store_true", help="fail when a skip's reason is not allowed")
    parser.addini("allowed_skips", "starts of reasons for which a test may be skipped", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Guard the run when --no-skips is given."""
    if config.getoption("--no-skips"):
        config.pluginmanager.register(SkipGuard(config.getini("allowed_skips")), "skip-guard")
