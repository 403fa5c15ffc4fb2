# SPDX-License-Identifier: MIT
"""Decides what is sent to a server, and what counts as a valid answer to it. Knows no server."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import hello

CASES: Final = {
    "close": "close",
    "keepalive": "keep-alive",
}
"""Name of the case → the `Connection` field of its requests."""

BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://www.example.org/catalogue/2?sort=price",
    "Cookie": "sessionid=8f1c3a0d7e5b4f6294d0c1b2a3948576; theme=dark",
    "Upgrade-Insecure-Requests": "1",
}
"""What a browser sends with `Host` and `Connection`: nine fields in all."""

CONNECTIONS: Final = 16
TARGET: Final = "/catalogue/17/items?page=3&sort=price"


class LoadError(Exception):
    """The load generator is missing, or a round cannot be counted."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw in one run.

    Args:
        requests: answers counted.
        seconds: how long it ran.
        errors: kind → how many; a valid run has none.
        p50: median latency in microseconds.
        p99: 99th percentile of latency in microseconds.
    """

    requests: int
    seconds: float
    errors: dict[str, int]
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


def check(host: str, port: int, case: str) -> None:
    """Send one request and check the whole answer, which wrk does not.

    Raises:
        LoadError: the answer is not the application's.
        OSError: nothing answers.
    """
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", TARGET, headers={**BROWSER, "Connection": CASES[case]})
        response = connection.getresponse()
        answer = (response.status, response.getheader("Content-Type"), response.read())
    finally:
        connection.close()
    if answer != (200, "text/plain", hello.BODY):
        raise LoadError(f"wrong answer: {answer!r}")


def run(host: str, port: int, case: str, seconds: float, core: int) -> Load:
    """Load a server for some seconds with wrk, pinned to a core.

    Args:
        host: where the server listens.
        port: the same.
        case: a name of `CASES`.
        seconds: how long; wrk takes whole ones.
        core: the core that wrk gets.

    Returns:
        What was counted, errors included.

    Raises:
        LoadError: wrk itself failed.
    """
    fields = {**BROWSER, "Connection": CASES[case]}
    headers = [argument for name, value in fields.items() for argument in ("-H", f"{name}: {value}")]
    script = str(Path(__file__).with_name("wrk.lua"))
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "5s", "-s", script]
    finished = subprocess.run(
        [find_wrk(), *options, *headers, f"http://{host}:{port}{TARGET}"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(os.sched_setaffinity, 0, {core}),
    )
    if finished.returncode:
        raise LoadError(f"wrk: {finished.stderr.strip() or finished.stdout.strip()}")
    seen: dict[str, int] = json.loads(finished.stdout.splitlines()[-1])
    errors = {kind: seen[kind] for kind in ("connect", "read", "write", "timeout", "status") if seen[kind]}
    return Load(seen["requests"], seen["microseconds"] / 1e6, errors, seen["p50"], seen["p99"])
