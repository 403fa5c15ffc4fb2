# SPDX-License-Identifier: MIT
"""An ASGI application that uses the interface itself, and writes down what it meets: see `note`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import os
import sys
from pathlib import Path
from typing import Any

SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="nothing")
PLACE = Path.cwd()
TASKS: set[asyncio.Task[Any]] = set()
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body"}
ACCEPT = {"type": "websocket.accept"}


def note(name: str, fact: object) -> None:
    """Write down a fact for the test."""
    fresh = PLACE / f"{name}.new"
    fresh.write_text(json.dumps(fact, default=repr))
    os.replace(fresh, PLACE / f"{name}.note")


async def released(name: str) -> None:
    """Wait until the test says so."""
    while not (PLACE / f"{name}.go").exists():  # noqa: ASYNC110 (another process makes the file)
        await asyncio.sleep(0.01)


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says, by the functions below."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    _, does, *rest = scope["path"].split("/")
    prefix = {"http": "", "websocket": "ws_"}[scope["type"]]
    found = globals().get(f"{prefix}{does or 'ready'}")
    await (found or shown)(scope, receive, send, *rest)


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Live as the environment says."""
    await receive()
    mode = os.environ.get("PROBE_LIFESPAN", "")
    scope["state"]["since"] = "start"
    if mode == "fails":
        await send({"type": "lifespan.startup.failed", "message": "the database is not there"})
        return
    if mode == "hangs":
        note("starting", True)
        await asyncio.sleep(60)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.sleep(0.2)
    await send({"type": "lifespan.shutdown.complete"})
    await asyncio.sleep(0)
    note("lifespan", "over")


# HTTP


async def shown(scope: Any, receive: Any, send: Any, *_rest: str) -> None:
    """Answer with the scope."""
    await answer(send, json.dumps(scope, default=str).encode())


ready = shown


async def shorter(scope: Any, receive: Any, send: Any) -> None:
    """Promise more than there is."""
    await answer(send, b"four", (b"content-length", b"5"))


async def longer(scope: Any, receive: Any, send: Any) -> None:
    """Send more than promised."""
    await answer(send, b"forty", (b"content-length", b"4"))


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Return without a response."""


async def begun(scope: Any, receive: Any, send: Any) -> None:
    """Return with half of one."""
    await send(START)
    await send({**END, "body": b"half", "more_body": True})


async def bodyless(scope: Any, receive: Any, send: Any) -> None:
    """Send a body without a start, then start twice."""
    for message in (END, START, START):
        try:
            await send(message)
        except RuntimeError as error:
            note("misordered", str(error))
    await send({**END, "body": b"fine"})


async def wrong(scope: Any, receive: Any, send: Any) -> None:
    """Send a body that is none, and hide that."""
    await send(START)
    with contextlib.suppress(TypeError):
        await send({**END, "body": "text"})


async def closing(scope: Any, receive: Any, send: Any) -> None:
    """Ask for the end of the connection."""
    await answer(send, b"last", (b"connection", b"close"), (b"transfer-encoding", b"chunked"))


async def nocontent(scope: Any, receive: Any, send: Any) -> None:
    """Answer 204."""
    await answer(send, b"", status=204)


async def after(scope: Any, receive: Any, send: Any) -> None:
    """Receive after the end."""
    first = await receive()
    await answer(send, b"done")
    note("after", [first["type"], (await receive())["type"], (await receive())["type"]])


async def impatient(scope: Any, receive: Any, send: Any) -> None:
    """Cancel a wait for the body, twice at once, then read it."""
    waits = [asyncio.create_task(receive()) for _ in range(3)]
    await asyncio.sleep(0)
    for wait in waits[:2]:
        wait.cancel()
    note("impatient", True)
    message = await waits[2]
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    await answer(send, body)


async def endless(scope: Any, receive: Any, send: Any, name: str = "endless") -> None:
    """Send for ever, and note what ends that."""
    sent = 0
    try:
        await send(START)
        while True:
            await send({**END, "body": b"x" * 10_000, "more_body": True})
            sent += 10_000
            note(f"{name}-sent", sent)
    except OSError as error:
        note(name, type(error).__name__)
        raise RuntimeError("as frameworks do") from error


async def waits(scope: Any, receive: Any, send: Any) -> None:
    """Stream a little, then wait for the client's end."""
    await receive()
    await send(START)
    await send({**END, "body": b"first", "more_body": True})
    note("waits", (await receive())["type"])


async def file(scope: Any, receive: Any, send: Any, name: str) -> None:
    """Send a file by its path."""
    assert "http.response.pathsend" in scope["extensions"]
    await send(START)
    try:
        await send({"type": "http.response.pathsend", "path": str(PLACE / name)})
    except OSError as error:
        note("file", type(error).__name__)
        raise


async def behind(scope: Any, receive: Any, send: Any, name: str) -> None:
    """Go on behind the response."""
    await answer(send, b"answered")
    await released(name)
    note(name, "finished")


async def hold(scope: Any, receive: Any, send: Any, name: str) -> None:
    """Wait, which the end of the worker may cancel."""
    note(f"{name}-held", True)
    try:
        await released(name)
    except asyncio.CancelledError:
        note(name, "cancelled")
        raise
    await answer(send, b"released")


async def context(scope: Any, receive: Any, send: Any) -> None:
    """Say what the variables of this context are, and change them."""
    before = SEEN.get()
    SEEN.set(scope["query_string"].decode())
    await send(START)
    await send({**END, "body": before.encode(), "more_body": True})
    await asyncio.sleep(0.02)
    await send(END)


async def orphan(scope: Any, receive: Any, send: Any, does: str) -> None:
    """Leave a task behind that fails."""

    async def fail() -> None:
        if does == "exit":
            sys.exit(7)
        raise ValueError("nobody looks at this")

    asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(fail()))
    await answer(send, b"left")


async def extend(scope: Any, receive: Any, send: Any, name: str) -> None:
    """Take longer than others may."""
    scope["prefork.extend_deadline"](60)
    await hold(scope, receive, send, name)


async def cancelled(scope: Any, receive: Any, send: Any) -> None:
    """Raise what nobody has caused."""
    raise asyncio.CancelledError


# WebSockets


async def ws_echo(scope: Any, receive: Any, send: Any, name: str = "echo") -> None:
    """Send back what comes."""
    assert (await receive())["type"] == "websocket.connect"
    chosen = next(iter(scope["subprotocols"]), None)
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"0")]
    await send({**ACCEPT, "subprotocol": chosen, "headers": cookies})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    note(name, message)


async def ws_subprotocol(scope: Any, receive: Any, send: Any) -> None:
    """Choose what nobody has offered."""
    await send({**ACCEPT, "subprotocol": "mine"})


async def ws_header(scope: Any, receive: Any, send: Any) -> None:
    """Say what is for the server to say."""
    await send({**ACCEPT, "headers": [(b"sec-websocket-protocol", b"mine")]})


async def ws_refuse(scope: Any, receive: Any, send: Any) -> None:
    """Close before it is open."""
    await receive()
    await send({"type": "websocket.close"})
    note("refuse", await receive())


async def ws_deny(scope: Any, receive: Any, send: Any) -> None:
    """Answer something else."""
    assert "websocket.http.response" in scope["extensions"]
    start = {"status": 418, "headers": [(b"x-why", b"tea")]}
    await send({"type": "websocket.http.response.start", **start})
    with contextlib.suppress(RuntimeError):
        await send(ACCEPT)
    body = {"type": "websocket.http.response.body"}
    await send({**body, "body": b"no ", "more_body": True})
    await send({**body, "body": b"tea"})


async def ws_close(scope: Any, receive: Any, send: Any) -> None:
    """Close with a reason, and see what follows."""
    await send(ACCEPT)
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
    try:
        await send({"type": "websocket.send", "text": "late"})
    except RuntimeError as error:
        note("close-late", str(error))
    note("close", await receive())
    await send({"type": "websocket.close"})


async def ws_returns(scope: Any, receive: Any, send: Any) -> None:
    """Return while it is open."""
    await send(ACCEPT)


async def ws_raises(scope: Any, receive: Any, send: Any) -> None:
    """Raise while it is open."""
    await send(ACCEPT)
    raise LookupError("on purpose")


async def ws_nothing(scope: Any, receive: Any, send: Any) -> None:
    """Return without an answer."""


async def ws_late(scope: Any, receive: Any, send: Any) -> None:
    """Accept when the client has left."""
    note("late-asked", True)
    await released("late")
    await receive()
    try:
        await send(ACCEPT)
    except OSError as error:
        note("late", [await receive(), type(error).__name__])


async def ws_flood(scope: Any, receive: Any, send: Any) -> None:
    """Send for ever, in two tasks, and note how much went out."""
    await send(ACCEPT)
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent += 1
            note("flood-sent", sent)

    async def cancelled() -> None:
        task = asyncio.create_task(pour())
        await released("flood-cancel")
        task.cancel()
        await asyncio.wait([task])
        note("flood-cancelled", True)

    task = asyncio.create_task(cancelled())
    try:
        await pour()
    except OSError as error:
        note("flood", type(error).__name__)
    await task


async def ws_slow(scope: Any, receive: Any, send: Any) -> None:
    """Receive nothing until it may."""
    await receive()
    await send(ACCEPT)
    note("slow-open", True)
    await released("slow")
    count = 0
    while (message := await receive())["type"] == "websocket.receive":
        count += len(message["text"])
    note("slow", [count, message])
