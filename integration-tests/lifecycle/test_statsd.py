# SPDX-License-Identifier: MIT
"""What is counted is what clients got, also when nobody listens."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from pathlib import Path

from support.application import deploy
from support.server import Server
from support.workers import UNDER_BOTH

from prefork.testing import client
from prefork.testing.waiting import until

pytestmark = UNDER_BOTH


class Statsd:
    """A statsd server: sums of counters, the last value of gauges, all times."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.counters: Counter[str] = Counter()
        self.gauges: dict[str, int] = {}
        self.times: dict[str, list[float]] = {}

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def look(self) -> Counter[str]:
        """Take in what has arrived."""
        while True:
            try:
                lines = self._socket.recv(65536).decode().split("\n")
            except BlockingIOError:
                return self.counters
            for line in lines:
                name, _, rest = line.partition(":")
                value, kind = rest.split("|")[:2]
                if kind == "c":
                    self.counters[name] += int(value)
                elif kind == "g":
                    self.gauges[name] = int(value)
                else:
                    self.times.setdefault(name, []).append(float(value))


def test_every_request_is_counted_once(tmp_path: Path) -> None:
    deploy(tmp_path, request="1 / 0 if path == '/error' else None")
    statsd = Statsd()
    with Server(tmp_path, f"-w 2 --statsd-host {statsd.host} --statsd-prefix shop app:app") as server:
        until(lambda: statsd.look()["shop.gunicorn.requests"] == 1, "the request that shows it is ready")
        for _ in range(20):
            assert server.ask().status == 200
        assert server.ask("/error").status == 500
        with client.connect(server.address) as sock:
            client.send(sock, b"no request\r\n\r\n")
            assert client.read_answer(sock).status == 400
        until(lambda: statsd.look()["shop.gunicorn.requests"] >= 23, "all requests counted")
        assert statsd.look()["shop.gunicorn.requests"] == 23
        assert statsd.counters["shop.gunicorn.request.status.200"] == 21
        assert statsd.counters["shop.gunicorn.request.status.500"] == 1
        assert statsd.counters["shop.gunicorn.request.status.400"] == 1
        assert statsd.counters["shop.gunicorn.log.exception"] == 1
        assert len(statsd.times["shop.gunicorn.request.duration"]) == 23


def test_the_number_of_workers_is_told_when_it_changes(tmp_path: Path) -> None:
    deploy(tmp_path)
    statsd = Statsd()

    def workers() -> int | None:
        statsd.look()
        return statsd.gauges.get("gunicorn.workers")

    with Server(tmp_path, f"-w 1 --statsd-host {statsd.host} app:app") as server:
        until(lambda: workers() == 1, "one worker")
        server.signal(signal.SIGTTIN)
        until(lambda: workers() == 2, "two workers")
        server.signal(signal.SIGTTOU)
        until(lambda: workers() == 1, "one worker again")


def test_a_statsd_server_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 --statsd-host unix://{tmp_path}/statsd.sock app:app") as server:
        for _ in range(20):
            assert server.ask().status == 200
