# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestPatient(WorkerConformance):
    worker = "patient"
