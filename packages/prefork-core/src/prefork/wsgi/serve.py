# SPDX-License-Identifier: MIT
"""What happens to a connection when it can be read, written, or is late, whatever the application is.

It never waits for a client that has not sent a whole head, or that has not taken a finished response: it
says what to wait for, and whoever runs the poll set calls again. So half a request costs no thread.
"""

from __future__ import annotations

from enum import Enum
from itertools import count
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from prefork.errors import ClientDisconnected, ClientStalled, ProtocolError
from prefork.http.framing import BY_CLOSE, CHUNKED
from prefork.http.states import READING_BODY, READING_DONE, READING_TAKEN, WRITING_DONE, WRITING_HEAD
from prefork.net.clock import http_date
from prefork.observe.access import Exchange
from prefork.wsgi.bodies import HELD_ALWAYS, BodyRoom
from prefork.wsgi.connection import (
    AWAITS_BODY,
    AWAITS_DRAIN,
    AWAITS_FIRST_BYTE,
    AWAITS_FLUSH,
    AWAITS_HEAD,
    AWAITS_LINGER,
    AWAITS_THREAD,
    Connection,
)
from prefork.wsgi.input import Input
from prefork.wsgi.response import Response

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from prefork.http import Request
    from prefork.net.stream import Wait
    from prefork.observe.access import AccessLog
    from prefork.settings import Settings
    from prefork.wsgi.queueing import Queueing
    from prefork.wsgi.requesthooks import RequestHooks
    from prefork.wsgi.response import Out
    from prefork.wsgi.takeover import Takeovers
    from prefork.wsgi.watch import Watch

LINGER: Final = 2.0
"""Seconds for which a client that sends nothing may read the last response before the socket is closed
(RFC 9112 §9.6). One that is still sending at `min_rate`, as browsers are that upload, does not read yet."""

LINGER_LONGEST: Final = 30.0
"""Seconds after which it is closed in any case."""

_TURNED_AWAY: Final = b"503 Service Unavailable: too many requests are waiting\n"

_NO_BODY: Final = Input(lambda _limit: b"")


class Wants(Enum):
    """What the poll set is to do with a connection."""

    READ = "read"
    """Call `Service.readable` when something has arrived."""
    WRITE = "write"
    """Call `Service.writable` when the client takes something."""
    TURN = "turn"
    """Call `Service.proceed` soon: another request is here already, but others come first."""
    CALL = "call"
    """Call `Service.respond`, in a thread that can wait for the application."""
    NOTHING = "nothing"
    """It is with an application that is in no need of its client; it will be placed again."""
    CLOSE = "close"
    """Close it."""


# Names for the hot path, see `prefork.http.states`.
WANTS_READ: Final = Wants.READ
WANTS_WRITE: Final = Wants.WRITE
WANTS_TURN: Final = Wants.TURN
WANTS_CALL: Final = Wants.CALL
WANTS_NOTHING: Final = Wants.NOTHING
WANTS_CLOSE: Final = Wants.CLOSE


class Service:
    """How an application is served, for one worker.

    Args:
        answer: calls the application for a request; may raise anything.
        settings: the resolved settings.
        queueing: measures how long requests wait, and says when it was too long.
        log: the error log.
        access: the access log, None for none.
        hooks: runs the hooks of a request, None when there are none.
        takeovers: has the connections that the application takes over.
        keepalive: seconds that a connection may be idle between requests, 0 to close after each response.
        milestones: what is called once, when so many requests were served.
        wait: how the application waits for a client.

    Attributes:
        holds_chunked: whether the begin of a chunked body is collected before the application is called.
        queueing: as given.
    """

    def __init__(  # noqa: PLR0913 (each is another seam)
        self,
        answer: Callable[[Connection, Response, Watch], None],
        settings: Settings,
        queueing: Queueing,
        log: logging.Logger,
        access: AccessLog | None,
        hooks: RequestHooks | None,
        takeovers: Takeovers,
        *,
        keepalive: float,
        milestones: Mapping[int, Callable[[], object]],
        wait: Wait,
    ) -> None:
        self.wait = wait
        self.holds_chunked = True
        self.body_timeout = settings.body_timeout
        self.write_timeout = settings.write_timeout
        self.min_rate = settings.min_rate
        self._answer = answer
        self.queueing = queueing
        self._log = log
        self._access = access
        self._hooks = hooks
        self._takeovers = takeovers
        self.closes_at_once = hooks is None
        self._header_timeout = settings.header_timeout or inf
        self._first_byte_timeout = settings.keepalive or settings.header_timeout or inf
        self._keepalive = keepalive
        self.keeps = keepalive > 0
        self.server = settings.server_header
        self._room = BodyRoom(settings.body_memory)
        self.queue_timeout = queueing.limit or inf
        self._milestones = milestones
        self._served = count(1)  # its next() is atomic, whichever thread asks

    date = staticmethod(http_date)

    # Events of one connection

    def stop_keeping(self) -> None:
        """Announce `Connection: close` on every response from now on.

        A client that was told before that its connection stays may send one request more.
        """
        self.keeps = False

    def wind_down(self) -> None:
        """Do so, and end what was taken over."""
        self.stop_keeping()
        self._takeovers.wind_down()

    def opened(self, conn: Connection) -> Wants:
        """Begin to serve a connection that was just accepted."""
        conn.began = monotonic()
        conn.deadline = conn.began + self._first_byte_timeout
        return self.readable(conn)

    def readable(self, conn: Connection) -> Wants:
        """Take what has arrived."""
        if conn.answers is not None:
            return conn.answers.readable()
        try:
            data = conn.stream.receive()
        except ClientDisconnected:
            return self._gone(conn)
        if data is None:
            return WANTS_READ
        if conn.waits is AWAITS_LINGER:
            return self._linger(conn, len(data))
        conn.http.feed(data)
        if conn.waits is not AWAITS_FIRST_BYTE:
            conn.moved(len(data))
        elif data:
            conn.began = monotonic()
            conn.waits = AWAITS_HEAD
            conn.deadline = conn.began + self._header_timeout
        return self.proceed(conn)

    def proceed(self, conn: Connection) -> Wants:
        """Go on as far as what has arrived allows."""
        try:
            waits = conn.waits
            if waits is AWAITS_HEAD or waits is AWAITS_FIRST_BYTE:
                request = conn.http.next_request()
                if request is None:
                    return self._incomplete(conn)
                # A plain GET needs no look at its method: a CONNECT has no path.
                ready = (not request.content_length and request.path != "") or self._accept(conn, request)
            elif waits is AWAITS_DRAIN:
                return self._next(conn) if conn.discard() else WANTS_READ
            else:
                ready = waits is AWAITS_THREAD or conn.read_ahead(conn.reserved or HELD_ALWAYS)
        except ProtocolError as error:
            return self._refuse(conn, error.status, error.message)
        except ClientDisconnected:
            return self._gone(conn)
        if not ready:
            return WANTS_READ
        conn.waits = AWAITS_THREAD
        return WANTS_CALL

    def respond(self, conn: Connection, watch: Watch) -> Wants:
        """Answer the request that has come on a connection; the application may take its time.

        Args:
            conn: the connection, which wanted `CALL`.
            watch: that of the calling thread.
        """
        conn.watch = watch
        if self.is_late(conn, watch):
            return self.turn_away(conn)
        response = self.begin(conn, watch, conn)
        try:
            self._answer(conn, response, watch)
        except BaseException as error:
            # sys.exit() in a view, or a CancelledError that it lets out, must not end the worker, which has
            # other clients.
            if isinstance(error, KeyboardInterrupt):
                raise
            self.failed(conn, error)
        return self.ended(conn, response, watch)

    def is_late(self, conn: Connection, watch: Watch) -> bool:
        """Return whether a request has waited for too long, if that is wanted to be known."""
        if not self.queueing.measures:
            return False
        queued = conn.queued = self.queueing.measure(conn)
        if queued is None:
            return False
        watch.queued(queued)
        return queued > self.queue_timeout

    def waited(self, conn: Connection) -> Wants:
        """Go on with a connection that has its turn, but without the application.

        Args:
            conn: the connection. If its request has waited for too long it is turned away.
        """
        wants = self.proceed(conn)
        if wants is not WANTS_CALL or monotonic() < conn.turn_since + self.queue_timeout:
            return wants
        conn.queued = self.queueing.measure(conn)
        return self.turn_away(conn)

    def sample(self) -> None:
        """Measure how long the next request has waited."""
        self.queueing.measures = True

    def turn_away(self, conn: Connection) -> Wants:
        """Answer 503 without the application; the connection stays (RFC 9110 §15.6.4)."""
        conn.outcome = "shed"
        self.queueing.turn_away(conn)
        response = conn.response = Response(conn.http, conn, self)
        fields = [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", self.queueing.retry_after)]
        response.start("503 Service Unavailable", fields)
        try:
            response.send_list([_TURNED_AWAY])
        except ClientDisconnected as error:
            self._client_failed(conn, error)
        return self._responded(conn)

    def _incomplete(self, conn: Connection) -> Wants:
        """Go on waiting for a request."""
        if conn.http.peer_closed:
            return self._gone(conn)
        if not conn.http.buffered and conn.waits is AWAITS_HEAD:
            # An empty line, as old clients send after a body, is not the begin of a request.
            conn.waits = AWAITS_FIRST_BYTE
            conn.deadline = conn.began + self._first_byte_timeout
        return WANTS_READ

    def writable(self, conn: Connection) -> Wants:
        """Go on sending what the client did not take before."""
        if conn.answers is not None:
            return conn.answers.writable()
        stream = conn.stream
        before = stream.taken
        try:
            flushed = stream.flush()
        except ClientDisconnected:
            return self._gone(conn)
        except OSError as error:
            return self._file_failed(conn, error)
        conn.moved(stream.taken - before)
        return self._responded(conn) if flushed else WANTS_WRITE

    def expired(self, conn: Connection) -> Wants:
        """End the wait of a connection whose deadline has passed."""
        if conn.answers is not None:
            return conn.answers.expired()
        if conn.waits is AWAITS_HEAD or conn.waits is AWAITS_BODY:
            conn.outcome = "timeout"
            return self._refuse(conn, 408, f"timeout waiting for the {conn.waits.value}")
        if conn.waits is AWAITS_FLUSH:
            conn.outcome = "timeout"
            return self._gone(conn)
        return WANTS_CLOSE

    def dropped(self, conn: Connection) -> bool:
        """Give a connection up because the worker ends, and close it; return whether it had a request."""
        busy = conn.waits in {AWAITS_HEAD, AWAITS_BODY, AWAITS_FLUSH, AWAITS_THREAD}
        self._gone(conn)
        conn.stream.close()
        return busy

    def killed(self, conn: Connection) -> None:
        """Leave an access line for a request whose worker is about to be killed."""
        conn.outcome = "timeout"
        self._write_access(conn)

    # Before the application

    def _accept(self, conn: Connection, request: Request) -> bool:
        """Take a request up; return whether the application can be called already."""
        if request.method == "CONNECT":
            # RFC 9110 §9.3.6: a tunnel is a proxy's business, and its answer has other framing.
            raise ProtocolError("CONNECT is for proxies", 501)
        length = request.content_length
        if not length or request.expects_continue or (length == CHUNKED and not self.holds_chunked):
            return True
        if length > HELD_ALWAYS:
            if not self._room.reserve(length):
                return True
            conn.reserved = length
        conn.waits = AWAITS_BODY
        conn.await_body()
        return conn.read_ahead(length if conn.reserved else HELD_ALWAYS)

    def _release(self, conn: Connection) -> None:
        """Give back the room that the body of a request had."""
        self._room.release(conn.reserved)
        conn.reserved = 0

    def _refuse(self, conn: Connection, status: int, reason: str) -> Wants:
        """Answer with an error, and close."""
        if conn.outcome == "ok":
            conn.outcome = "rejected"
        self._log.info("%s from %s: %s", conn.outcome, conn.peer.address or "unix", reason)
        self._send_error(conn, status)
        if conn.reserved:
            self._release(conn)
        self._write_access(conn)
        return self._close(conn)

    def _send_error(self, conn: Connection, status: int) -> bool:
        """Send an error response if none was begun; return whether it was sent."""
        rendered = conn.http.refuse(status, date=http_date(), server=self.server)
        if not rendered:
            return False
        conn.refused = status
        conn.refused_bytes = len(rendered) - rendered.index(b"\r\n\r\n") - 4
        try:
            conn.stream.send(rendered)
        except ClientDisconnected:
            return False
        return True

    # The application

    def begin(self, conn: Connection, watch: Watch, out: Out) -> Response:
        """Begin to answer the request that has come on a connection; return the response.

        Args:
            conn: the connection.
            watch: of who answers.
            out: takes the bytes of the response.
        """
        request = conn.http.request
        assert request is not None
        watch.begin(request, monotonic(), conn.client)
        response = conn.response = Response(conn.http, out, self)
        return response

    def failed(self, conn: Connection, error: BaseException) -> None:
        """Note that a request could not be answered as it should, and tell the client if that is possible.

        Args:
            conn: its connection.
            error: the reason; to be called while it is handled.
        """
        if isinstance(error, ClientDisconnected):
            self._client_failed(conn, error)
        elif isinstance(error, ProtocolError):
            conn.outcome = "rejected"
            self._log.info("rejected from %s: %s", conn.peer.address or "unix", error.message)
            self._send_error(conn, error.status)
        else:
            self._application_failed(conn)

    def ended(self, conn: Connection, response: Response, watch: Watch) -> Wants:
        """Note that the application has answered a request, or given it up.

        Args:
            conn: its connection.
            response: from `begin`.
            watch: given to it.
        """
        if response.fault:
            self._warn_of_length(conn, response.fault)
        if self._hooks is not None:
            self._call_hooks(conn, response)
        watch.end()
        if conn.reserved:
            self._release(conn)
        return self._responded(conn)

    def left(self, conn: Connection, response: Response, watch: Watch) -> None:
        """Note that an application has left a connection that it had taken over; it is to be closed.

        Args:
            conn: the connection.
            response: from `begin`.
            watch: given to it.
        """
        self._call_hooks(conn, response)
        watch.end()
        self._end_exchange(conn)

    def _call_hooks(self, conn: Connection, response: Response) -> None:
        if self._hooks is not None and conn.environ is not None and conn.http.request is not None:
            self._hooks.after(conn.http.request, conn.environ, response)

    def _warn_of_length(self, conn: Connection, fault: str) -> None:
        request = conn.http.request
        assert request is not None
        text = "%s %s: the application sent %s bytes than its Content-Length"
        self._log.warning(text, request.method, request.target, fault)

    def _client_failed(self, conn: Connection, error: ClientDisconnected) -> None:
        """The client went away or stalled; the application could do nothing about it."""
        stalled = isinstance(error, ClientStalled)
        conn.outcome = "timeout" if stalled else "rejected" if error.status else "aborted"
        self._log.info("%s by %s: %s", conn.outcome, conn.peer.address or "unix", error)
        if not (error.status and self._send_error(conn, error.status)):
            self._cut(conn)
            conn.forget_unsent()

    def _application_failed(self, conn: Connection) -> None:
        """The application raised: a 500, or a response that visibly breaks off."""
        request = conn.http.request
        assert request is not None
        self._log.exception("error in the application: %s %s", request.method, request.target)
        if conn.http.writing is WRITING_DONE and conn.http.reading is not READING_TAKEN:
            return  # the client has its answer; only close() has raised
        conn.outcome = "error"
        conn.watch.failed()
        if conn.http.writing is WRITING_HEAD:
            self._send_error(conn, 500)
        else:
            self._cut(conn)

    def _file_failed(self, conn: Connection, error: OSError) -> Wants:
        """A file that was being sent cannot be read any more, or has become shorter."""
        self._log.error("error in the response: %s", error)
        conn.outcome = "error"
        conn.watch.failed()
        return self._gone(conn)

    def _cut(self, conn: Connection) -> None:
        """Give up a response that has begun, in a way that does not look like its end."""
        conn.http.abort()
        if conn.http.framing is BY_CLOSE:
            conn.stream.reset()

    # After the application

    def _responded(self, conn: Connection) -> Wants:
        """Decide what comes after a response that has ended, or was given up."""
        if conn.stream.out:  # the client has not taken all of it
            if conn.waits is not AWAITS_FLUSH:
                conn.waits = AWAITS_FLUSH
                conn.await_flush()
            return WANTS_WRITE
        if conn.response is None:
            return WANTS_CLOSE  # the worker ends, and has given the connection up already: `dropped`
        self._end_exchange(conn)
        return self._next(conn)

    def _end_exchange(self, conn: Connection) -> None:
        if conn.close_body is not None:
            self._close_body(conn.close_body)
            conn.close_body = None
        if conn.reserved:
            self._release(conn)
        if self._access is not None:
            self._write_access(conn)
        conn.response = None
        if self._milestones and (reached := self._milestones.get(next(self._served))):
            reached()

    def _close_body(self, close: Callable[[], object]) -> None:
        try:
            close()
        except Exception:  # noqa: BLE001 (the application call)
            self._log.exception("error in close() of the response")

    def _next(self, conn: Connection) -> Wants:
        http = conn.http
        if http.next_cycle():
            conn.reset()
            now = conn.began = monotonic()
            if http.received.data:
                conn.waits = AWAITS_HEAD
                conn.deadline = now + self._header_timeout
                return WANTS_TURN
            conn.waits = AWAITS_FIRST_BYTE
            conn.deadline = now + self._keepalive
            return WANTS_READ
        if http.persistent and http.reading is READING_BODY and conn.waits is not AWAITS_DRAIN:
            conn.waits = AWAITS_DRAIN
            conn.await_body()
            return self.proceed(conn)
        return self._close(conn)

    def _close(self, conn: Connection) -> Wants:
        """Close a connection so that its client can read the last response.

        Closing a socket with unread data, or on which data arrives later, makes the kernel send a reset, and
        that deletes what the client has received but not read. A client that has announced that this was its
        last request sends nothing more, so there it cannot happen.
        """
        http = conn.http
        request = http.request
        if http.peer_closed or conn.outcome == "aborted":
            return WANTS_CLOSE
        if conn.outcome != "ok" and http.framing is BY_CLOSE:
            return WANTS_CLOSE  # by a reset, see `_cut`
        if (
            request is not None
            and not request.persistent
            and http.reading is READING_DONE
            and not http.buffered
        ):
            return WANTS_CLOSE
        conn.stream.half_close()
        conn.waits = AWAITS_LINGER
        conn.await_close(LINGER)
        return WANTS_READ

    def _linger(self, conn: Connection, count: int) -> Wants:
        """Take what a client sends after its last response, until it closes."""
        if not count:
            return WANTS_CLOSE
        conn.sends_on(count, LINGER)
        conn.deadline = min(conn.deadline, conn.began + LINGER_LONGEST)
        return WANTS_READ

    def _gone(self, conn: Connection) -> Wants:
        """The client closed the connection, or broke it."""
        if conn.waits in {AWAITS_HEAD, AWAITS_BODY, AWAITS_FLUSH, AWAITS_THREAD}:
            if conn.outcome == "ok":
                conn.outcome = "aborted"
            conn.http.abort()
            conn.forget_unsent()
            self._end_exchange(conn)
        return WANTS_CLOSE

    def _write_access(self, conn: Connection) -> None:
        if self._access is None:
            return
        request = conn.http.request
        response = conn.response
        duration = monotonic() - conn.began
        exchange = Exchange(
            peer=conn.peer.address,
            environ=conn.environ,
            started=time() - duration,
            duration=duration,
            outcome=conn.outcome,
            queued=conn.queued,
        )
        if conn.refused:
            exchange.status = conn.refused
            exchange.sent = conn.refused_bytes
        elif response is not None:
            exchange.status = response.begun
            exchange.headers = response.headers
            exchange.sent = response.sent
        if request is not None:
            exchange.method = request.method
            exchange.target = request.target
            exchange.protocol = request.version
            exchange.fields = request.fields
        self._access.write(exchange)
