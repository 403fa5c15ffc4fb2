# SPDX-License-Identifier: MIT
"""Counts and times for a statsd server, under gunicorn's names, so that dashboards stay.

It decides names and form. Each request is one datagram of three lines, which every server takes apart, where
gunicorn sends three. A datagram that cannot be sent at once is lost: metrics may not cost a request.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Final

from prefork.errors import ConfigError

if TYPE_CHECKING:
    from prefork.observe.access import AccessLog, Exchange

PORT: Final = 8125
_UNIX: Final = "unix://"

_LEVELS: Final = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
)


class Statsd:
    """The way to a statsd server. No method waits or raises, whatever becomes of the server.

    Args:
        host: `HOST:PORT`, or `unix://PATH` of a datagram socket.
        prefix: before each name, with a dot between; empty for none.
        tags: `name:value,…` for each metric, as DogStatsD has them; empty for none.

    Raises:
        ConfigError: the address cannot be used, or its name is not known.
    """

    __slots__ = ("_address", "_prefix", "_socket", "_tail")

    def __init__(self, host: str, prefix: str = "", tags: str = "") -> None:
        family, self._address = _resolve(host)
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise ConfigError(f"statsd_host: no socket for {host}: {error.strerror}") from error
        self._socket.setblocking(False)
        prefix = prefix.rstrip(".")
        self._prefix = f"{prefix}.gunicorn" if prefix else "gunicorn"
        self._tail = f"|#{tags}" if tags else ""

    def count_request(self, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            status: that was sent, 0 for none.
            seconds: that it took.
        """
        name, tail = f"{self._prefix}.request", self._tail
        text = f"{name}s:1|c{tail}\n{name}.duration:{seconds * 1e3:.3f}|ms{tail}"
        self._send(f"{text}\n{name}.status.{status}:1|c{tail}" if status else text)

    def count(self, name: str) -> None:
        """Count something that has happened once.

        Args:
            name: such as "log.error".
        """
        self._send(f"{self._prefix}.{name}:1|c{self._tail}")

    def gauge(self, name: str, value: int) -> None:
        """Say how much there is of something now.

        Args:
            name: such as "workers".
            value: how much.
        """
        self._send(f"{self._prefix}.{name}:{value}|g{self._tail}")

    def _send(self, text: str) -> None:
        try:
            # Not connected: a server that is started again has another socket behind the same path.
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            return  # nobody listens, or not quickly enough

    def close(self) -> None:
        """Close the socket; what comes later is lost."""
        self._socket.close()


def _resolve(host: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    if host.startswith(_UNIX):
        return socket.AF_UNIX, host.removeprefix(_UNIX)
    name, _, port = host.removeprefix("udp://").rpartition(":") if ":" in host else (host, "", str(PORT))
    if not port.isdecimal() or not 0 < int(port) < 65536 or not name:
        raise ConfigError(f"statsd_host: {host!r} is no address", hint="write HOST:PORT or unix://PATH")
    try:
        found = socket.getaddrinfo(name.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: it cannot be a name of DNS
        raise ConfigError(f"statsd_host: cannot find {name}: {error}") from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


class CountingAccessLog:
    """An access log that counts each request, and then writes it where it is written anyway.

    Args:
        statsd: where to.
        log: the access log, None if there is none.
    """

    __slots__ = ("_log", "_statsd", "shows_queue")

    def __init__(self, statsd: Statsd, log: AccessLog | None) -> None:
        self.shows_queue = log is not None and log.shows_queue
        self._statsd = statsd
        self._log = log

    def write(self, exchange: Exchange) -> None:
        """Count a request and write its line. Never raises."""
        self._statsd.count_request(exchange.status, exchange.duration)
        if self._log is not None:
            self._log.write(exchange)


class CountingHandler(logging.Handler):
    """Counts the records of the error log from WARNING on, by level; with a traceback they are exceptions.

    Args:
        statsd: where to.
    """

    def __init__(self, statsd: Statsd) -> None:
        super().__init__(logging.WARNING)
        self._statsd = statsd

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record."""
        if record.levelno < logging.CRITICAL and record.exc_info and record.exc_info[0] is not None:
            self._statsd.count("log.exception")
            return
        name = next(name for level, name in _LEVELS if record.levelno >= level)
        self._statsd.count(f"log.{name}")
