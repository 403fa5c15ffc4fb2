# SPDX-License-Identifier: MIT
"""Nothing that only Linux has is needed to import and to serve.

A process that looks like one on macOS (builders/elsewhere.py) shows that no missing name is used. It shows
nothing of what the system calls of macOS do: docs/explanation/platforms.md says what nobody has tested.
"""

from __future__ import annotations

import os
import pkgutil
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from deadlines import PATIENCE, eventually

import prefork

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILDERS: Final = Path(__file__).parent / "builders"
MODULES: Final = sorted(
    module.name
    for module in pkgutil.walk_packages(prefork.__path__, "prefork.")
    if not module.name.endswith("__main__")
)

APP: Final = """
import os, select, sys, tempfile

def app(environ, start_response):
    if environ["PATH_INFO"] == "/file":
        file = tempfile.TemporaryFile()
        file.write(b"x" * 1_000_000)
        file.seek(0)
        start_response("200 OK", [("Content-Length", "1000000")])
        return environ["wsgi.file_wrapper"](file)
    body = f"{sys.platform} {hasattr(select, 'epoll')} {os.getpid()}".encode()
    received = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body) + len(received)))])
    return [body, received]
"""


def elsewhere(code: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a Python that looks like one on macOS."""
    code = f"import elsewhere; elsewhere.become_darwin()\n{code}"
    path = os.pathsep.join(entry for entry in (str(BUILDERS), *sys.path) if entry)  # as this process has it
    environ = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environ, **options)


class Server:
    """A server that takes itself for one on macOS."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        (folder / "app.py").write_text(APP)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = elsewhere(
                "import sys; from prefork.cli import main; sys.exit(main())",
                *("app:app", "-b", "127.0.0.1:0", "-w", "2", *arguments),
                cwd=folder,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Wait until all workers are ready."""
        self.says("ready after", 2)
        self.port = int(re.findall(r"listening on http://127.0.0.1:(\d+)", self.log)[0])

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, words: str, times: int = 1) -> None:
        eventually(lambda: self.log.count(words) >= times or self.process.poll() is not None)
        assert self.log.count(words) >= times, self.log

    def ask(self, path: str = "/", body: bytes = b"") -> bytes:
        """Return the body of one response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            client.sendall(head.encode() + body)
            received = b""
            while piece := client.recv(65536):
                received += piece
        head_end = received.index(b"\r\n\r\n")
        assert received.startswith(b"HTTP/1.1 200 OK\r\n"), received[:200]
        return received[head_end + 4 :]

    def pid(self) -> int:
        return int(self.ask().split()[-1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture(params=[(), ("--threads", "2")], ids=["sync", "gthread"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, *request.param)
    try:
        made.start()
        yield made
    finally:
        made.process.kill()  # its workers notice
        made.process.wait()


def test_all_modules_can_be_imported_without_what_only_linux_has() -> None:
    code = (
        f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)\nprint(len({MODULES!r}))"
    )
    run = elsewhere(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = run.communicate(timeout=PATIENCE)
    assert (out.strip(), err, run.returncode) == (str(len(MODULES)).encode(), b"", 0)


def test_what_is_taken_away_was_there() -> None:
    """Else the other tests here would show nothing."""
    if sys.platform == "linux":
        assert hasattr(os, "pipe2")
        assert hasattr(select, "epoll")
        assert hasattr(socket, "TCP_DEFER_ACCEPT")
    code = (
        "import os, select, socket, selectors;"
        "print(hasattr(os, 'pipe2'), hasattr(select, 'epoll'), hasattr(socket, 'TCP_DEFER_ACCEPT'));"
        "print(selectors.DefaultSelector.__name__)"
    )
    run = elsewhere(code, stdout=subprocess.PIPE)
    assert run.communicate(timeout=PATIENCE)[0].split() == [b"False", b"False", b"False", b"KqueueSelector"]


def test_it_serves_requests(server: Server) -> None:
    assert server.ask(body=b" and what was sent").startswith(b"darwin False ")
    assert server.ask(body=b"y" * 300_000).endswith(b"y" * 300_000)
    assert server.ask("/file") == b"x" * 1_000_000


def test_it_replaces_its_workers_and_stops(server: Server) -> None:
    before = server.pid()
    server.process.send_signal(signal.SIGHUP)
    server.says("ready after", 4)
    eventually(lambda: server.pid() != before)
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_without_subreapers_each_worker_loads_the_application(tmp_path: Path) -> None:
    server = Server(tmp_path, "--preload")
    try:
        server.start()
        server.says("preload_app has no effect: this platform has no subreapers")
        assert "template" not in server.log
        assert server.ask(body=b"x").startswith(b"darwin False ")
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
