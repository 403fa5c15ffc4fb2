# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestEventlet(WorkerConformance):
    worker = "eventlet"
