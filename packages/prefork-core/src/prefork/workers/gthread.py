# SPDX-License-Identifier: MIT
"""`-k gthread`: `--threads` threads answer, and connections are kept open.

A connection costs a thread only while the application has its request. Idle ones, half a head, a small body
on its way and a response that is not taken wait in the poll set. `timeout` is the time that a request may
take without any progress.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from prefork.worker import API_VERSION, Context, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping


class ThreadWorker(Worker):
    """Requests in threads, kept-alive connections in one poll set."""

    api = API_VERSION
    reforks = True
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"blocked_loop": "a call blocks its own request only, for which there is slow_request"}
    )

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        ctx.serve_in_threads()
