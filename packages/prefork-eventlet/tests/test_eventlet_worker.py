# SPDX-License-Identifier: MIT
"""The class that `-k eventlet` names; integration-tests/workers has what it does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prefork.settings import Settings
from prefork.worker import API_VERSION
from prefork.workers import registry
from prefork_eventlet.worker import EventletWorker


def test_it_is_found_by_its_name() -> None:
    found = registry.find("eventlet")
    assert found is EventletWorker
    assert found.api == API_VERSION


def test_whoever_starts_a_server_is_told_of_its_end() -> None:
    assert "April 2027" in EventletWorker.notice


def test_as_many_requests_are_in_hand_as_connections_may_be_open() -> None:
    assert EventletWorker.at_once(Settings(worker_connections=77)) == 77


def test_it_is_refused_without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EventletWorker.lacks(Settings()) is None
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert "without the GIL, which eventlet needs" in str(EventletWorker.lacks(Settings()))


def test_the_arbiter_imports_nothing_of_eventlet() -> None:
    """It would patch, or start, what only a worker may."""
    program = (
        "import sys, prefork_eventlet.worker; print([name for name in sys.modules if 'greenlet' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
