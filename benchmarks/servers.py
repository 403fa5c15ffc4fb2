# SPDX-License-Identifier: MIT
"""The table of servers: how each is started, without an access log and otherwise as its manual says.

It knows no case. What is special in a command stands there with its reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
BIN: Final = Path(sys.executable).parent
"""Where this environment's console scripts are."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a case wants of a server.

    Args:
        application: `module:callable` in `applications/`.
        persistent: whether clients keep connections open.
        workers: processes that serve.
        threads: of each worker.
        connections: how many it must hold at once.
        queue_timeout: seconds that a request may wait for a thread, None for ever.
    """

    application: str
    persistent: bool = True
    workers: int = 1
    threads: int = 4
    connections: int = 1_000
    queue_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One way of starting a server.

    Args:
        name: as given to --servers.
        distribution: whose version is recorded.
        command: its arguments; `{port}` and the names of `Setup` are filled in.
        closing: the same for clients that do not keep connections open, if it differs.
        crowded: what is added where it must hold thousands of connections.
        shedding: what is added where a queue has a limit.
    """

    name: str
    distribution: str
    command: tuple[str, ...]
    closing: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()
    shedding: tuple[str, ...] = ()

    def arguments(self, setup: Setup, port: int) -> list[str]:
        """Return the command line that serves a setup on a port."""
        parts = self.command if setup.persistent else self.closing or self.command
        if setup.connections > 1_000:
            parts += self.crowded
        if setup.queue_timeout is not None:
            parts += self.shedding
        values = {name: getattr(setup, name) for name in Setup.__slots__}
        module, _, name = setup.application.partition(":")
        return [part.format(**values, port=port, module=module, callable=name) for part in parts]

    def version(self) -> str | None:
        """Return the installed version, None when it is not installed."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


BIND: Final = f"--bind={HOST}:{{port}}"
PREFORK: Final = (sys.executable, "-m", "prefork", "--workers={workers}", "--log-level=warning", BIND)
GUNICORN: Final = (
    sys.executable,
    "-m",
    "gunicorn",
    "--workers={workers}",
    "--log-level=warning",
    "--keep-alive=75",
    BIND,
)
THREADS: Final = ("--worker-class=gthread", "--threads={threads}", "--worker-connections={connections}")
GRANIAN: Final = (
    str(BIN / "granian"),
    "--interface=wsgi",
    f"--host={HOST}",
    "--port={port}",
    "--workers={workers}",
    "--no-ws",
    "--no-log",
    "{application}",
)
UWSGI: Final = (
    str(BIN / "uwsgi"),
    "--module={application}",
    "--master",
    "--processes={workers}",
    "--threads={threads}",
    "--listen=1024",
    "--need-app",
    "--disable-logging",
    "--die-on-term",
    "--logto=/dev/null",
)
# waitress warns of every request that waits for a thread, and its command cannot be told not to.
WAITRESS: Final = f"""
import logging, waitress
from {{module}} import {{callable}} as app
logging.getLogger("waitress.queue").setLevel("ERROR")
waitress.serve(app, listen="{HOST}:{{port}}", threads={{threads}}, connection_limit={{connections}})
"""
# As it comes, cheroot keeps ten connections open and queues five, which is less than the load's sixteen.
CHEROOT: Final = f"""
from cheroot import wsgi
from {{module}} import {{callable}} as app
server = wsgi.Server(("{HOST}", {{port}}), app, numthreads={{threads}}, request_queue_size=1024, timeout=75)
server.keep_alive_conn_limit = {{connections}}
server.safe_start()
"""
BJOERN: Final = f"""
import bjoern
from {{module}} import {{callable}} as app
bjoern.run(app, "{HOST}", {{port}})
"""

SERVERS: Final = (
    Server(
        "prefork",
        "prefork-core",
        (*PREFORK, *THREADS, "{application}"),
        shedding=("--queue-timeout={queue_timeout}",),
    ),
    Server("prefork-sync", "prefork-core", (*PREFORK, "--worker-class=sync", "{application}")),
    Server("gunicorn-gthread", "gunicorn", (*GUNICORN, *THREADS, "{application}")),
    Server("gunicorn-sync", "gunicorn", (*GUNICORN, "{application}")),
    # Its defaults: up to 512 threads run the application. By backpressure it stops accepting.
    Server("granian", "granian", GRANIAN, crowded=("--backpressure={connections}",)),
    Server(
        "granian-threads",
        "granian",
        (*GRANIAN, "--blocking-threads={threads}"),
        crowded=("--backpressure={connections}",),
    ),
    Server(
        "uwsgi",
        "uwsgi",
        # uWSGI keeps connections alive for many clients only in its router process, which costs it a hop.
        (*UWSGI, f"--http={HOST}:{{port}}", "--http-keepalive=75"),
        # It closes without saying so, which wrk counts as an error; so it is made to say so.
        closing=(*UWSGI, f"--http-socket={HOST}:{{port}}", "--add-header=Connection: close"),
    ),
    Server("waitress", "waitress", (sys.executable, "-c", WAITRESS)),
    Server("cheroot", "cheroot", (sys.executable, "-c", CHEROOT)),
    # In C, with one thread: what a server costs when nothing of it is Python.
    Server("bjoern", "bjoern", (sys.executable, "-c", BJOERN)),
)
