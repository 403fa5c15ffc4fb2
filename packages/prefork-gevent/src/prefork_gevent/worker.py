# SPDX-License-Identifier: MIT
"""`-k gevent`: each request in a greenlet; what waits for a database or a service lets the others run.

This module is imported in the arbiter, so it imports nothing of gevent; `prefork_gevent.library` does, in
the worker process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.worker import Context, Worker

if TYPE_CHECKING:
    from prefork.settings import Settings


class GeventWorker(Worker):
    """Requests in greenlets, up to `worker_connections` at once."""

    api = 1

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def prepare(cls, _settings: Settings) -> None:
        """Patch the standard library, before the application imports it."""
        from prefork_gevent import library

        library.patch()

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_gevent import library

        ctx.serve_in_greenlets(library.Gevent(ctx.log))
