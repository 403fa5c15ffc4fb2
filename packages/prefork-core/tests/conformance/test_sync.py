# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestSync(WorkerConformance):
    worker = "sync"
    keeps_alive = False
    concurrent = False
