# SPDX-License-Identifier: MIT
"""`-k aio`: ASGI 3 applications, over prefork's own HTTP.

This module is imported in the arbiter, so it imports nothing of asyncio; `prefork_aio.asgi.server` does, in
the worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import Context, Interface, Worker, kinds, option
from prefork_aio import options
from prefork_aio.asgi import applications

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.settings import Settings


@dataclass(frozen=True)
class Options(options.Options):
    """What can be set for ASGI applications."""

    aio_lifespan: str = option(
        kinds.choice("auto", "on", "off"),
        "auto",
        help="Whether the application is told of its start and end: auto, as far as it knows of that;"
        " on, and a worker whose application does not cannot boot; off.",
    )
    aio_root_path: str = option(
        kinds.text("PATH"),
        "/",
        help="Where the application is mounted, if the proxy takes that off the path; / for the root.",
    )
    aio_client: str = option(
        kinds.choice("forwarded", "peer"),
        "forwarded",
        help="Whose address the scope has as the client's: forwarded, whom the proxies of forwarded_allow_ips"
        " name in X-Forwarded-For; or peer, whoever has connected.",
    )
    aio_websocket_max_size: int = option(
        kinds.size(1, 1 << 31),
        16 << 20,
        help="Bytes that a message of a WebSocket may have; one with more closes the connection (1009).",
    )
    aio_websocket_ping: float = option(
        kinds.seconds(),
        20.0,
        help="Seconds after which the other end of a WebSocket is asked whether it is still there, and in"
        " which it has to answer; 0 for never.",
    )
    aio_websocket_compression: bool = option(
        kinds.switch(),
        True,
        help="Compress the messages of WebSockets whose clients offer it (permessage-deflate, RFC 7692).",
    )


class AioWorker(Worker):
    """ASGI 3 applications (FastAPI, Starlette, Django, Litestar, Quart) on asyncio."""

    api = 1
    interface = Interface.OTHER
    settings = Options
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"threads": "requests are tasks of one event loop, up to worker_connections of them"}
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def lacks(cls, settings: Settings) -> str | None:
        """Return which library is not installed that the settings ask for."""
        return options.lacks(settings)

    @classmethod
    def refuses(cls, app: object) -> str | None:
        """Return why something is no ASGI 3 application, None if it is one."""
        return applications.refusal(app)

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_aio.asgi import server

        server.run(ctx)
