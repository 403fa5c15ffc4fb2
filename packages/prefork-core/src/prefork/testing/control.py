# SPDX-License-Identifier: MIT
"""A server's control socket, asked as anybody may who knows its protocol."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

from prefork.testing.client import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

SOCKET: Final = "control.sock"
"""In the folder of the server."""


def connect(folder: Path) -> socket.socket:
    """Return a connection to the control socket of the server that runs in a folder."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT)
    sock.connect(str(folder / SOCKET))
    return sock


def ask(folder: Path, command: str, **arguments: Any) -> Any:
    """Ask what `preforkctl COMMAND --json` would; return the answer.

    Raises:
        AssertionError: the server has a trouble.
    """
    with connect(folder) as sock, sock.makefile("rb") as file:
        sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        answer = json.loads(file.readline())
    assert answer["ok"], answer
    return answer["result"]
