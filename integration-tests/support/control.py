# SPDX-License-Identifier: MIT
"""`preforkctl` as an operator uses it, and the bytes below it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from support.client import TIMEOUT
from support.server import clean_environ
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server

COMMAND: Final = (sys.executable, "-c", "import sys; from prefork.ctl import main; sys.exit(main())")
SOCKET: Final = "control.sock"
"""In the folder of the server."""

FLAGS: Final = f"--control-socket {SOCKET}"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in a folder, with the control socket that is there."""
    return subprocess.Popen(
        [*COMMAND, "-s", SOCKET, *arguments],
        cwd=folder,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ctl(folder: Path, *arguments: str, expect: int = 0) -> tuple[str, str]:
    """Run the command to its end; return what it has printed to its output and its errors."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == expect, f"exit code {process.returncode}: {out}{err}"
    return out, err


def ctl_json(folder: Path, *arguments: str) -> Any:
    """Run the command with --json, and return what it has printed."""
    return json.loads(ctl(folder, *arguments, "--json")[0])


def connect(folder: Path) -> socket.socket:
    """Return a connection to the control socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT)
    sock.connect(str(folder / SOCKET))
    return sock


def ask(folder: Path, command: str, **arguments: Any) -> Any:
    """Ask without the command; return the result."""
    with connect(folder) as sock, sock.makefile("rb") as file:
        sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        answer = json.loads(file.readline())
    assert answer["ok"], answer
    return answer["result"]


def wait_status(server: Server, **facts: Any) -> None:
    """Wait until the server's status has these facts; those of `workers` count too."""

    def has_them() -> bool:
        found = ask(server.folder, "status")
        return facts.items() <= {**found, **found["workers"]}.items()

    until(has_them, f"a status with {facts}")
