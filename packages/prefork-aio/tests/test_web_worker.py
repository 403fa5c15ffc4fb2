# SPDX-License-Identifier: MIT
"""The class that `-k aiohttp` names; integration-tests/workers has what it does."""

from __future__ import annotations

import subprocess
import sys

from prefork.settings import Settings
from prefork.worker import API_VERSION, Interface
from prefork.workers import registry
from prefork_aio.web.worker import AiohttpWorker


def test_it_is_found_by_its_name() -> None:
    found = registry.find("aiohttp")
    assert found is AiohttpWorker
    assert (found.api, found.interface) == (API_VERSION, Interface.OTHER)


def test_as_many_requests_are_in_hand_as_connections_may_be_open() -> None:
    assert AiohttpWorker.at_once(Settings(worker_connections=77)) == 77


def test_what_it_cannot_honour_are_settings_and_hooks() -> None:
    assert set(AiohttpWorker.ignored) <= {*Settings.__dataclass_fields__, "pre_request", "post_request"}


def test_it_needs_aiohttp() -> None:
    program = """
import sys
from prefork.settings import Settings
from prefork_aio.web.worker import AiohttpWorker
sys.path = []
print(AiohttpWorker.lacks(Settings()))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "aiohttp is not installed (pip install 'prefork-aio[aiohttp]')"


def test_the_arbiter_imports_nothing_of_asyncio_or_aiohttp() -> None:
    program = "import sys, prefork_aio.web.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"aiohttp", "asyncio", "uvloop", "prefork_aio.loops"} & set(done.stdout.split())
