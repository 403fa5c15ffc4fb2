# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""PostgreSQL and Redis as an application has them beside it: private to a test run, on a free port.

It decides how each is started and when it is there. A program that is missing is an error that says which
package has it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis

from prefork.testing.server import clean_environ, reserve
from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HOST: Final = "127.0.0.1"
_DEBIANS: Final = "/usr/lib/postgresql/*/bin"
"""Where Debian has the programs of a server, which are not on the path."""
_ACCOUNTS: Final = ("postgres", "nobody")
"""Who runs PostgreSQL, which refuses to be run by root, where root runs the tests."""
_USER: Final = "prefork"
_SETTINGS: Final = (
    "max_connections=300",
    "shared_buffers=16MB",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
)


class Postgres:
    """A running PostgreSQL.

    Args:
        folder: where its Unix socket is.
        port: of the loopback interface.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    @property
    def conninfo(self) -> str:
        """How an application finds it, for psycopg and psycopg2."""
        return f"host={_HOST} port={self._port} user={_USER} dbname=postgres"

    def session(self) -> Any:
        """Return a connection of the test's own, over the Unix socket."""
        return psycopg.connect(
            host=str(self._folder), port=self._port, user=_USER, dbname="postgres", autocommit=True
        )

    def ask(self, query: str) -> Any:
        """Return what comes first of the answer to a query, on a connection of its own; None for nothing.

        Not in a transaction: there pg_stat_activity does not change.
        """
        with self.session() as session:
            cursor = session.execute(query)
            return cursor.fetchone()[0] if cursor.description else None

    def locked_out(self) -> int:
        """Return how many clients wait for a lock."""
        return int(self.ask("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL that takes 300 connections."""
    account = next(filter(_exists, _ACCOUNTS)) if os.getuid() == 0 else None
    initdb = [_program("initdb", "postgresql"), "--auth=trust", f"--username={_USER}"]
    with _folder(account) as folder, reserve(_HOST) as reserved:
        data = str(folder / "data")
        _run([*initdb, "--no-sync", "--locale=C", "--encoding=UTF8", data], folder, account)
        port = int(reserved.getsockname()[1])
        command = [_program("postgres", "postgresql"), "-D", data, "-k", str(folder)]
        command += ["-h", _HOST, "-p", str(port), *(f"-c{setting}" for setting in _SETTINGS)]
        found = Postgres(folder, port)
        # It ends for SIGINT without waiting for its clients to go.
        with _running(command, folder, signal.SIGINT, account):
            until(lambda: _answers(found), f"PostgreSQL ({_output(folder)})")
            yield found


class Redis:
    """A running Redis.

    Args:
        port: of the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self.url = f"redis://{_HOST}:{port}/0"
        self.client: Any = redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=PATIENCE)

    def blocked(self) -> int:
        """Return how many clients wait for something in a list."""
        return int(self.client.info("clients")["blocked_clients"])

    def listeners(self, channel: str) -> int:
        """Return how many clients listen to a channel."""
        [(_, count)] = self.client.pubsub_numsub(channel)
        return int(count)


@contextlib.contextmanager
def redis_server() -> Iterator[Redis]:
    """Run a Redis that keeps nothing."""
    with _folder(None) as folder, reserve(_HOST) as reserved:
        port = int(reserved.getsockname()[1])
        command = [_program("redis-server", "redis-server"), "--bind", _HOST, "--port", str(port)]
        found = Redis(port)
        with _running([*command, "--save", "", "--appendonly", "no"], folder, signal.SIGTERM, None):
            until(lambda: _is_there(found), f"Redis ({_output(folder)})")
            yield found
            found.client.close()


def _program(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        FileNotFoundError: it is not installed.
    """
    debians = sorted(map(str, Path("/").glob(_DEBIANS[1:])), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *debians]))
    if found is None:
        raise FileNotFoundError(f"these tests need {name}: apt install {package}, on Debian")
    return found


def _exists(account: str) -> bool:
    try:
        return bool(pwd.getpwnam(account))
    except KeyError:
        return False


@contextlib.contextmanager
def _folder(account: str | None) -> Iterator[Path]:
    """Make a folder that an account can reach, which those of pytest are not, and with a short name."""
    with tempfile.TemporaryDirectory(prefix="prefork-") as name:
        if account is not None:
            shutil.chown(name, account)
        yield Path(name)


def _run(command: Sequence[str], folder: Path, account: str | None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=clean_environ(), user=account, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _running(
    command: Sequence[str], folder: Path, stop: signal.Signals, account: str | None
) -> Iterator[None]:
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=clean_environ(), user=account, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _output(folder: Path) -> str:
    return f"see {folder / 'output'}"


def _answers(found: Postgres) -> bool:
    try:
        return bool(found.ask("select 1"))
    except psycopg.OperationalError:
        return False


def _is_there(found: Redis) -> bool:
    try:
        return bool(found.client.ping())
    except redis.ConnectionError:
        return False
