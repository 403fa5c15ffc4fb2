# SPDX-License-Identifier: MIT
"""The table of servers: how each is started with one worker, no access log, and which cases it can serve."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
BIN: Final = Path(sys.executable).parent
"""Where this environment's console scripts are."""

GUNICORN: Final = (sys.executable, "-m", "gunicorn", "--workers=1", "--log-level=warning", "--keep-alive=75")
PREFORK: Final = (sys.executable, "-m", "prefork", "--workers=1", "--log-level=warning")
KEEPALIVE: Final = "keepalive_worker:KeepAliveSync"
"""sync closes after each response, as gunicorn's does; its loop can do otherwise, and this lets it."""
UWSGI: Final = (str(BIN / "uwsgi"), "--module=hello:app", "--master", "--processes=1", "--need-app")
UWSGI_QUIET: Final = ("--disable-logging", "--die-on-term", "--logto=/dev/null")
WAITRESS: Final = f"""
import logging, waitress, hello
logging.getLogger("waitress.queue").setLevel("ERROR")
waitress.serve(hello.app, listen="{HOST}:{{port}}")
"""
"""waitress warns of every request that waits for a thread, and its command cannot be told not to."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way of starting a server.

    Args:
        name: as given to --servers.
        distribution: whose version is recorded.
        commands: case → command line; `{port}` is filled in. A case that is not there is not served.
    """

    name: str
    distribution: str
    commands: dict[str, tuple[str, ...]]

    def command(self, case: str, port: int) -> list[str]:
        """Return the command line that serves a case on a port."""
        return [argument.replace("{port}", str(port)) for argument in self.commands[case]]

    def version(self) -> str | None:
        """Return the installed version, None when it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


def both(*command: str) -> dict[str, tuple[str, ...]]:
    """Return the commands of a server that is started alike for both cases."""
    return {"close": command, "keepalive": command}


SERVERS: Final = (
    Server(
        "prefork",
        "prefork-core",
        {
            "close": (*PREFORK, "--worker-class=sync", f"--bind={HOST}:{{port}}", "hello:app"),
            "keepalive": (*PREFORK, f"--worker-class={KEEPALIVE}", f"--bind={HOST}:{{port}}", "hello:app"),
        },
    ),
    # gunicorn's sync worker closes after every response, whatever the client asks for.
    Server("gunicorn-sync", "gunicorn", {"close": (*GUNICORN, f"--bind={HOST}:{{port}}", "hello:app")}),
    Server(
        "gunicorn-gthread",
        "gunicorn",
        both(*GUNICORN, "--worker-class=gthread", "--threads=4", f"--bind={HOST}:{{port}}", "hello:app"),
    ),
    # The same with one thread: no contention for the GIL, so gunicorn at its best on one core.
    Server(
        "gunicorn-gthread-1",
        "gunicorn",
        both(*GUNICORN, "--worker-class=gthread", "--threads=1", f"--bind={HOST}:{{port}}", "hello:app"),
    ),
    Server("waitress", "waitress", both(sys.executable, "-c", WAITRESS)),
    Server(
        "granian",
        "granian",
        both(
            str(BIN / "granian"),
            "--interface=wsgi",
            f"--host={HOST}",
            "--port={port}",
            "--no-ws",
            "--no-log",
            "hello:app",
        ),
    ),
    # uWSGI keeps connections alive for many clients only in its router process, which costs it a hop.
    Server(
        "uwsgi",
        "uwsgi",
        {
            # It closes without saying so, which wrk counts as an error; so it is made to say so.
            "close": (
                *UWSGI,
                *UWSGI_QUIET,
                f"--http-socket={HOST}:{{port}}",
                "--add-header=Connection: close",
            ),
            "keepalive": (*UWSGI, *UWSGI_QUIET, f"--http={HOST}:{{port}}", "--http-keepalive=75"),
        },
    ),
)
