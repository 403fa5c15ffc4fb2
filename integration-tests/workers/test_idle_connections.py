# SPDX-License-Identifier: MIT
"""What a connection costs a worker that holds thousands of them, of which hardly any asks for anything."""

from __future__ import annotations

import contextlib
import resource
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.server import Server

from prefork.testing import client, processes

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE: Final = 5000
WARM: Final = 200
"""Connections before these, so that what a worker makes once is not taken for theirs."""
AT_MOST: Final = 8 * 1024
"""Bytes of the worker for each."""
ALL: Final = IDLE + WARM + 200
"""Descriptors that a process needs, those besides included."""

APPLICATIONS: Final = {
    "wsgi": """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""",
    "asgi": """\
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
""",
}


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process, and those that it starts, have so many descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < count:
        pytest.fail(f"this test needs {count} open files, and the hard limit is {hard}: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def own(pid: int) -> int:
    """Return the bytes that a process shares with no other."""
    fields = processes.memory(pid)
    return 1024 * (fields["Private_Clean"] + fields["Private_Dirty"])


def connect(server: Server, count: int, stack: ExitStack) -> list[client.Kept]:
    """Return connections that have had an answer each, and stay."""
    found = []
    for _ in range(count):
        kept = client.Kept(server.address)
        stack.callback(kept.close)
        assert not kept.ask("/").closing
        found.append(kept)
    return found


@pytest.mark.parametrize(
    ("worker_class", "interface"),
    [("gthread", "wsgi"), ("gevent", "wsgi"), ("eventlet", "wsgi"), ("aio", "asgi")],
    ids=["gthread", "gevent", "eventlet", "aio"],
)
def test_thousands_of_idle_connections_cost_little_memory(
    tmp_path: Path, worker_class: str, interface: str
) -> None:
    (tmp_path / "app.py").write_text(APPLICATIONS[interface])
    flags = f"-k {worker_class} -w 1 --worker-connections {ALL} --keep-alive 300 app:app"
    with descriptors(ALL), Server(tmp_path, flags) as server, ExitStack() as stack:
        [pid] = server.wait_workers(1)
        connect(server, WARM, stack)
        before = own(pid)
        kept = connect(server, IDLE, stack)
        each = (own(pid) - before) / IDLE
        print(f"{each:.0f} bytes for each idle connection")
        assert each < AT_MOST
        assert server.connections() >= IDLE
        assert {one.ask("/").status for one in kept[:: IDLE // 100]} == {200}
        assert server.workers() == [pid]
