# SPDX-License-Identifier: MIT
"""An application that writes each request into a journal of its process when it begins, and what is in those.

It decides what the application is by each interface, how long a request takes, and how the journals are
read. Its answers are those of `support.application`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from prefork.trial.answers import REPEAT
from support import application, workers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOOK: Final = """
def post_worker_init(worker):
    import sys
    sys.modules["app"].journal(worker.ppid)
"""
"""What the configuration of a server must have."""

_BOOT: Final = """\
kept = []
journals = {}


def journal(arbiter):
    pid = os.getpid()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    journals[pid] = os.open(f"journal-{arbiter}-{pid}", flags, 0o600)


def begin(path):
    os.write(journals[os.getpid()], path.encode() + b"\\n")
    if len(kept) < 1200:
        kept.append(b"x" * 40960)
    number = int(path.split("/")[2]) if path != "/ready" else 0
    if number % 7 == 3:
        return 0.02
    return 0.003 if number % 3 == 1 else 0.0
"""
"""`begin` returns how long a request takes, in seconds."""

_READY: Final = "/ready"
_WAIT: Final = "pause = begin(path); pause and time.sleep(pause)"

_ASGI: Final = '''\
import asyncio
import os
import sys

VERSION = {version!r}
{boot}


async def app(scope, receive, send):
    """Answer with version, pid and the path so often that a piece cannot pass for the whole."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    path = scope["path"]
    await asyncio.sleep(begin(path))
    body = f"{{VERSION}} {{os.getpid()}} {{path}}\\n".encode() * {repeat}
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({{"type": "http.response.start", "status": 200, "headers": fields}})
    await send({{"type": "http.response.body", "body": body}})


async def live(receive, send):
    """Say yes to start-up and shutdown."""
    for word in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{{word}}"
        await send({{"type": f"lifespan.{{word}}.complete"}})
'''

_WEB: Final = '''\
import asyncio
import os
import sys

from aiohttp import web

VERSION = {version!r}
{boot}


async def answer(request):
    """Answer with version, pid and the path so often that a piece cannot pass for the whole."""
    await asyncio.sleep(begin(request.path))
    line = f"{{VERSION}} {{os.getpid()}} {{request.path}}\\n"
    return web.Response(text=line * {repeat})


app = web.Application()
app.router.add_get("/{{anything:.*}}", answer)
'''

_TEXTS: Final[Mapping[str, str]] = {workers.ASGI: _ASGI, workers.WEB: _WEB}


def deploy(folder: Path, version: str, interface: str = workers.WSGI) -> None:
    """Put the module `app` with the application `app` into a folder, at once.

    Args:
        folder: where the server runs.
        version: what it answers with.
        interface: of the worker class.
    """
    if interface == workers.WSGI:
        application.deploy(folder, version, boot=_BOOT, request=_WAIT)
    else:
        write(folder / "app.py", _TEXTS[interface].format(version=version, boot=_BOOT, repeat=REPEAT))


def write(path: Path, text: str) -> None:
    """Write a file at once: whoever reads it sees the old one or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    os.replace(fresh, path)


class Journal:
    """What the application has begun, by process.

    Args:
        folder: where it ran.
    """

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.glob("journal-*"))
        self.count = sum(line != _READY for path in self._files for line in path.read_text().splitlines())
        """Requests of clients, that is without those that asked whether the server is ready."""

    def begun_under(self, arbiter: int) -> int:
        """Return how many requests workers of an arbiter have begun."""
        ours = (path for path in self._files if path.name.startswith(f"journal-{arbiter}-"))
        return sum(path.read_bytes().count(b"\n") for path in ours)

    def find(self, paths: set[str]) -> dict[str, int]:
        """Return which process has begun a request, for those of some that any has."""
        found = {}
        for path in self._files:
            pid = int(path.name.rpartition("-")[2])
            found.update(dict.fromkeys(paths & set(path.read_text().splitlines()), pid))
        return found
