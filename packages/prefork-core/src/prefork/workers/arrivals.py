# SPDX-License-Identifier: MIT
"""From what a listener has accepted to a connection: who is there, and what all environs of it share."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from prefork.http import Limits
from prefork.wsgi.connection import Connection
from prefork.wsgi.environ import Peer, base_environ
from prefork.wsgi.errors import ErrorStream

if TYPE_CHECKING:
    import socket

    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Terms

_LOCAL: Final = Peer("", "")


class Arrivals:
    """Makes the connections of a worker.

    Args:
        ctx: the worker's context.
        terms: what all connections have in common.
        concurrent: whether the application may be called while another call of it goes on.
    """

    def __init__(self, ctx: WorkerContext, terms: Terms, *, concurrent: bool) -> None:
        settings = ctx.settings
        self._terms = terms
        self._limits = Limits(
            settings.limit_request_line, settings.limit_request_fields, settings.limit_request_field_size
        )
        self._multiprocess = settings.workers != 1 or settings.max_workers > 1
        base = partial(self._base, errors=ErrorStream(ctx.log), concurrent=concurrent)
        self._bases = {listener.sock.fileno(): base(listener.sock) for listener in ctx.shared}

    def _base(self, sock: socket.socket, *, errors: ErrorStream, concurrent: bool) -> dict[str, Any]:
        return base_environ(
            sock.getsockname()[:2] if sock.family.name != "AF_UNIX" else None,
            script_name=os.environ.get("SCRIPT_NAME", ""),
            errors=errors,
            multithread=concurrent,
            multiprocess=self._multiprocess,
        )

    def connection(self, fd: int, connected: socket.SocketType, address: Any) -> Connection:
        """Return a new connection.

        Args:
            fd: of the listener.
            connected: the socket.
            address: of its peer.
        """
        peer = Peer(address[0], str(address[1])) if isinstance(address, tuple) else _LOCAL
        return Connection(connected, peer, self._bases[fd], self._limits, self._terms)
