# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestGthread(WorkerConformance):
    worker = "gthread"
    options = ("--threads", "4")
