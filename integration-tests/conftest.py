# SPDX-License-Identifier: MIT
"""Decides under which worker classes the integration tests run that do not say so themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.workers import WorkerClass


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add how long the tests last that find the more the longer they last."""
    parser.addoption("--minutes", type=float, help="of each race of test_races.py, and of each chaos")
    parser.addoption(
        "--recycled", type=int, default=1000, help="requests at least while workers are replaced"
    )
    parser.addoption("--stops", type=int, default=3, help="of a server under load, for each kind of listener")
    parser.addoption(
        "--reloads", type=int, default=2, help="of a server under load, of which some are broken"
    )
    parser.addoption("--seed", type=int, help="of what happens in test_chaos.py, to repeat it")
    parser.addoption(
        "--only", action="append", default=[], help="one kind of what happens there; again for one more"
    )
    parser.addoption("--requests", type=int, default=20_000, help="of test_soak.py")
    parser.addoption("--aborts", type=int, default=2000, help="connections that test_soak.py breaks off")


@pytest.fixture(scope="module", params=workers.BUILT_IN, ids=lambda found: found.name)
def worker_class(request: pytest.FixtureRequest) -> Iterator[WorkerClass]:
    """Run the servers of a test under each worker class; see `support.workers`."""
    with workers.present(request.param) as found:
        yield found
