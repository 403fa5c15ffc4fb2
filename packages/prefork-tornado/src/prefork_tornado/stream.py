# SPDX-License-Identifier: MIT
"""The stream of a connection that was left to another protocol: Tornado's, which also says when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.iostream import IOStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Stream(IOStream):
    """A stream.

    Args:
        sock: the connected socket.
        early: what was received already, which is read first.
        closed: called when the socket has been closed.
    """

    def __init__(self, sock: socket.socket, early: bytes, closed: Callable[[], object]) -> None:
        super().__init__(sock)
        self._early = early
        self._told = closed

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """See IOStream."""
        if not self._early:
            return super().read_from_fd(buf)
        count = min(len(self._early), len(buf))
        buf[:count] = self._early[:count]
        self._early = self._early[count:]
        return count

    def close_fd(self) -> None:
        """See IOStream."""
        super().close_fd()
        self._told()
