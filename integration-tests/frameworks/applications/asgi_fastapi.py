# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped,misc,no-any-return"
"""FastAPI: models, dependencies that end, streams, tasks behind the response, WebSockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Query, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

FILES = Path(os.environ["FILES"])
app = FastAPI()


class Item(BaseModel):
    """Something to sell."""

    name: str
    price: float


async def session() -> AsyncIterator[str]:
    """Open something, and close it behind the response."""
    yield "open"
    (FILES / "closed").touch()


@app.get("/")
async def index(
    state: Annotated[str, Depends(session)], q: Annotated[list[str], Query()]
) -> dict[str, object]:
    """Say what was asked for."""
    return {"session": state, "q": q}


@app.post("/items", status_code=201)
async def create(item: Item) -> Item:
    """Take one."""
    return Item(name=item.name.title(), price=item.price * 2)


@app.post("/files")
async def files(file: UploadFile) -> dict[str, object]:
    """Take a file."""
    return {"name": file.filename, "size": len(await file.read())}


@app.get("/blocking")
def blocking() -> str:
    """Run in a thread."""
    return "done"


@app.get("/numbers")
async def numbers() -> StreamingResponse:
    """Count."""

    async def count() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(count())


@app.post("/notify")
async def notify(tasks: BackgroundTasks) -> str:
    """Do something behind the response."""

    async def work() -> None:
        await asyncio.sleep(0.05)
        (FILES / "notified").touch()

    tasks.add_task(work)
    return "sent"


@app.get("/broken")
async def broken() -> None:
    """Fail."""
    raise LookupError("on purpose")


@app.websocket("/items/{number}")
async def talk(websocket: WebSocket, number: int, token: str) -> None:
    """Answer, with what was in the address."""
    await websocket.accept(subprotocol="items")
    async for text in websocket.iter_text():
        await websocket.send_json({"number": number, "token": token, "text": text})
