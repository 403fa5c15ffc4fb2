# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestTornado(WorkerConformance):
    worker = "tornado"
    app = "tornado_application:app"


class TestTornadoWithWSGI(WorkerConformance):
    worker = "tornado"
    options = ("--threads", "8")
    ends_blocked = False
