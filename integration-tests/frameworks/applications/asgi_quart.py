# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped,misc,no-any-return"
"""Quart: a form, a stream, a task behind the response, WebSockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from quart import Quart, request, websocket

FILES = Path(os.environ["FILES"])
app = Quart(__name__)


@app.before_serving
async def start() -> None:
    """Have something for all requests."""
    app.config["SINCE"] = "start"


@app.get("/")
async def index() -> dict[str, str]:
    """Say what there is."""
    return {"since": app.config["SINCE"], "scheme": request.scheme}


@app.post("/form")
async def form() -> str:
    """Return a field."""
    return (await request.form)["name"]


@app.get("/stream")
async def stream() -> AsyncIterator[bytes]:
    """Stream."""

    async def body() -> AsyncIterator[bytes]:
        for number in range(10):
            yield b"%d" % number

    return body()


@app.post("/later")
async def later() -> str:
    """Do something behind the response."""

    async def work() -> None:
        (FILES / "worked").touch()

    app.add_background_task(work)
    return "soon"


@app.websocket("/talk")
async def talk() -> None:
    """Answer."""
    while True:
        await websocket.send("heard " + str(await websocket.receive()))
