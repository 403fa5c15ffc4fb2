# SPDX-License-Identifier: MIT
"""A real server process in a folder of its own, and its end."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import subprocess
import sys
import time
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Any, Final, Self

from prefork.testing import client, processes
from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from prefork.testing.client import Address, Answer

_OURS: Final = ("PREFORK_", "LISTEN_")
_READ: Final = frozenset({"WEB_CONCURRENCY", "PORT", "FORWARDED_ALLOW_IPS", "NOTIFY_SOCKET", "SCRIPT_NAME"})
"""Variables that a server reads, and that a developer's shell may have."""

_SIDES: Final = 16
"""So many pytest processes at most run side by side."""
_SIDE: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SIDES
_PORTS: Final = range(20000, 32000)[_SIDE::_SIDES]
"""Below what the kernel gives to clients, so that no connection of a load takes one in between. No two
processes look for a free one among the same."""


def reserve(host: str = "127.0.0.1") -> socket.socket:
    """Return a socket bound to a port that nobody else has, which a server may share while it is open."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.bind((host, random.choice(_PORTS)))
        except OSError:
            sock.close()
            continue
        # Only now: who has not yet found it taken may not have it, and the server, which says the same, may.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody has."""
    with reserve(host) as sock:
        return int(sock.getsockname()[1])


def clean_environ(**more: str) -> dict[str, str]:
    """Return this process's environment without what servers read, and with more."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_OURS) and name not in _READ
    }
    # Two versions of a module within a second and of one size would share a cached compilation.
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


_OTHERS: Final = ("prefork: template", "prefork: status")
"""How the titles of an arbiter's children begin that are no workers."""
_BUG: Final = "error in the arbiter"


class Server:
    """A running `python -m prefork`, for a `with` statement.

    Leaving it stops the server; what is left of it by then is killed, and is a failure unless the test
    has failed already. So is an error of the arbiter's own. Its log is printed, which pytest shows when the
    test fails.

    Args:
        folder: it runs there; files of applications and configurations belong there.
        arguments: the command line.
        address: where it will listen, added as `--bind`; None for a free TCP port.
        bind: False when the address is in a configuration file or elsewhere.
        environ: variables to add to a clean environment.
        expect: the exit code that `stop` wants to see.
        ready: whether to wait until it answers.
        wrapper: a command that runs the server's command.
        popen: more arguments for subprocess.Popen, or others than its standard streams have here.

    Attributes:
        address: where it listens.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        address: Address | None = None,
        bind: bool = True,
        environ: Mapping[str, str] | None = None,
        expect: int = 0,
        ready: bool = True,
        wrapper: Iterable[str] = (),
        **popen: Any,
    ) -> None:
        self.folder = folder
        self._reserved: socket.socket | None = None
        if address is None:
            # No server of another test can take the port before ours does, and be taken for it.
            self._reserved = reserve()
            address = ("127.0.0.1", self._reserved.getsockname()[1])
        self.address = address
        self._expect = expect
        self._ready = ready
        self._command = [*wrapper, sys.executable, "-m", "prefork", *arguments]
        if bind:
            self._command += ["--bind", bind_text(self.address)]
        self._environ = clean_environ(**(environ or {}))
        self._popen = popen
        self._output = folder / f"server-{os.urandom(3).hex()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    # The process

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, **self._popen}
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._environ, start_new_session=True, **streams
            )
        try:
            if self._ready:
                self.wait_ready()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            left = self._clean_up()
        if kind is None:
            assert not left, f"the server left processes behind: {left}"
            assert _BUG not in self.log()

    @property
    def started(self) -> int:
        """The pid of the process that was started, which leads the session."""
        assert self._process is not None
        return self._process.pid

    @property
    def pid(self) -> int:
        """The arbiter."""
        return self.started

    @property
    def exit_code(self) -> int | None:
        """How the process that was started has ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether the arbiter runs."""
        return self.exit_code is None

    def signal(self, number: Signals, *, to_all: bool = False) -> None:
        """Send the arbiter a signal, or all processes of the server, as systemd and a terminal do."""
        assert self.is_running, f"the server has ended with {self.exit_code}"
        (os.killpg if to_all else os.kill)(self.pid, number)

    def workers(self) -> list[int]:
        """Return the pids of the arbiter's children that run, without templates and status processes."""
        running = [child.pid for child in processes.children(self.pid) if not child.is_zombie]
        return [pid for pid in running if not processes.title(pid).startswith(_OTHERS)]

    def wait_workers(self, count: int, timeout: float = PATIENCE) -> list[int]:
        """Wait until there is exactly so many workers; return their pids."""
        until(lambda: len(self.workers()) == count, f"{count} workers", timeout)
        return self.workers()

    def wait_ready(self, timeout: float = PATIENCE) -> Answer:
        """Wait until the server answers a request, whatever it says.

        Raises:
            AssertionError: it ended instead, or the time was over.
        """
        deadline = time.monotonic() + timeout
        why = ""
        while time.monotonic() < deadline:
            assert self.exit_code is None, f"the server ended with {self.exit_code} before it was ready"
            try:
                return client.ask(self.address, "/ready", timeout=max(deadline - time.monotonic(), 0.1))
            except client.RequestFailed as error:
                why = str(error)
                time.sleep(0.02)
        raise AssertionError(f"the server did not answer within {timeout:g} s: {why}")

    def wait_exit(self, timeout: float = PATIENCE) -> int:
        """Wait until the process that was started has ended; return its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the server did not end within {timeout:g} s") from error

    def stop(self, number: Signals = SIGTERM, timeout: float = PATIENCE) -> None:
        """Stop the server if it runs, and check its exit code."""
        if self.is_running:
            self.signal(number)
        until(lambda: not self.is_running, "the end of the server", timeout)
        code = self.wait_exit(timeout)
        assert code == self._expect, f"the server ended with {code}, not {self._expect}"

    def belonging(self) -> list[processes.Process]:
        """Return all processes of the server: of its session, or in its folder, as a daemon's are."""
        folder = str(self.folder.resolve())
        return [
            found
            for found in processes.all_processes()
            if found.session == self.started
            or (not found.is_zombie and processes.folder(found.pid).startswith(folder))
        ]

    def _clean_up(self) -> list[str]:
        """Kill what is left, print the log; return what was left."""
        running = [found.pid for found in self.belonging() if not found.is_zombie]
        left = [f"{pid} ({processes.title(pid)})" for pid in running]
        if left:
            self._kill_all()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
        if self._reserved is not None:
            self._reserved.close()
        print(f"--- {shlex.join(self._command)}: ended with {self.exit_code}; its output:")
        print(self.log())
        return left

    def _kill_all(self) -> None:
        """Kill until nothing is left: an arbiter may just be forking."""

        def none_left() -> bool:
            running = [found.pid for found in self.belonging() if not found.is_zombie]
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)
            return not running

        until(none_left, "all processes of the server killed")

    # What it says

    def log(self) -> str:
        """Return what the server has written to its standard output and error so far."""
        return self._output.read_text(errors="replace")

    def wait_log(self, text: str, *, count: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until the output has a text so many times."""
        until(lambda: self.log().count(text) >= count, f"{count} x {text!r} in the log", timeout)

    # What it answers

    def ask(self, path: str = "/", *fields: str, **more: Any) -> Answer:
        """Send one request; see `client.ask`."""
        return client.ask(self.address, path, *fields, **more)


def bind_text(address: Address) -> str:
    """Return an address as `--bind` has it."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
