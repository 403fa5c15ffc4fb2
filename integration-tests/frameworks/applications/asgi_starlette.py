# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped,misc,no-any-return"
"""Starlette: sessions, files, streams, WebSockets, tasks behind the response, a lifespan with state."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

FILES = Path(os.environ["FILES"])


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Have something for all requests."""
    yield {"pool": ["a connection"]}
    (FILES / "ended").touch()


async def pool(request: Request) -> JSONResponse:
    """Say what the lifespan has made, and whose request it is."""
    host = request.client.host if request.client else None
    return JSONResponse({"pool": request.state.pool, "client": host, "url": str(request.url)})


async def endless(_request: Request) -> StreamingResponse:
    """Stream until the client goes."""

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0.01)
        finally:
            (FILES / "stream-ended").touch()

    return StreamingResponse(body())


async def upload(request: Request) -> PlainTextResponse:
    """Count what comes, piece by piece."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return PlainTextResponse(str(size))


async def form(request: Request) -> PlainTextResponse:
    """Return a file of a form."""
    async with request.form() as found:
        file = found["file"]
        assert not isinstance(file, str)
        return PlainTextResponse(await file.read())


async def later(_request: Request) -> PlainTextResponse:
    """Do something behind the response."""
    return PlainTextResponse("soon", background=BackgroundTask((FILES / "done").touch))


async def download(_request: Request) -> FileResponse:
    """Send a file."""
    return FileResponse(FILES / "large.bin")


async def talk(websocket: WebSocket) -> None:
    """Shout back until the client leaves."""
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text((await websocket.receive_text()).upper())


async def denied(websocket: WebSocket) -> None:
    """Answer with a response."""
    await websocket.send_denial_response(PlainTextResponse("members only", status_code=401))


app = Starlette(
    routes=[
        Route("/", pool),
        Route("/endless", endless),
        Route("/upload", upload, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/later", later),
        Route("/download", download),
        Mount("/static", StaticFiles(directory=FILES)),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/denied", denied),
    ],
    lifespan=lifespan,
)
