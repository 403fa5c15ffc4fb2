# SPDX-License-Identifier: MIT
"""The worker class under test: what its author says of it, and servers that have it.

It decides which tests there are for which kind of worker class, which servers tests share, and how a test
holds a request in the application.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeVar

import pytest

from prefork.testing import client, control
from prefork.testing.server import Server
from prefork.testing.waiting import until

_ACCESS: Final = ("--access-logfile", "-", "--access-logformat", "access %(s)s %(B)s %(r)s")
"""A line for each request that can be known by its path."""

_NEEDED: Final = "_conformance_needs"

Test = TypeVar("Test", bound=Callable[..., object])


def needs(attribute: str) -> Callable[[Test], Test]:
    """Return what keeps a test from worker classes of which an attribute of `Subject` is not true."""

    def mark(test: Test) -> Test:
        setattr(test, _NEEDED, attribute)
        return test

    return mark


def needed_by(test: object) -> str | None:
    """Return the attribute of `Subject` that has to be true for a test, None when it is there for all."""
    found: str | None = getattr(test, _NEEDED, None)
    return found


class Subject:
    """A worker class under test, and its servers."""

    worker: ClassVar[str]
    """What `-k` gets: a registered name, or package.module:Class."""
    options: ClassVar[tuple[str, ...]] = ()
    """More of the command line, for every server: `("--threads", "8")`."""
    app: ClassVar[str] = "prefork.trial.wsgi:app"
    """The application, MODULE:NAME, which answers as `prefork.trial.answers` says. It may be beside the test.
    For worker classes that serve ASGI 3 there is `prefork.trial.asgi:app`."""
    keeps_alive: ClassVar[bool] = True
    """Whether a connection may have more than one request."""
    concurrent: ClassVar[bool] = True
    """Whether one worker may have more than one request in the application."""
    ends_blocked: ClassVar[bool] = True
    """Whether a request that holds its thread for longer than `timeout` is ended. Not so where an event loop
    hands requests to threads of its own, and turns on."""

    def __init_subclass__(cls, **more: Any) -> None:
        """Take away the tests that the worker class is not made for, so that none is skipped."""
        super().__init_subclass__(**more)
        for name in dir(cls):
            needed = needed_by(getattr(cls, name))
            if needed is not None and not getattr(cls, needed):
                setattr(cls, name, None)  # pytest collects what can be called

    # Servers

    @classmethod
    def start(cls, folder: Path, *flags: str, **more: Any) -> Server:
        """Return a server with the worker class, for a `with` statement.

        Args:
            folder: where it runs.
            flags: more of its command line.
            more: keywords of `Server`.
        """
        deploy(folder, "one")
        arguments = [
            "-k",
            cls.worker,
            *cls.options,
            "--control-socket",
            control.SOCKET,
            *_ACCESS,
            *flags,
            cls.app,
        ]
        return Server(folder, arguments, environ={"PYTHONPATH": cls._path()}, **more)

    @classmethod
    def _path(cls) -> str:
        """Return where a server looks for modules: as we do, and beside the test first."""
        beside = str(Path(inspect.getfile(cls)).parent)
        return os.pathsep.join(filter(None, [beside, os.environ.get("PYTHONPATH", "")]))

    @pytest.fixture(scope="class")
    @classmethod
    def _shared(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """Run one server for all tests that change nothing of it."""
        with cls.start(tmp_path_factory.mktemp("plain"), "-w", "1") as server:
            yield server

    @pytest.fixture
    def server(self, _shared: Server) -> Iterator[Server]:
        """A server with one worker, which other tests use too."""
        yield from _shown(_shared)

    @pytest.fixture(scope="class")
    @classmethod
    def _impatient(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
        """Run one server for all tests of clients that say nothing."""
        flags = ("-w", "1", "--header-timeout", "1", "--keep-alive", "1")
        with cls.start(tmp_path_factory.mktemp("impatient"), *flags) as server:
            yield server

    @pytest.fixture
    def impatient(self, _impatient: Server) -> Iterator[Server]:
        """A server with one worker, which waits for one second for a head, or a first byte."""
        yield from _shown(_impatient)


def _shown(server: Server) -> Iterator[Server]:
    """Yield a server that tests share; what it says meanwhile is shown when the test fails."""
    known = len(server.log())
    yield server
    print(server.log()[known:])


def deploy(folder: Path, version: str) -> None:
    """Let the application that is imported from now on be of a version."""
    fresh = folder / "version.new"
    fresh.write_text(version)
    os.replace(fresh, folder / "version")


# Requests that wait in the application


_numbers = itertools.count(1)


def fresh(does: str) -> str:
    """Return a path of one of the application's routes that nobody has asked for."""
    return f"/{does}/{next(_numbers)}"


class Held:
    """A request that waits in the application until it is released, for a `with` statement.

    Args:
        server: who gets it.
        does: "hold", or another route that waits.

    Attributes:
        path: what is asked for.
        pid: of the worker that has it.
        kept: its connection.
    """

    def __init__(self, server: Server, does: str = "hold") -> None:
        self._server = server
        self.path = fresh(does)
        self.kept = client.Kept(server.address)
        self.kept.send(client.render(self.path))
        self.pid = wait_held(server, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        """Let it go, so that the server can be stopped or used by others."""
        release(self._server, self.path)
        self.kept.close()

    def finish(self) -> client.Answer:
        """Let it go, and return its answer."""
        release(self._server, self.path)
        return self.kept.read()


def wait_held(server: Server, path: str) -> int:
    """Wait until a request is in the application that waits there; return the pid of its worker."""
    return until(lambda: _holder(server, path), f"{path} in the application")


def _holder(server: Server, path: str) -> int:
    """Return the pid of the worker that has a request, 0 for none yet."""
    try:
        line = (server.folder / f"{_name(path)}.held").read_text()
    except FileNotFoundError:
        return 0
    return int(line) if line.endswith("\n") else 0


def release(server: Server, path: str) -> None:
    """Let a request go on that waits in the application, or will."""
    (server.folder / f"{_name(path)}.released").touch()


def _name(path: str) -> str:
    return path.rpartition("/")[2]
