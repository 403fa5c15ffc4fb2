# SPDX-License-Identifier: MIT
"""Connections that the application takes over, to speak another protocol on them (RFC 9110 §7.8).

Decides when a socket is offered, what becomes of the connection when it is taken, and how it ends. From
then on no byte is sent but the application's. Its call is the life of the connection: when it has returned,
the client gets the end of file.
"""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.net.handed import HandedSocket
    from prefork.wsgi.connection import Connection, Hears
    from prefork.wsgi.response import Response
    from prefork.wsgi.watch import Watch

KEYS: Final = ("prefork.socket", "gunicorn.socket")
"""What the socket is called in the environ; by the second one libraries know it (simple-websocket)."""

SWITCHED: Final = 101
"""The status that the access log has for such a request. What was sent only the application knows."""


class Takeovers:
    """The connections of a worker that its application has taken over.

    Args:
        stop_fd: readable when the worker must stop, for a worker whose only thread is in the application when
            it has a connection there; None where another thread looks and calls `wind_down`.
        offered: returns more entries for the environ with a socket.
    """

    def __init__(
        self,
        stop_fd: int | None = None,
        offered: Callable[[HandedSocket], Mapping[str, object]] = lambda _sock: {},
    ) -> None:
        self._stop_fd = stop_fd
        self._offered = offered
        self._lock = threading.Lock()
        self._taken: set[Connection] = set()
        self._winding_down = False

    def offer(self, conn: Connection, environ: dict[str, Any], response: Response, watch: Watch) -> None:
        """Put the socket of a connection, whose request asks for an upgrade, into the environ.

        Args:
            conn: the connection.
            environ: of the request.
            response: notes there what the access log says.
            watch: of the thread that serves it.
        """

        def taken() -> bytes:
            early = conn.http.take_over()
            response.begun = SWITCHED
            response.headers = []
            watch.taken()
            conn.watch = _Unhurried(watch)
            self._add(conn)
            return early

        handed = conn.stream.hand_out(taken)
        environ.update(dict.fromkeys(KEYS, handed))
        environ.update(self._offered(handed))

    def over(self, conn: Connection) -> bool:
        """Note that the application has returned; return whether it had taken the connection."""
        if conn.stream.take_back():
            return False
        with self._lock:
            self._taken.discard(conn)
        return True

    def wind_down(self) -> None:
        """Give every application that has a connection the end of file: the worker is to stop."""
        with self._lock:
            self._winding_down = True
            for conn in self._taken:
                conn.stream.end_receiving()

    def _add(self, conn: Connection) -> None:
        with self._lock:
            stop_fd, self._stop_fd = self._stop_fd, None
            self._taken.add(conn)
            if self._winding_down:
                conn.stream.end_receiving()
        if stop_fd is not None:
            threading.Thread(target=self._watch, args=(stop_fd,), name="prefork-stop", daemon=True).start()

    def _watch(self, stop_fd: int) -> None:
        """Wait for the order that nobody else can see, and leave it where it is."""
        poll = select.poll()
        poll.register(stop_fd, select.POLLIN)
        poll.poll()
        self.wind_down()


class _Unhurried:
    """Hears of a request that has no deadline any more, and remembers but its failure.

    Args:
        hears: who did before.
    """

    def __init__(self, hears: Hears) -> None:
        self.failed = hears.failed

    def progress(self) -> None:
        """Do nothing."""

    def waiting(self, deadline: float, *, to_write: bool) -> None:
        """Do nothing."""


def is_normal_end(error: BaseException) -> bool:
    """Return whether an application that has taken its connection may end with this.

    Args:
        error: what it raised. StopIteration is how libraries say that there is nothing for the server to
            send; a generator makes a RuntimeError of it (PEP 479). An OSError is what the client's end
            looks like to who sends or receives.
    """
    if isinstance(error, RuntimeError):
        return isinstance(error.__cause__, StopIteration)
    return isinstance(error, StopIteration | OSError)
