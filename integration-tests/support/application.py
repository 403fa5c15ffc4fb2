# SPDX-License-Identifier: MIT
"""An application whose every answer can be checked, and that can be held in the middle of one."""

from __future__ import annotations

import os
from signal import SIGHUP
from typing import TYPE_CHECKING, Final

from prefork.testing import client
from prefork.testing.waiting import until
from prefork.trial.answers import REPEAT

if TYPE_CHECKING:
    import socket
    from contextlib import ExitStack
    from pathlib import Path

    from prefork.testing.load import Load
    from support.server import Server

_TEXT: Final = '''\
import os
import sys
import time

VERSION = {version!r}
{boot}


def hold(name):
    """Say that the request is here, and go on when the test says so."""
    with open(name + ".held", "w") as file:
        file.write(f"{{os.getpid()}}\\n")
    while not os.path.exists(name + ".released"):
        time.sleep(0.01)


def app(environ, start_response):
    """Answer with version, pid and the path so often that a piece cannot pass for the whole."""
    path = environ["PATH_INFO"]
    if path.startswith("/hold/"):
        hold(path[6:])
    {request}
    body = f"{{VERSION}} {{os.getpid()}} {{path}}\\n".encode() * {repeat}
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''


def deploy(folder: Path, version: str = "one", *, boot: str = "", request: str = "pass") -> None:
    """Put the module `app` with the application `app` into a folder, at once, as a deploy should.

    Args:
        folder: where the server runs.
        version: what it answers with.
        boot: a statement that runs when the module is loaded.
        request: a statement that runs in each request; `path` is the path.
    """
    text = _TEXT.format(version=version, boot=boot, request=request, repeat=REPEAT)
    fresh = folder / "app.py.new"
    fresh.write_text(text)
    os.replace(fresh, folder / "app.py")


def reload_slowly(server: Server, load: Load, seconds: float) -> None:
    """Reload with an application whose import takes its time; nobody may lose a request or wait as long."""
    load.wait()
    deploy(server.folder, "two", boot=f"time.sleep({seconds})")
    server.signal(SIGHUP)
    load.wait_only_version("two")
    load.check()
    assert load.longest_gap < seconds


def hold(server: Server, name: str) -> socket.socket:
    """Begin a request that lasts until `release`; return its connection when it is in the application."""
    sock = client.connect(server.address)
    client.send(sock, client.render(f"/hold/{name}"))
    until(lambda: holder(server, name), f"request {name!r} in the application")
    return sock


def hold_in_each(server: Server, count: int, stack: ExitStack) -> dict[int, list[tuple[str, socket.socket]]]:
    """Begin requests until each of so many workers has one; return names and connections by pid."""
    held: dict[int, list[tuple[str, socket.socket]]] = {}
    for number in range(count * 64):
        if len(held) == count:
            return held
        name = f"each-{number}"
        sock = stack.enter_context(hold(server, name))
        pid = holder(server, name)
        assert pid is not None
        held.setdefault(pid, []).append((name, sock))
    raise AssertionError(f"only {len(held)} of {count} workers take requests")


def holder(server: Server, name: str) -> int | None:
    """Return the pid of the worker that has a request which is held."""
    try:
        line = (server.folder / f"{name}.held").read_text()
    except FileNotFoundError:
        return None
    return int(line) if line.endswith("\n") else None


def release(server: Server, *names: str) -> None:
    """Let requests go on that were held."""
    for name in names:
        (server.folder / f"{name}.released").touch()
