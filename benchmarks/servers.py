# SPDX-License-Identifier: MIT
"""The table of servers: how each is started, without an access log and otherwise as its manual says.

It knows no case. What is special in a command stands there with its reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST: Final = "127.0.0.1"
BIN: Final = Path(sys.executable).parent
"""Where this environment's console scripts are."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a case wants of a server.

    Args:
        application: `module:callable` in `applications/`.
        worker: a key of `WORKERS`: the worker class of prefork.
        persistent: whether clients keep connections open.
        workers: processes that serve.
        threads: of each worker.
        connections: how many it must hold at once.
        queue_timeout: seconds that a request may wait for a thread, None for ever.
        pages: what it is asked for, where that is more than one page.
    """

    application: str
    worker: str = "gthread"
    persistent: bool = True
    workers: int = 1
    threads: int = 4
    connections: int = 1_000
    queue_timeout: float | None = None
    pages: tuple[str, ...] = ()


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
        worker_classes: the name of a worker class → what is added for it.
        libraries: other distributions whose version is recorded, because its worker class is theirs.
        warming: what is added for each page that it is asked for.
    """

    name: str
    distribution: str
    command: tuple[str, ...]
    closing: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()
    shedding: tuple[str, ...] = ()
    worker_classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    warming: tuple[str, ...] = ()

    def arguments(self, setup: Setup, port: int) -> list[str]:
        """Return the command line that serves a setup on a port."""
        parts = self.command if setup.persistent else self.closing or self.command
        parts += self.worker_classes.get(setup.worker, ())
        if setup.connections > 1_000:
            parts += self.crowded
        if setup.queue_timeout is not None:
            parts += self.shedding
        parts += tuple(part.replace("{page}", page) for page in setup.pages for part in self.warming)
        values = {name: getattr(setup, name) for name in Setup.__slots__}
        module, _, name = setup.application.partition(":")
        return [part.format(**values, port=port, module=module, callable=name) for part in parts]

    @property
    def versions(self) -> dict[str, str]:
        """The installed versions of its distribution and libraries."""
        found = {name: _version(name) for name in (self.distribution, *self.libraries)}
        return {name: version for name, version in found.items() if version is not None}

    @property
    def missing(self) -> list[str]:
        """What of them is not installed."""
        return [name for name in (self.distribution, *self.libraries) if name not in self.versions]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


BIND: Final = f"--bind={HOST}:{{port}}"
PREFORK: Final = (sys.executable, "-m", "prefork", "--workers={workers}", "--log-level=warning", BIND)
PRELOAD: Final = (*PREFORK, "--worker-class=sync", "--preload")
GUNICORN: Final = (
    sys.executable,
    "-m",
    "gunicorn",
    "--workers={workers}",
    "--log-level=warning",
    "--keep-alive=75",
    BIND,
)
LIMIT: Final = "--worker-connections={connections}"
THREADS: Final = ("--worker-class=gthread", "--threads={threads}", LIMIT)
WORKERS: Final = {
    "gthread": THREADS,
    "gevent": ("--worker-class=gevent", LIMIT),
    "tornado": ("--worker-class=tornado", LIMIT),
    "aiohttp-asyncio": ("--worker-class=aiohttp", "--aio-loop=asyncio", LIMIT),
    "aiohttp-uvloop": ("--worker-class=aiohttp", "--aio-loop=uvloop", LIMIT),
    "aio-uvloop": ("--worker-class=aio", "--aio-loop=uvloop", LIMIT),
}
"""The worker classes of prefork that are measured, and on which event loop."""
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
UVICORN: Final = (
    sys.executable,
    "-m",
    "uvicorn",
    f"--host={HOST}",
    "--port={port}",
    "--http=httptools",
    "--loop=uvloop",
    "--timeout-keep-alive=75",
    "--no-access-log",
    "--log-level=warning",
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
        (*PREFORK, "{application}"),
        shedding=("--queue-timeout={queue_timeout}",),
        worker_classes=WORKERS,
    ),
    Server("prefork-sync", "prefork-core", (*PREFORK, "--worker-class=sync", "{application}")),
    Server("prefork-preload", "prefork-core", (*PRELOAD, "{application}")),
    Server("prefork-warmup", "prefork-core", (*PRELOAD, "{application}"), warming=("--warmup={page}",)),
    Server("prefork-refork", "prefork-core", (*PRELOAD, "--refork=50", "{application}")),
    Server("gunicorn-gthread", "gunicorn", (*GUNICORN, *THREADS, "{application}")),
    Server("gunicorn-sync", "gunicorn", (*GUNICORN, "{application}")),
    Server("gunicorn-preload", "gunicorn", (*GUNICORN, "--preload", "{application}")),
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
    # What the other worker classes of prefork are measured beside.
    Server(
        "gunicorn-gevent",
        "gunicorn",
        (*GUNICORN, "--worker-class=gevent", LIMIT, "{application}"),
        libraries=("gevent",),
    ),
    Server(
        "gunicorn-tornado",
        "gunicorn",
        (*GUNICORN, "--worker-class=tornado", "{application}"),
        libraries=("tornado",),
    ),
    Server(
        "gunicorn-aiohttp",
        "gunicorn",
        (*GUNICORN, "--worker-class=aiohttp.GunicornWebWorker", "{application}"),
        libraries=("aiohttp",),
    ),
    Server(
        "gunicorn-aiohttp-uvloop",
        "gunicorn",
        (*GUNICORN, "--worker-class=aiohttp.GunicornUVLoopWebWorker", "{application}"),
        libraries=("aiohttp", "uvloop"),
    ),
    Server("uvicorn", "uvicorn", (*UVICORN, "{application}"), libraries=("httptools", "uvloop")),
    # In C, with one thread: what a server costs when nothing of it is Python.
    Server("bjoern", "bjoern", (sys.executable, "-c", BJOERN)),
)
