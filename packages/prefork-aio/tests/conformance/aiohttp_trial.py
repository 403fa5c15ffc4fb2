# SPDX-License-Identifier: MIT
"""The application of the conformance kit, by aiohttp: `aiohttp_trial:app`."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from prefork.trial import answers


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer a request as `answers` says."""
    does, argument = answers.part(request.path)
    if does == "stream":
        return await _stream(request, argument)
    if does == "empty":
        return web.Response(status=204)
    body = await _body(request, does, argument)
    return web.Response(body=body, content_type="text/plain")


async def _body(request: web.Request, does: str, argument: str) -> bytes:
    if does == "raise":
        raise answers.RaisedOnPurpose(request.path)
    if does == "exit":
        sys.exit(3)
    if does == "echo":
        return await request.read()
    if does == "big":
        return b"x" * int(argument)
    if does == "block":
        answers.block(argument)
    if does == "hold":
        await _hold(argument)
    return answers.line(request.path)


async def _stream(request: web.Request, name: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(b"first\n")
    await _hold(name)
    await response.write(b"last\n")
    return response


async def _hold(name: str) -> None:
    answers.begin(name)
    while not answers.is_released(name):  # noqa: ASYNC110 (a file is made by another process)
        await asyncio.sleep(answers.PAUSE)


app = web.Application()
app.router.add_route("*", "/{anything:.*}", answer)
