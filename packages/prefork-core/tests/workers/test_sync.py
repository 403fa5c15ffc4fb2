# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from deadlines import eventually
from serving import Forked
from serving import Worker as Parts

from prefork.process.scoreboard import Stage
from prefork.supervisor.messages import Order
from prefork.worker import API_VERSION, Worker
from prefork.workers import registry
from prefork.workers.sync import SyncWorker

if TYPE_CHECKING:
    from pathlib import Path


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def test_it_is_a_worker_class_of_this_version() -> None:
    assert issubclass(SyncWorker, Worker)
    assert SyncWorker.api == API_VERSION
    assert registry.find("prefork.workers.sync:SyncWorker") is SyncWorker


def test_it_closes_after_each_response_and_ends_on_an_order(tmp_path: Path) -> None:
    parts = Parts(hello, tmp_path)
    context = parts.make_context(os.getpid())

    def live() -> int:
        SyncWorker().run(context)
        return 0

    with Forked(live) as process:
        eventually(lambda: parts.slot.stage is Stage.READY)
        with parts.client() as client:
            answer = client.get().answer()
            assert (answer.body, answer.fields["Connection"]) == (b"hello", "close")
        parts.order(Order.LEAVE)
        assert process.status() == 0
