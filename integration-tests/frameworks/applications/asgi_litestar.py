# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped,misc,no-any-return"
"""Litestar: handlers, a body, state of the lifespan, WebSockets."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, get, post, websocket_listener
from litestar.datastructures import State
from litestar.response import Stream


@get("/")
async def index(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Say what there is."""
    return {"since": state.since, "path": request.url.path}


@post("/echo")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    """Return what came."""
    return data


@get("/stream")
async def stream() -> Stream:
    """Stream."""
    return Stream(str(number) for number in range(10))


@websocket_listener("/talk")
async def talk(data: str) -> str:
    """Answer."""
    return data[::-1]


async def start(app: Litestar) -> None:
    """Have something for all requests."""
    app.state.since = "start"


app = Litestar([index, echo, stream, talk], on_startup=[start])
