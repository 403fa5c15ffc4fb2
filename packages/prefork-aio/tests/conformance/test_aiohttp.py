# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.testing import WorkerConformance


class TestAiohttpOnUvloop(WorkerConformance):
    worker = "aiohttp"
    options = ("--aio-loop", "uvloop")
    app = "aiohttp_trial:app"


class TestAiohttpOnAsyncio(WorkerConformance):
    worker = "aiohttp"
    options = ("--aio-loop", "asyncio")
    app = "aiohttp_trial:app"
