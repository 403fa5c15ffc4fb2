# SPDX-License-Identifier: MIT
"""The application under test, for worker classes that serve ASGI 3: `prefork.trial.asgi:app`.

It needs no framework.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from prefork.trial import answers

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer a request as `answers` says."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "http":
        await _answer(scope["path"], receive, send)
    else:
        raise ValueError(scope["type"])


async def _live(receive: Receive, send: Send) -> None:
    """Say yes to start-up and shutdown."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def _answer(path: str, receive: Receive, send: Send) -> None:
    does, argument = answers.part(path)
    if does == "stream":
        await _start(send, 200)
        await _send(send, b"first\n", more=True)
        await _hold(argument)
        await _send(send, b"last\n")
    elif does == "empty":
        await _start(send, 204)
        await _send(send, b"")
    else:
        body = await _body(receive, path, does, argument)
        await _start(send, 200, (b"content-length", b"%d" % len(body)))
        await _send(send, body)


async def _body(receive: Receive, path: str, does: str, argument: str) -> bytes:
    if does == "raise":
        raise answers.RaisedOnPurpose(path)
    if does == "exit":
        sys.exit(3)
    if does == "echo":
        return await _whole(receive)
    if does == "big":
        return b"x" * int(argument)
    if does == "block":
        answers.block(argument)
    if does == "hold":
        await _hold(argument)
    return answers.line(path)


async def _whole(receive: Receive) -> bytes:
    """Return the body of a request."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


async def _hold(name: str) -> None:
    answers.begin(name)
    while not answers.is_released(name):  # noqa: ASYNC110 (a file is made by another process)
        await asyncio.sleep(answers.PAUSE)


async def _start(send: Send, status: int, *fields: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"text/plain"), *fields] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send(send: Send, body: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
