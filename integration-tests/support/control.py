# SPDX-License-Identifier: MIT
"""`preforkctl` as an operator uses it, and the bytes below it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from prefork.testing.client import TIMEOUT
from prefork.testing.control import SOCKET, ask, connect
from prefork.testing.server import clean_environ
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server

__all__ = ["COMMAND", "FLAGS", "SOCKET", "ask", "connect", "ctl", "ctl_json", "start", "wait_status"]

COMMAND: Final = (sys.executable, "-c", "import sys; from prefork.ctl import main; sys.exit(main())")
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


def wait_status(server: Server, **facts: Any) -> None:
    """Wait until the server's status has these facts; those of `workers` count too."""

    def has_them() -> bool:
        found = ask(server.folder, "status")
        return facts.items() <= {**found, **found["workers"]}.items()

    until(has_them, f"a status with {facts}")
