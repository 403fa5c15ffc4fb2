# SPDX-License-Identifier: MIT
"""The event loop of a worker, without one."""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest
import uvloop
from serving import Forked

from prefork_aio import loops

LOG = logging.getLogger("test")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = loops.make(request.param, LOG)
    yield made
    if not made.is_closed():
        loops.close(made)


def test_it_is_the_one_that_was_asked_for() -> None:
    made = {name: loops.make(name, LOG) for name in ("asyncio", "uvloop", "auto")}
    kinds = {name: isinstance(each, uvloop.Loop) for name, each in made.items()}
    for each in made.values():
        loops.close(each)
    assert kinds == {"asyncio": False, "uvloop": True, "auto": True}


def test_without_uvloop_it_is_asyncio_s() -> None:
    made = loops.make("auto", LOG, installed=lambda _name: None)
    loops.close(made)
    assert not isinstance(made, uvloop.Loop)


def test_no_variable_makes_it_a_loop_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    made = loops.make("asyncio", LOG)
    debugs = made.get_debug()
    loops.close(made)
    assert not debugs


def test_a_task_that_exits_does_not_end_what_runs(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> NoReturn:
        sys.exit("enough")

    async def main() -> str:
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        await asyncio.sleep(0)
        return "done"

    assert loops.run(loop, main(), LOG) == "done"
    assert "a task of the application called sys.exit('enough')" in caplog.text


def test_what_runs_may_exit_itself(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> NoReturn:
        sys.exit(5)

    with pytest.raises(SystemExit) as caught:
        loops.run(loop, main(), LOG)
    assert caught.value.code == 5


def test_what_a_callback_raises_is_logged(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    loops.run(loop, main(), LOG)
    assert "ZeroDivisionError" in caplog.text


def test_what_is_left_at_the_end_may_clean_up(loop: asyncio.AbstractEventLoop) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    kept: list[asyncio.Task[None]] = []

    async def begin() -> None:
        kept.append(asyncio.create_task(wait()))
        await asyncio.sleep(0)

    loops.run(loop, begin(), LOG)
    loops.close(loop)
    assert ended == ["cleaned up"]
    assert loop.is_closed()


def test_what_refuses_to_end_is_left_behind(loop: asyncio.AbstractEventLoop) -> None:
    kept: list[asyncio.Task[None]] = []

    async def refuse() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def begin() -> None:
        kept.append(asyncio.create_task(refuse()))
        await asyncio.sleep(0)

    loops.run(loop, begin(), LOG)
    loops.close(loop, within=0.05)
    assert loop.is_closed()
    assert not kept[0].done()


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_without_descriptors_a_worker_ends_all_the_same(name: str) -> None:
    """For uvloop needs two each time that it begins to run."""

    async def serve() -> None:
        await asyncio.sleep(0)

    def life() -> int:
        loop = loops.make(name, LOG)
        loops.run(loop, serve(), LOG)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        loops.close(loop)
        return 0

    with Forked(life) as worker:
        assert worker.status() == 0
