# SPDX-License-Identifier: MIT
"""`-k sync`: one thread, one request at a time, and the connection closes after each response.

Slow clients do not count as a request: half a head, a small body on its way or a response that is not
taken wait in the poll set. `timeout` is the time that a request may take without any progress.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import API_VERSION, Context, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping


class SyncWorker(Worker):
    """One request at a time; the connection closes after each response."""

    api = API_VERSION
    reforks = True
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "keepalive": "a sync worker closes after each response; with --threads 2 connections stay open",
            "blocked_loop": "a call blocks its own request only, for which there is slow_request",
        }
    )

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        ctx.serve_one_by_one()
