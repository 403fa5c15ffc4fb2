# SPDX-License-Identifier: MIT
"""The whole suite: what every worker class must do, whoever has written it."""

from __future__ import annotations

from prefork.testing.clients import Clients
from prefork.testing.exchange import Exchange
from prefork.testing.lifetime import Lifetime
from prefork.testing.sight import Sight


class WorkerConformance(Exchange, Clients, Lifetime, Sight):
    """Tests of a worker class. A subclass whose name begins with `Test` says which one in `worker`.

    They start real servers on free ports of the loopback interface, and look at them through /proc of Linux.
    """
