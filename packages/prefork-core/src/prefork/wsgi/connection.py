# SPDX-License-Identifier: MIT
"""One client connection of a worker: its socket, its HTTP state, and what it waits for."""

from __future__ import annotations

from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefork.errors import ClientDisconnected, ClientStalled, ProtocolError
from prefork.http.connection import ServerConnection
from prefork.net.pace import Pace
from prefork.net.stream import RECEIVE_SIZE, Stream

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from prefork.http import Limits
    from prefork.net.stream import Wait
    from prefork.wsgi.environ import Peer
    from prefork.wsgi.response import Response
    from prefork.wsgi.serve import Wants

_PIECE: Final = 16 * 1024
"""Bytes from which on a piece of a held body stays as it came: small ones cost more than they hold."""

PENDING_LIMIT: Final = 256 * 1024
"""Bytes of response kept for a client that does not take them; beyond, the application has to wait."""


class Waits(Enum):
    """What a connection waits for while no thread is with it."""

    FIRST_BYTE = "first byte"
    """It is idle: nothing of a request has arrived."""
    HEAD = "rest of the head"
    BODY = "rest of a small body"
    FLUSH = "client taking the response"
    DRAIN = "rest of a body that nobody wants"
    LINGER = "client closing"
    THREAD = "a thread"
    """Its request is there, and may be answered as soon as a thread has time."""


# Names for the hot path, see `prefork.http.states`.
AWAITS_FIRST_BYTE: Final = Waits.FIRST_BYTE
AWAITS_HEAD: Final = Waits.HEAD
AWAITS_BODY: Final = Waits.BODY
AWAITS_FLUSH: Final = Waits.FLUSH
AWAITS_DRAIN: Final = Waits.DRAIN
AWAITS_LINGER: Final = Waits.LINGER
AWAITS_THREAD: Final = Waits.THREAD


class Terms(Protocol):
    """What all connections of a worker have in common."""

    body_timeout: float
    write_timeout: float
    min_rate: int
    wait: Wait
    """How the application waits for its client."""
    closes_at_once: bool
    """Whether nothing is done between the last bytes of a response and the close of its connection."""


class Hears(Protocol):
    """Who is told how the application and its client get on; see `prefork.wsgi.watch.Watch`."""

    def progress(self) -> None:
        """Note that the request being served has moved."""

    def waiting(self, deadline: float, *, to_write: bool) -> None:
        """Note that the application waits for its client, to take or to send, until a deadline."""

    def failed(self) -> None:
        """Note that the request is answered with an error of the worker's own."""


class Answers(Protocol):
    """An application that has a request of a connection, but no thread that waits for the client.

    Each method says what the connection wants next, as those of `prefork.wsgi.serve.Service`.
    """

    def readable(self) -> Wants:
        """Take what has arrived."""

    def writable(self) -> Wants:
        """Go on sending."""

    def expired(self) -> Wants:
        """End the wait for the client, whose deadline has passed."""


class Connection:
    """A client connection.

    Args:
        sock: the connected socket.
        peer: its other end.
        base: what all environs of its listener share.
        limits: what the peer may send.
        terms: limits of time and pace.

    Attributes:
        client: the address of its other end, as the scoreboard has it.
        waits: what it waits for.
        watched: the events for which it is in the poll set, 0 for none.
        fresh: whether it has brought no request yet.
        deadline: until when, in monotonic seconds.
        began: monotonic seconds at which the first byte of the request arrived; of a connection that is idle
            or waits for its end, when that wait began.
        response: what is or was being answered, None before.
        close_body: what must be called when the response is out, None for nothing.
        outcome: what the access log will say of the request.
        turn_since: monotonic seconds since when the request has waited for a thread of this worker, 0.0 when
            it was taken at once.
        queued: seconds that the request has waited in queues, None when that was not measured.
        reserved: bytes of room that the body of the request has beyond what every body has, 0 for none.
        refused: the status of the error response sent in place of the application's, 0 for none.
        refused_bytes: how many bytes the body of that had.
        watch: that of the thread that calls the application.
        answers: who is told of its events while the request is with an application that an event loop calls;
            None while it is not.
    """

    __slots__ = (
        "_ahead",
        "_body_pace",
        "_collected",
        "_pace",
        "_terms",
        "answers",
        "base",
        "began",
        "client",
        "close_body",
        "deadline",
        "environ",
        "fresh",
        "http",
        "outcome",
        "peer",
        "queued",
        "refused",
        "refused_bytes",
        "reserved",
        "response",
        "stream",
        "turn_since",
        "waits",
        "watch",
        "watched",
    )

    def __init__(
        self, sock: socket.SocketType, peer: Peer, base: Mapping[str, Any], limits: Limits, terms: Terms
    ) -> None:
        self.stream = Stream(sock)
        self.http = ServerConnection(limits)
        self.peer = peer
        self.client = peer.address.encode("ascii", "replace")
        self.base = base
        self._terms = terms
        self._ahead: list[bytes] = []
        self._collected = 0  # bytes in it
        self._body_pace: Pace | None = None
        self._pace: Pace | None = None
        self.waits: Waits = AWAITS_FIRST_BYTE
        self.watched = 0
        self.fresh = True
        self.deadline = 0.0
        self.began = 0.0
        self.response: Response | None = None
        self.environ: dict[str, Any] | None = None
        self.close_body: Callable[[], object] | None = None
        self.outcome = "ok"
        self.turn_since = 0.0
        self.queued: float | None = None
        self.reserved = 0
        self.refused = 0
        self.refused_bytes = 0
        self.answers: Answers | None = None
        self.watch: Hears

    def await_body(self) -> None:
        """Begin to wait for body bytes; sets the deadline."""
        now = monotonic()
        if self._body_pace is None:
            self._body_pace = Pace(self._terms.body_timeout, self._terms.min_rate, now)
        else:
            self._body_pace.resume(now)
        self._pace = self._body_pace
        self.deadline = self._pace.deadline()

    def await_flush(self) -> None:
        """Begin to wait for the client to take the response; sets the deadline."""
        self._pace = Pace(self._terms.write_timeout, self._terms.min_rate, monotonic())
        self.deadline = self._pace.deadline()

    def hasten(self, seconds: float) -> None:
        """Let a client that is idle begin its next request no later than so long after it became idle.

        Args:
            seconds: how long. Of a new connection it counts from when it was accepted.
        """
        if self.waits is AWAITS_FIRST_BYTE:
            self.deadline = min(self.deadline, self.began + seconds)

    def await_close(self, timeout: float) -> None:
        """Begin to wait for the client to close the connection; sets the deadline.

        Args:
            timeout: seconds.
        """
        self._pace = None
        self.began = monotonic()
        self.deadline = self.began + timeout

    def sends_on(self, count: int, timeout: float) -> None:
        """Note bytes that came instead of the client's end; sets the deadline anew.

        Args:
            count: of bytes.
            timeout: as of `await_close`.
        """
        if self._pace is None:
            self._pace = Pace(timeout, self._terms.min_rate, self.began)
        self.moved(count)

    def moved(self, count: int) -> None:
        """Note that bytes that were waited for came or went; sets the deadline anew."""
        if self._pace is not None:
            self._pace.moved(count, monotonic())
            self.deadline = self._pace.deadline()

    def read_ahead(self, limit: int) -> bool:
        """Collect the body before the application is called.

        Args:
            limit: stop collecting when so many bytes are there.

        Returns:
            Whether the application can be called: the body is whole, or too large to be held.

        Raises:
            ProtocolError, ClientDisconnected: as `ServerConnection.read_body`.
        """
        while self._collected < limit:
            piece = self.http.read_body(limit - self._collected)
            if piece is None:
                return False
            if not piece:
                break
            self._collected += len(piece)
            if self._ahead and len(self._ahead[-1]) < _PIECE:
                self._ahead[-1] += piece
            else:
                self._ahead.append(piece)
        return True

    def read_body(self, limit: int) -> bytes:
        """Return body bytes to the application, waiting for them if need be; the source of `wsgi.input`.

        Raises:
            ClientDisconnected: the client went away, stalled, or broke its body.
        """
        while True:
            found = self.take_body(limit)
            if found is not None:
                self.watch.progress()
                return found
            self._receive_body()

    def take_body(self, limit: int) -> bytes | None:
        """Return up to `limit` bytes of body that have arrived, b"" at its end, None when none have.

        Raises:
            ClientDisconnected: the client went away, or broke its body.
        """
        if self._ahead:
            piece = self._ahead[0]
            if len(piece) <= limit:
                return self._ahead.pop(0)
            self._ahead[0] = piece[limit:]
            return piece[:limit]
        try:
            return self.http.read_body(limit)
        except ProtocolError as error:
            raise ClientDisconnected(f"the request body is broken: {error.message}", error.status) from error

    def pull_body(self) -> bool:
        """Receive what has arrived of the body; return False if nothing has, and begin to wait for it.

        Raises:
            ClientDisconnected: the client went away.
        """
        interim = self.http.take_continue()
        if interim:
            self.stream.send(interim)
        data = self.stream.receive()
        if data is None or self._body_pace is not None:
            # Also when nothing is to be waited for: what the application did is not the client's fault.
            self.await_body()
        if data is None:
            return False
        self.moved(len(data))
        self.http.feed(data)
        return True

    def _receive_body(self) -> None:
        if self.pull_body():
            return
        self.watch.waiting(self.deadline, to_write=False)
        if not self._terms.wait(self.stream.fd, self.deadline, to_write=False):
            self.watch.progress()  # what the application does about it is its own time
            raise self.stalled(to_write=False)
        data = self.stream.receive()
        if data is not None:
            self.moved(len(data))
            self.http.feed(data)

    def stalled(self, *, to_write: bool) -> ClientStalled:
        """Return the error of a client that was waited for in vain; the connection will close.

        Args:
            to_write: whether it should have taken bytes; else sent some.
        """
        if to_write:
            return ClientStalled("the client takes the response too slowly")
        self.http.persistent = False
        return ClientStalled("the client sends its body too slowly", 408)

    def send(self, data: bytes) -> None:
        """Send response bytes; waits only for a client that is far behind.

        Raises:
            ClientDisconnected: the client went away, or takes the response too slowly.
        """
        self.stream.send(data)
        if self.stream.pending > PENDING_LIMIT:
            self._push()
        self.watch.progress()

    def send_last(self, data: bytes) -> None:
        """Send the last bytes of a response; what the client does not take is left to the poll set.

        Raises:
            ClientDisconnected: the client went away.
        """
        self.stream.send(data, final=self._terms.closes_at_once and not self.http.persistent)

    def _push(self) -> None:
        """Wait until the client has taken enough for the application to go on."""
        stream = self.stream
        self.await_flush()
        while stream.pending > PENDING_LIMIT // 2:
            self.watch.waiting(self.deadline, to_write=True)
            if not self._terms.wait(stream.fd, self.deadline, to_write=True):
                self.watch.progress()
                raise self.stalled(to_write=True)
            before = stream.taken
            stream.flush()
            self.moved(stream.taken - before)

    def discard(self) -> bool:
        """Drop what has arrived of a body that nobody wants; return whether it was whole."""
        self._ahead.clear()
        while piece := self.http.read_body(RECEIVE_SIZE):
            self.moved(len(piece))
        return piece is not None

    def forget_unsent(self) -> None:
        """Drop what waits to be sent; it does not count as sent either."""
        if self.response is not None:
            self.response.sent = max(self.response.sent - self.stream.left, 0)
        self.stream.drop()

    def reset(self) -> None:
        """Forget the request that was served."""
        self.fresh = False
        if self._collected or self._body_pace is not None:
            self._ahead.clear()
            self._collected = 0
            self._body_pace = None
        self._pace = None
        self.environ = None
        self.outcome = "ok"
        self.turn_since = 0.0
        self.queued = None
