# SPDX-License-Identifier: MIT
"""`-k eventlet`: each request in a greenlet, for applications that are on their way off eventlet.

This module is imported in the arbiter, so it imports nothing of eventlet, which would patch there what only a
worker may; `prefork_eventlet.library` does, in the worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import Context, Worker, kinds, no_gil, option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.settings import Settings


@dataclass(frozen=True)
class Options:
    """What can be set for this worker class only."""

    eventlet_post_patch: Callable[..., object] | None = option(
        kinds.function(),
        None,
        help="Called in each worker, without arguments, when the standard library is patched and before"
        " the application is imported; for what has to be patched too, as psycogreen.eventlet:patch_psycopg.",
    )


class EventletWorker(Worker):
    """Requests in greenlets of eventlet, which ends in April 2027."""

    api = 1
    settings = Options
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"threads": "requests have greenlets, up to worker_connections of them"}
    )
    notice = (
        "eventlet's maintainers end it in April 2027 and advise against new use;"
        " gevent runs most of its applications unchanged (pip install prefork-gevent, -k gevent)"
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def lacks(cls, settings: Settings) -> str | None:  # noqa: ARG003
        """Return what eventlet needs of this Python and does not have."""
        return no_gil("eventlet")

    @classmethod
    def prepare(cls, settings: Settings, /) -> None:
        """Patch the standard library, before the application imports it."""
        from prefork_eventlet import library

        library.patch()
        post_patch = settings.of(Options).eventlet_post_patch
        if post_patch is not None:
            post_patch()

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_eventlet import library

        ctx.serve_in_greenlets(library.Eventlet())
