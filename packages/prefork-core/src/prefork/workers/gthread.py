# SPDX-License-Identifier: MIT
"""`-k gthread`: `--threads` threads answer, and connections are kept open.

A connection costs a thread only while the application has its request. Idle ones, half a head, a small body
on its way and a response that is not taken wait in the poll set. `timeout` is the time that a request may
take without any progress.
"""

from __future__ import annotations

from prefork.worker import API_VERSION, Context, Worker
from prefork.workers.context import WorkerContext
from prefork.workers.threads import Threads


class ThreadWorker(Worker):
    """Requests in threads, kept-alive connections in one poll set."""

    api = API_VERSION
    reforks = True

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        assert isinstance(ctx, WorkerContext)
        threads = Threads(ctx, ctx.service(keepalive=ctx.settings.keepalive))
        ctx.on_abort = threads.aborted
        threads.run()
