# SPDX-License-Identifier: MIT
"""An aiohttp application: a greeting."""

from __future__ import annotations

from aiohttp import web


async def hello(_request: web.Request) -> web.Response:
    """Answer 13 bytes."""
    return web.Response(text="Hello, world!")


app = web.Application()
app.router.add_get("/", hello)
