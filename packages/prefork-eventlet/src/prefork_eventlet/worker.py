# SPDX-License-Identifier: MIT
"""`-k eventlet`: each request in a greenlet, for applications that are on their way off eventlet.

This module is imported in the arbiter, so it imports nothing of eventlet, which would patch there what only a
worker may; `prefork_eventlet.library` does, in the worker process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.worker import Context, Worker

if TYPE_CHECKING:
    from prefork.settings import Settings


class EventletWorker(Worker):
    """Requests in greenlets of eventlet, which ends in April 2027."""

    api = 1
    notice = (
        "eventlet's maintainers end it in April 2027 and advise against new use;"
        " gevent runs most of its applications unchanged (pip install prefork-gevent, -k gevent)"
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def prepare(cls, _settings: Settings) -> None:
        """Patch the standard library, before the application imports it."""
        from prefork_eventlet import library

        library.patch()

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_eventlet import library

        ctx.serve_in_greenlets(library.Eventlet())
