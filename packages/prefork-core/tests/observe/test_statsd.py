# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import pytest

from prefork.errors import ConfigError
from prefork.observe.access import Exchange
from prefork.observe.statsd import CountingAccessLog, CountingHandler, Statsd

PATIENCE = 20.0


class Listening:
    """A statsd server that hears all."""

    def __init__(
        self, family: int = socket.AF_INET, address: str | tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(PATIENCE)
        self.name = self._socket.getsockname()

    @property
    def host(self) -> str:
        return f"unix://{self.name}" if isinstance(self.name, str) else f"{self.name[0]}:{self.name[1]}"

    def hear(self) -> list[str]:
        return self._socket.recv(65536).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


def test_a_request_is_one_datagram_of_gunicorns_three_metrics() -> None:
    server = Listening()
    Statsd(server.host).count_request(200, 0.0123456)
    assert server.hear() == [
        "gunicorn.requests:1|c",
        "gunicorn.request.duration:12.346|ms",
        "gunicorn.request.status.200:1|c",
    ]


def test_a_request_without_a_response_has_no_status() -> None:
    server = Listening()
    Statsd(server.host).count_request(0, 1.0)
    assert server.hear() == ["gunicorn.requests:1|c", "gunicorn.request.duration:1000.000|ms"]


@pytest.mark.parametrize("prefix", ["shop", "shop."])
def test_prefix_and_tags_are_of_every_metric(prefix: str) -> None:
    server = Listening()
    statsd = Statsd(server.host, prefix, "env:live,zone:eu")
    statsd.count_request(404, 0.0)
    statsd.gauge("workers", 3)
    assert server.hear() == [
        "shop.gunicorn.requests:1|c|#env:live,zone:eu",
        "shop.gunicorn.request.duration:0.000|ms|#env:live,zone:eu",
        "shop.gunicorn.request.status.404:1|c|#env:live,zone:eu",
    ]
    assert server.hear() == ["shop.gunicorn.workers:3|g|#env:live,zone:eu"]


def test_a_unix_socket_that_is_made_anew_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "statsd.sock"
    server = Listening(socket.AF_UNIX, str(path))
    statsd = Statsd(server.host)
    statsd.count("a")
    assert server.hear() == ["gunicorn.a:1|c"]
    server.close()
    path.unlink()
    statsd.count("b")
    server = Listening(socket.AF_UNIX, str(path))
    statsd.count("c")
    assert server.hear() == ["gunicorn.c:1|c"]


def test_a_server_that_does_not_listen_or_not_quickly_costs_nothing(tmp_path: Path) -> None:
    server = Listening(socket.AF_UNIX, str(tmp_path / "statsd.sock"))
    full = Statsd(server.host)
    gone = Listening()
    nobody = Statsd(gone.host)
    gone.close()
    for _ in range(5000):
        full.count_request(200, 0.1)
        nobody.count_request(200, 0.1)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("localhost:http", "no address"),
        ("localhost:0", "no address"),
        (":8125", "no address"),
        (f"{'long' * 16}:8125", "cannot find longlong"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(host: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Statsd(host)


@pytest.mark.parametrize("host", ["localhost", "localhost:8125", "udp://127.0.0.1:8125", "[::1]:8125"])
def test_all_other_forms_are_understood(host: str) -> None:
    if "::" in host and not socket.has_ipv6:
        return
    Statsd(host).count("a")


class Lines:
    """An access log that is a list."""

    shows_queue = True

    def __init__(self) -> None:
        self.lines: list[Exchange] = []

    def write(self, exchange: Exchange) -> None:
        self.lines.append(exchange)


def test_an_access_log_is_written_as_without_it() -> None:
    server, lines = Listening(), Lines()
    log = CountingAccessLog(Statsd(server.host), lines)
    exchange = Exchange(status=200, duration=0.5)
    log.write(exchange)
    assert lines.lines == [exchange]
    assert log.shows_queue
    assert server.hear()[1] == "gunicorn.request.duration:500.000|ms"


def test_without_an_access_log_requests_are_counted_too() -> None:
    server = Listening()
    log = CountingAccessLog(Statsd(server.host), None)
    log.write(Exchange(status=500))
    assert not log.shows_queue
    assert server.hear()[2] == "gunicorn.request.status.500:1|c"


@pytest.mark.parametrize(
    ("level", "traceback", "name"),
    [
        (logging.WARNING, False, "warning"),
        (logging.ERROR, False, "error"),
        (logging.ERROR, True, "exception"),
        (logging.CRITICAL, True, "critical"),
        (logging.ERROR + 5, False, "error"),
    ],
)
def test_records_of_the_error_log_are_counted_by_level(level: int, traceback: bool, name: str) -> None:
    server = Listening()
    try:
        raise ValueError
    except ValueError:
        error = sys.exc_info() if traceback else None
    logger = logging.getLogger("test.statsd")
    logger.setLevel(logging.DEBUG)
    logger.handlers = [CountingHandler(Statsd(server.host))]
    logger.info("not counted")
    logger.handle(logging.LogRecord("x", level, "", 0, "", None, error))
    assert server.hear() == [f"gunicorn.log.{name}:1|c"]
