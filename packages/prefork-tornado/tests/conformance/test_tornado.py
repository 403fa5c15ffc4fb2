# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestTornado(WorkerConformance):
    worker = "tornado"
    app = "tornado_application:app"


class TestTornadoWithWSGI(WorkerConformance):
    worker = "tornado"
    options = ("--threads", "8")

    # It blocks one thread, and not the loop, which is what `timeout` is about.
    test_a_call_that_blocks_its_worker_is_explained_and_ended = None  # type: ignore[assignment]
