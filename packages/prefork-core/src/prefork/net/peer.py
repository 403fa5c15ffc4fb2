# SPDX-License-Identifier: MIT
"""Whose process is at the other end of a Unix socket, as the kernel says (unix(7))."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

_CREDENTIALS: Final = struct.Struct("=iII")
"""struct ucred: pid, uid, gid."""


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user of the process that has connected, as it was then; None where the kernel does not say.

    Args:
        sock: a connected Unix socket.

    Raises:
        OSError: it is none.
    """
    uid: int | None = None
    if sys.platform == "linux":
        said = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(said)[1]
    return uid
