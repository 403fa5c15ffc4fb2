# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import time
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from serving import Worker

from prefork.errors import ConfigError
from prefork.process.scoreboard import Stage
from prefork.supervisor.messages import Order, Report
from prefork.worker import StopReason
from prefork.workers import context as module

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.workers.context import WorkerContext


def context(worker: Worker) -> WorkerContext:
    return worker.make_context(os.getppid())


def app(_environ: dict[str, Any], _start: Any) -> list[bytes]:
    return []


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def reason(ctx: WorkerContext) -> StopReason | None:
    return ctx.stopping


def is_woken(ctx: WorkerContext) -> bool:
    return bool(select.select([ctx.stop_fd], [], [], 0)[0])


def test_it_shows_what_a_worker_class_may_use(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    assert ctx.app is app
    assert ctx.settings is worker.settings
    assert ctx.listeners == [worker.listeners[0].sock]
    assert ctx.log.name == "prefork.error"


@pytest.mark.parametrize("order", list(Order))
def test_an_order_wakes_it_and_is_the_reason(tmp_path: Path, order: Order) -> None:
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    assert reason(ctx) is None
    assert not is_woken(ctx)
    worker.order(order)
    assert is_woken(ctx)
    assert ctx.stopping is order.reason
    assert ctx.stopping is order.reason
    assert worker.slot.stage is Stage.STOPPING


def test_an_order_from_inside_wakes_it_too(tmp_path: Path) -> None:
    ctx = context(Worker(app, tmp_path))
    ctx.order(StopReason.QUICK)
    assert is_woken(ctx)
    assert ctx.stopping is StopReason.QUICK


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (Order.DRAIN, Order.LEAVE, StopReason.DRAIN),
        (Order.LEAVE, Order.DRAIN, StopReason.LEAVE),
        (Order.LEAVE, Order.QUICK, StopReason.QUICK),
        (Order.QUICK, Order.DRAIN, StopReason.QUICK),
    ],
)
def test_only_a_stricter_order_changes_the_reason(
    tmp_path: Path, first: Order, second: Order, reason: StopReason
) -> None:
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    worker.order(first)
    assert ctx.stopping is first.reason
    worker.order(second)
    assert ctx.stopping is reason


def test_the_end_of_the_arbiter_is_a_drain_and_told_once(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    worker.arbiter.close()
    assert ctx.stopping is StopReason.DRAIN
    assert ctx.stopping is StopReason.DRAIN
    assert worker.listeners[0].is_quiet
    assert worker.errors().count("is gone") == 1


def test_a_listener_that_is_closed_already_does_not_hinder_the_end(tmp_path: Path) -> None:
    """A sibling that noticed first has shut a Unix socket, and this worker has closed its copy of it."""
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    worker.listeners[0].sock.close()
    worker.arbiter.close()
    assert ctx.stopping is StopReason.DRAIN


def test_its_own_signal_does_not_keep_new_connections_out(tmp_path: Path) -> None:
    """Its siblings may go on; if not, the arbiter sees to it."""
    worker = Worker(app, tmp_path)
    ctx = context(worker)
    ctx.order(StopReason.DRAIN)
    assert ctx.stopping is StopReason.DRAIN
    assert not worker.listeners[0].is_quiet


def test_the_time_left_runs_from_the_first_order(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path, settings={"graceful_timeout": 30.0})
    ctx = context(worker)
    worker.order(Order.DRAIN)
    began = time.monotonic()
    assert reason(ctx) is StopReason.DRAIN
    first = ctx.time_left()
    assert 30.0 - (time.monotonic() - began) <= first <= 30.0
    worker.order(Order.QUICK)
    assert reason(ctx) is StopReason.QUICK
    assert ctx.time_left() <= first


def test_no_graceful_timeout_is_no_limit(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path, settings={"graceful_timeout": 0.0})
    ctx = context(worker)
    worker.order(Order.DRAIN)
    assert reason(ctx) is StopReason.DRAIN
    assert ctx.time_left() == inf


def test_the_arbiter_is_told_when_enough_requests_are_served(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path, settings={"refork": 3, "max_requests": 5})
    milestones = context(worker)._milestones()
    assert set(milestones) == {3, 5}
    milestones[3]()
    assert (worker.heard(Report.WARM), worker.heard(Report.RETIRE)) == (1, 0)
    milestones[5]()
    assert worker.heard(Report.RETIRE) == 1


def test_workers_with_jitter_have_limits_of_their_own(tmp_path: Path) -> None:
    settings = {"max_requests": 5, "max_requests_jitter": 10**9}
    limits = {
        count
        for name in ("one", "two")
        for count in context(Worker(app, _folder(tmp_path / name), settings=settings))._milestones()
    }
    assert len(limits) == 2
    assert all(5 <= count <= 5 + 10**9 for count in limits)


def test_without_such_settings_nobody_counts(tmp_path: Path) -> None:
    assert context(Worker(app, tmp_path))._milestones() == {}


def test_a_wrong_proxy_setting_is_a_configuration_error(tmp_path: Path) -> None:
    worker = Worker(app, tmp_path, settings={"forwarded_allow_ips": ("nonsense",)})
    with pytest.raises(ConfigError, match="nonsense"):
        context(worker).service(keepalive=0.0)


def test_jitter_spreads_the_limit_of_requests() -> None:
    limits = {module._with_jitter(100, 10) for _ in range(2000)}
    assert limits == set(range(100, 111))
    assert module._with_jitter(0, 10) == 0
    assert module._with_jitter(100, 0) == 100
