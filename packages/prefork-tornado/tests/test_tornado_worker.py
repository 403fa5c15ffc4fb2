# SPDX-License-Identifier: MIT
"""The class that `-k tornado` names; integration-tests/workers has what it does."""

from __future__ import annotations

import subprocess
import sys

from prefork.settings import Settings
from prefork.worker import API_VERSION
from prefork.workers import registry
from prefork_tornado.worker import Options, TornadoWorker


def test_it_is_found_by_its_name() -> None:
    found = registry.find("tornado")
    assert found is TornadoWorker
    assert found.api == API_VERSION


def test_as_many_requests_are_in_hand_as_connections_may_be_open() -> None:
    assert TornadoWorker.at_once(Settings(worker_connections=77)) == 77


def test_a_body_may_be_as_large_as_under_tornados_own_server() -> None:
    assert Options().tornado_max_body_size == 104_857_600


def test_the_arbiter_imports_nothing_of_tornado() -> None:
    """It would make an event loop there."""
    program = (
        "import sys, prefork_tornado.worker;"
        " print([name for name in sys.modules if name in ('tornado', 'asyncio')])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
