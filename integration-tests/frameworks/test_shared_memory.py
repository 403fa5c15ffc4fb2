# SPDX-License-Identifier: MIT
"""Workers of a Django project share what --preload has loaded, and more of it after a refork.

The bounds leave room for other versions of Python and Django; docs/how-to/preload.md has what was measured.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import mean
from typing import Final

from support.control import SOCKET, ctl_json
from support.django_project import APPLICATIONS, prepare
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, only

from prefork.process import immortal, memory
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH

PAGES: Final = ("/database/", "/rows/?last=50", "/admin/login/", "/where/")
CLOSING: Final = """
def worker_exit(server, worker):
    from django.db import connections
    connections.close_all()
"""
"""The project keeps its connection to the database, which no template may have."""
REQUESTS: Final = 40
WORKERS: Final = 2


def status(server: Server, page: str) -> int:
    """Return the status of a page, asked for by a name that the project takes for its own."""
    connection = HTTPConnection("localhost", int(server.address[1]), timeout=10)
    with closing(connection):
        connection.request("GET", page, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def ask_until_all_are_warm(server: Server) -> list[int]:
    """Ask until each worker has answered enough requests to have touched what these pages need."""
    with ThreadPoolExecutor(2 * WORKERS) as pool:
        for _ in range(50):
            assert set(pool.map(lambda page: status(server, page), PAGES * 5)) == {200}
            rows = ctl_json(server.folder, "workers")["workers"]
            if len(rows) == WORKERS and all(row["requests"] >= REQUESTS for row in rows):
                return [row["pid"] for row in rows]
    raise AssertionError("some workers have nothing to do")


def is_settled(server: Server) -> bool:
    """Say whether a refork is over: one template and its workers, and nobody else."""
    status = ctl_json(server.folder, "status")
    warm = [template["requests"] is not None for template in status["templates"]]
    present = {state for state, count in status["workers"].items() if count}
    return warm == [True] and present == {"target", "ready"}


def weigh(folder: Path, more: str = "", *, reforks: bool = False) -> float:
    """Return how many bytes a worker has for itself, on average, when it has answered requests."""
    arguments = (
        f"-w {WORKERS} {more} --control-socket {folder / SOCKET} --chdir {APPLICATIONS} django_shop.wsgi"
    )
    with Server(folder, arguments, environ={"SHOP_FOLDER": str(folder)}) as server:
        ask_until_all_are_warm(server)
        if reforks:
            server.wait_log("is from the old template: starting its successor", count=WORKERS)
            until(lambda: is_settled(server), "the end of the refork")
        weights = [memory.private(pid) for pid in ask_until_all_are_warm(server)]
    return mean(weight for weight in weights if weight is not None)


@only(SYNC)
def test_what_is_loaded_once_is_shared_and_what_requests_have_built_too(tmp_path: Path) -> None:
    prepare(tmp_path)
    alone = weigh(tmp_path)
    preloaded = weigh(tmp_path, "--preload")
    configuration = tmp_path / "closing.py"
    configuration.write_text(CLOSING)
    reforked = weigh(tmp_path, f"--preload --refork 10 -c {configuration}", reforks=True)
    print(f"MB: {alone / 1e6:.1f} alone, {preloaded / 1e6:.1f} preloaded, {reforked / 1e6:.1f} reforked")
    assert preloaded < (0.5 if immortal.is_possible() else 0.7) * alone
    assert reforked < 0.95 * preloaded
