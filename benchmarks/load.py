# SPDX-License-Identifier: MIT
"""Decides how a case's requests are sent: by wrk, by our own clients, once to check. Knows no server."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fields import FIXED, Fields
from processes import confine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from cases import Case

VISITORS: Final = 8
"""Clients that look at pages at once: more than there are workers, so that each has something to do."""
PATIENCE: Final = 40.0
"""Seconds beyond its own time after which a load generator is given up."""


class LoadError(Exception):
    """The load generator is missing, or a run cannot be counted."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw in one run.

    Args:
        requests: answers counted.
        seconds: how long it ran.
        p50: median latency in microseconds.
        p99: 99th percentile of latency in microseconds.
    """

    requests: int
    seconds: float
    p50: int
    p99: int


def find_wrk() -> str:
    """Return the path of wrk.

    Raises:
        LoadError: it is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise LoadError("wrk generates the load and is not installed; on Debian: apt-get install wrk")
    return path


@dataclass(frozen=True, slots=True)
class Generator:
    """Sends a case's requests to a server.

    Args:
        host: where it listens.
        port: the same.
        case: what is sent.
        cores: that load generators are pinned to.
    """

    host: str
    port: int
    case: Case
    cores: AbstractSet[int]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of each request that do not change, but `Host`."""
        return {**FIXED[self.case.fields], "Connection": "keep-alive" if self.case.persistent else "close"}

    def check(self) -> None:
        """Send one request and check the whole answer, which wrk does not.

        Raises:
            LoadError: the answer is not the application's.
            OSError: nothing answers.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        method, body = ("POST", b"u" * self.case.body) if self.case.body else ("GET", None)
        try:
            connection.request(method, self.case.target, body=body, headers=self.fields)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        except http.client.HTTPException as error:
            raise LoadError(f"no answer: {error!r}") from error
        finally:
            connection.close()
        if status != 200 or not self.case.correct(answer):
            raise LoadError(f"wrong answer: {status} {answer[:200]!r}")

    def visit(self, times: int) -> Counter[int]:
        """Ask for the case's pages in turn, by several clients, each request on a connection of its own.

        Args:
            times: how many requests.

        Returns:
            How many of them each process has answered, as the field `X-Process` of its answers says.

        Raises:
            LoadError: a page was answered with another status than 200, or by nobody.
            OSError: nothing answers.
        """
        pages = itertools.islice(itertools.cycle(self.case.pages), times)
        with ThreadPoolExecutor(VISITORS) as pool:
            return Counter(pool.map(self._page, pages))

    def _page(self, target: str) -> int:
        """Ask for a page; return the pid of who answered."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request("GET", target, headers=self.fields)
            response = connection.getresponse()
            response.read()
            status, process = response.status, response.getheader("X-Process")
        except http.client.HTTPException as error:
            raise LoadError(f"{target}: no answer: {error!r}") from error
        finally:
            connection.close()
        if status != 200 or process is None:
            raise LoadError(f"{target}: {status}, by {process}")
        return int(process)

    def _wrk(self, seconds: float) -> subprocess.Popen[str]:
        """Start wrk for some seconds, of which it takes whole ones."""
        headers = [part for name, value in self.fields.items() for part in ("-H", f"{name}: {value}")]
        script = str(Path(__file__).with_name("wrk.lua"))
        options = ["-t1", f"-c{self.case.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
        return subprocess.Popen(
            [
                find_wrk(),
                *options,
                "-s",
                script,
                *headers,
                f"http://{self.host}:{self.port}{self.case.target}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "BENCH_BODY": str(self.case.body),
                **({"BENCH_VARY": "1"} if self.case.fields is Fields.VARIED else {}),
            },
            preexec_fn=partial(confine, self.cores),  # noqa: PLW1509 - this program has one thread
        )

    def warm(self, seconds: float) -> None:
        """Load the server for less than a second, which is enough for all code to have run often.

        Raises:
            LoadError: the server answers wrongly now.
            OSError: it does not answer.
        """
        process = self._wrk(10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        self.check()  # answered after what wrk has left in the server's queue

    def load(self, seconds: float) -> Load:
        """Load the server with wrk.

        Args:
            seconds: how long; wrk takes whole ones.

        Returns:
            What was counted.

        Raises:
            LoadError: wrk failed, or saw an error, a status over 399 or no answer at all.
        """
        process = self._wrk(seconds)
        output, errors = process.communicate(timeout=seconds + PATIENCE)
        if process.returncode:
            raise LoadError(f"wrk: {errors.strip() or output.strip()}")
        seen: dict[str, int] = json.loads(output.splitlines()[-1])
        wrong = {kind: seen[kind] for kind in ("connect", "read", "write", "timeout", "status") if seen[kind]}
        if wrong or not seen["requests"]:
            raise LoadError(f"errors seen by wrk: {wrong or 'no answer'}, {seen['requests']} answers")
        return Load(seen["requests"], seen["microseconds"] / 1e6, seen["p50"], seen["p99"])

    def play(self, mode: str, **spec: Any) -> dict[str, float]:
        """Run our own clients to their end and return what they saw, wrong answers too.

        Args:
            mode: of clients.py.
            spec: as in `clients.Spec`.

        Raises:
            LoadError: they failed.
        """
        with self.crowd(mode, hold=False, **spec) as end:
            return end()

    def ask(self, mode: str, **spec: Any) -> dict[str, float]:
        """Do as `play`, where a wrong answer is none of the figures.

        Raises:
            LoadError: they failed, or an answer was not that of its request.
        """
        seen = self.play(mode, **spec)
        if seen["wrong"]:
            raise LoadError(f"clients {mode}: {seen['wrong']:.0f} answers were not those of their requests")
        return seen

    @contextlib.contextmanager
    def crowd(self, mode: str, *, hold: bool = True, **spec: Any) -> Iterator[Callable[[], dict[str, float]]]:
        """Keep a crowd of our own clients in place.

        Args:
            mode: of clients.py.
            hold: whether the crowd says when it is there and stays until it is told to go.
            spec: as in `clients.Spec`.

        Yields:
            What ends it, if it has not ended, and returns what it saw.

        Raises:
            LoadError: it could not be made.
        """
        wanted = {
            "mode": mode,
            "host": self.host,
            "port": self.port,
            "persistent": self.case.persistent,
            **spec,
        }
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("clients.py")), json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=partial(confine, self.cores),  # noqa: PLW1509 - this program has one thread
        )
        assert process.stdout is not None

        def end() -> dict[str, float]:
            output, errors = process.communicate(timeout=wanted.get("seconds", 0) + PATIENCE)
            if process.returncode:
                raise LoadError(f"clients {mode}: {errors.strip().splitlines()[-1:]}")
            seen: dict[str, float] = json.loads(output.splitlines()[-1])
            return seen

        try:
            if hold and process.stdout.readline() != "ready\n":
                end()
                raise LoadError(f"clients {mode}: no crowd")
            yield end
        finally:
            if process.returncode is None:
                process.kill()
                process.communicate()
