# SPDX-License-Identifier: MIT
"""The start and the end of an application (ASGI, "Lifespan Protocol")."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from prefork.errors import BootError
from prefork_aio.asgi.lifespan import Lifespan

LOG = logging.getLogger("test.lifespan")
Application: TypeAlias = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def polite(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Do what the specification shows."""
    scope["state"]["pool"] = "open"
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            await asyncio.sleep(0.01)
            scope["state"]["pool"] = "closed"
            return


async def insatiable(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Wait for more, always."""
    while True:
        await send({"type": (await receive())["type"] + ".complete"})


async def ignorant(scope: dict[str, Any], _receive: Any, _send: Any) -> None:
    raise ValueError(scope["type"])


async def broken(_scope: dict[str, Any], receive: Any, _send: Any) -> None:
    await receive()
    raise ValueError("in the start")


async def failing(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    raise ValueError("as Starlette does")


async def endless(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(60)


def live(app: Application, *, required: bool = False, within: float = 5.0) -> Lifespan:
    """Start an application and stop it."""

    async def main() -> Lifespan:
        lifespan = Lifespan(app, LOG, required=required)
        try:
            await lifespan.start()
        finally:
            await lifespan.stop(within)
        return lifespan

    return asyncio.run(main())


def test_it_starts_and_may_clean_up_behind_its_last_message(caplog: pytest.LogCaptureFixture) -> None:
    lifespan = live(polite, required=True)
    assert lifespan.is_on
    assert lifespan.state == {"pool": "closed"}
    assert not caplog.records


def test_one_that_waits_for_more_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    assert live(insatiable).is_on
    assert not caplog.records


def test_one_that_knows_none_is_served_without(caplog: pytest.LogCaptureFixture) -> None:
    assert not live(ignorant).is_on
    assert not caplog.records, "a line for who looks for it only"


def test_one_that_breaks_in_its_start_is_served_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert not live(broken).is_on
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ValueError: in the start" in caplog.text


@pytest.mark.parametrize("app", [ignorant, broken])
def test_one_that_is_required_is_an_error(app: Application) -> None:
    with pytest.raises(BootError, match="--aio-lifespan is on") as error:
        live(app, required=True)
    assert isinstance(error.value.__cause__, ValueError)


def test_one_that_says_why_it_failed_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BootError, match="could not start: no database"):
        live(failing)
    assert not caplog.records


def test_one_that_does_not_end_is_named_and_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    assert live(endless, within=0.05).is_on
    assert "did not end its lifespan in time" in caplog.text
