# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from prefork.arbiter.facade import ServerFacade, WorkerFacade, run_hook
from prefork.hooks import Hooks
from prefork.process.scoreboard import Scoreboard
from prefork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("test.facade")


def a_worker() -> WorkerFacade:
    return WorkerFacade(age=3, cfg=Settings(timeout=7.0), log=LOG, ppid=1, slot=Scoreboard(1).slot(0))


def test_a_worker_shows_gunicorns_names() -> None:
    worker = a_worker()
    worker.slot.thread(0).begin(b"GET /", 1.0)
    worker.slot.thread(0).end()
    assert (worker.age, worker.pid, worker.ppid, worker.timeout, worker.nr) == (3, 0, 1, 7.0, 1)
    assert (worker.booted, worker.aborted, worker.alive) == (False, False, True)


def test_a_server_shows_gunicorns_names() -> None:
    server = ServerFacade(cfg=Settings(), log=LOG, pid=5, proc_name="shop")
    assert (server.pid, server.proc_name, server.num_workers) == (5, "shop", 0)
    assert (server.WORKERS, server.address) == ({}, [])


def test_a_hook_is_given_its_arguments() -> None:
    seen: list[object] = []
    run_hook(Hooks(when_ready=seen.append), "when_ready", LOG, "server")
    assert seen == ["server"]


def test_no_hook_is_no_error() -> None:
    run_hook(Hooks(), "when_ready", LOG, "server")


def raising(error: BaseException) -> Callable[[object], object]:
    def hook(_: object) -> object:
        raise error

    return hook


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3)])
def test_what_a_hook_raises_is_logged_with_its_name(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    run_hook(Hooks(when_ready=raising(error)), "when_ready", LOG, "server")
    assert "error in the hook when_ready" in caplog.text


def test_an_interrupt_in_a_hook_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_hook(Hooks(when_ready=raising(KeyboardInterrupt())), "when_ready", LOG, "server")
