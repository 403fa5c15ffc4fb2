# SPDX-License-Identifier: MIT
"""`-k aiohttp`: the worker class, as the arbiter knows it.

This module is imported in the arbiter, so it imports neither asyncio nor aiohttp; `prefork_aio.web.serving`
does, in the worker process.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import Context, Interface, Worker
from prefork_aio.options import Options, lacks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.settings import Settings

_NAMES = (
    "aiohttp gives the application each field under the name that it came with, so none can pose as another"
)

_HOOKS = "it is called with requests of prefork's own HTTP, and these are aiohttp's"


class AiohttpWorker(Worker):
    """Applications of aiohttp.web on asyncio or uvloop, up to `worker_connections` requests at once."""

    api = 1
    interface = Interface.OTHER
    settings = Options
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "threads": "all requests share one event loop, up to worker_connections of them",
            "queue_timeout": "no request waits for a thread",
            "body_memory": "a body arrives while the application reads it",
            "min_rate": "aiohttp does not say how fast a client is; body_timeout and write_timeout hold",
            "header_map": _NAMES,
            "forwarder_headers": _NAMES,
            "pre_request": _HOOKS,
            "post_request": _HOOKS,
            "sendfile": "aiohttp decides how web.FileResponse sends a file",
        }
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def lacks(cls, settings: Settings) -> str | None:
        """Return why it cannot serve with some settings on this machine, None when it can."""
        return lacks(settings, "aiohttp")

    @classmethod
    def refuses(cls, app: object) -> str | None:
        """Return why an application cannot be served, None when it can."""
        from prefork_aio.web import application

        return application.refuses(app)

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_aio.web import serving

        serving.run(ctx)
