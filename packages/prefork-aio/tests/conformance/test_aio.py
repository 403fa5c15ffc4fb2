# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestAio(WorkerConformance):
    worker = "aio"
    app = "prefork.trial.asgi:app"
