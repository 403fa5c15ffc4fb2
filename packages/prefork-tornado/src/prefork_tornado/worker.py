# SPDX-License-Identifier: MIT
"""`-k tornado`: applications of Tornado on one event loop, and WSGI applications in threads beside it.

This module is imported in the arbiter, so it imports nothing of Tornado, which would make an event loop
there that no fork may inherit; the other modules do, in the worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import Context, Interface, Worker, kinds, option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.settings import Settings


@dataclass(frozen=True)
class Options:
    """What can be set for this worker class only."""

    tornado_max_body_size: int = option(
        kinds.size(0, 2**40),
        100 * 1024**2,
        help="Bytes of a request's body, as max_body_size of Tornado's own server: a larger one is refused"
        " with 413. A handler that streams its body can ask for another limit by set_max_body_size.",
    )


class TornadoWorker(Worker):
    """Tornado applications on one event loop; WSGI applications in `threads` threads."""

    api = 1
    interface = Interface.OTHER
    settings = Options
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "sendfile": "files go through the event loop",
        }
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def refuses(cls, app: object) -> str | None:
        """Return why an application cannot be served, None when it can."""
        from prefork_tornado import applications

        return applications.refusal(app)

    @classmethod
    def prepare(cls, settings: Settings, /) -> None:
        """Make an event loop, which the application finds when it is imported."""
        from prefork_tornado import loop

        loop.prepare(forks_later=settings.preload_app)

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_tornado import server

        server.serve(ctx, ctx.settings.of(Options).tornado_max_body_size)
