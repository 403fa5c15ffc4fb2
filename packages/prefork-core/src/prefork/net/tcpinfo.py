# SPDX-License-Identifier: MIT
"""What the kernel knows about time spent in queues: `struct tcp_info` of Linux (tcp(7)).

Only Linux has it, and only for TCP. All others get None, which means "not known" and never "none".
"""

from __future__ import annotations

import socket
import sys
from typing import Final

_INFO: Final = getattr(socket, "TCP_INFO", 0) if sys.platform == "linux" else 0
_UNACKED: Final = 24
"""Offset of `tcpi_unacked`; of a listener, the connections that wait to be accepted."""
_LAST_DATA_RECV: Final = 52
"""Offset of `tcpi_last_data_recv`: milliseconds, in steps of the kernel's clock (1 to 10 of them)."""


def _word(sock: socket.SocketType, offset: int) -> int | None:
    if not _INFO or sock.family == socket.AF_UNIX:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _INFO, offset + 4)
    except OSError:  # not TCP, or an imitation of Linux
        return None
    return int.from_bytes(info[offset:], sys.byteorder) if len(info) == offset + 4 else None


def since_data(sock: socket.SocketType) -> float | None:
    """Return how long ago the last data arrived on a connection, in seconds; None where it is not known.

    Args:
        sock: the connected socket. Before the first data, the end of the handshake counts.
    """
    milliseconds = _word(sock, _LAST_DATA_RECV)
    return None if milliseconds is None else milliseconds / 1000


def waiting_connections(sock: socket.SocketType) -> int | None:
    """Return how many connections wait in the queue of a listener; None where it is not known.

    Args:
        sock: the listening socket.
    """
    return _word(sock, _UNACKED)
