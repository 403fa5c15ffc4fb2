# SPDX-License-Identifier: MIT
"""The clients of a status listener: many at once, none of which can keep another one waiting.

It decides how long a client may take, how many there can be, and who goes when there are too many. What is
answered is `answers`. A connection brings one request: probes are seldom, and idle connections would be in
the way of the next one.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from prefork.errors import ClientDisconnected, ProtocolError
from prefork.http import Limits, ServerConnection
from prefork.net.clock import http_date
from prefork.net.poller import READ, WRITE, Poller
from prefork.net.stream import Stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from prefork.net.listener import Listener
    from prefork.status.answers import Answer

    Answers = Callable[[str, str], Answer]

PATIENCE: Final = 5.0
"""Seconds that a client has to ask, and to take the answer."""
LINGER: Final = 1.0
"""Seconds that it has then to close the connection (RFC 9112 section 9.6)."""
MOST_CLIENTS: Final = 128
"""At once. For one more, the one that has been here for longest goes: a probe takes milliseconds, so it is
somebody who has no intention to ask."""
PAUSE: Final = 0.5
"""Seconds without accepting when the system has no descriptor left."""
LIMITS: Final = Limits(line=2048, fields=64, field_size=4096)


class Turn(Enum):
    """What is to come on a connection."""

    REQUEST = "the request"
    RESPONSE = "the rest of the response, to be taken"
    END = "its end"


class Client:
    """One connection.

    Args:
        sock: connected.
        now: monotonic seconds.
    """

    __slots__ = ("deadline", "http", "stream", "turn", "watched")

    def __init__(self, sock: socket.SocketType, now: float) -> None:
        self.stream = Stream(sock)
        self.http = ServerConnection(LIMITS)
        self.http.persistent = False
        self.turn = Turn.REQUEST
        self.deadline = now + PATIENCE
        self.watched = READ


class StatusServer:
    """The poll set of a status process.

    Args:
        listeners: where clients come from.
        answers: returns the answer to a method and a path.
        server: the value of Server, "" for none.
        stop_fd: readable when it is to end.
    """

    def __init__(self, listeners: Sequence[Listener], answers: Answers, server: str, stop_fd: int) -> None:
        self._answers = answers
        self._server = server
        self._stop_fd = stop_fd
        self._poller = Poller()
        self._poller.watch(stop_fd, READ)
        self._listeners = {listener.sock.fileno(): listener for listener in listeners}
        self._clients: dict[int, Client] = {}
        self._resume_at = inf
        self._accept_again()

    def turn(self, timeout: float) -> bool:
        """Wait for something, and deal with it.

        Args:
            timeout: seconds to wait at most.

        Returns:
            False when the process is to end. Who has asked by then has been answered.
        """
        events = self._poller.wait(self._patience(timeout))
        goes_on = True
        for fd, _ in events:
            client = self._clients.get(fd)
            if client is not None:
                self._move(client)
            elif fd in self._listeners:
                self._accept(fd)
            elif fd == self._stop_fd:
                goes_on = False
        self._sweep(monotonic())
        return goes_on

    def _patience(self, timeout: float) -> float:
        earliest = min((client.deadline for client in self._clients.values()), default=inf)
        return max(0.0, min(timeout, min(earliest, self._resume_at) - monotonic()))

    def _sweep(self, now: float) -> None:
        for client in [client for client in self._clients.values() if client.deadline <= now]:
            if client.turn is Turn.REQUEST and client.http.buffered:
                self._refuse(client, 408)
            else:
                self._close(client)
        if self._resume_at <= now:
            self._accept_again()

    # ------------------------------------------------------------ new clients

    def _accept_again(self) -> None:
        self._resume_at = inf
        for fd in self._listeners:
            self._poller.share(fd)

    def _accept(self, fd: int) -> None:
        """Accept one: others are ready on the next turn, after those who are here already."""
        try:
            sock, _ = self._listeners[fd].accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left: it would be ready again at once, and again
            self._rest()
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._close(next(iter(self._clients.values())))
        client = Client(sock, monotonic())
        self._clients[client.stream.fd] = client
        self._poller.watch(client.stream.fd, READ)
        self._move(client)

    def _rest(self) -> None:
        if self._resume_at == inf:
            self._resume_at = monotonic() + PAUSE
            for fd in self._listeners:
                self._poller.forget(fd)

    # ------------------------------------------------------------ one client

    def _move(self, client: Client) -> None:
        try:
            if client.turn is Turn.RESPONSE:
                if client.stream.flush():
                    self._finish(client)
            else:
                self._receive(client)
        except ClientDisconnected:
            self._close(client)

    def _receive(self, client: Client) -> None:
        data = client.stream.receive()
        if data is None:
            return
        if not data:
            self._close(client)
        elif client.turn is Turn.REQUEST:
            client.http.feed(data)
            try:
                request = client.http.next_request()
            except ProtocolError as error:
                self._refuse(client, error.status)
                return
            if request is not None:
                head, body = self._answers(request.method, request.path)
                self._send(client, client.http.respond(head, body, http_date(), self._server))

    def _refuse(self, client: Client, status: int) -> None:
        self._send(client, client.http.refuse(status, date=http_date(), server=self._server))

    def _send(self, client: Client, data: bytes) -> None:
        client.turn = Turn.RESPONSE
        try:
            client.stream.send(data)
        except ClientDisconnected:
            self._close(client)
            return
        if not client.stream.out:
            self._finish(client)
        else:
            client.deadline = monotonic() + PATIENCE
            self._watch(client, WRITE)

    def _finish(self, client: Client) -> None:
        """Let the client read the answer before its connection is closed: bytes of its own would reset it."""
        if client.turn is Turn.RESPONSE and client.stream.fd in self._clients:
            client.stream.half_close()
            client.turn = Turn.END
            client.deadline = monotonic() + LINGER
            self._watch(client, READ)

    def _watch(self, client: Client, events: int) -> None:
        if client.watched != events:
            self._poller.change(client.stream.fd, events)
            client.watched = events

    def _close(self, client: Client) -> None:
        if self._clients.pop(client.stream.fd, None) is not None:
            self._poller.forget(client.stream.fd)
            client.stream.close()

    def close(self) -> None:
        """Close every connection."""
        for client in list(self._clients.values()):
            self._close(client)
        self._poller.close()
