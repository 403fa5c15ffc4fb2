# SPDX-License-Identifier: MIT
"""One connection: aiohttp's protocol, and what prefork is told of it.

Decides what counts as the begin and the end of a request, what of a client is too slow, and what is said of
an error. How HTTP is read and written is aiohttp's business. Imported in the worker process only.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import istr

from prefork_aio.web import refusal

if TYPE_CHECKING:
    import asyncio
    import logging
    from weakref import WeakSet

    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from prefork.errors import ProtocolError
    from prefork.worker import Arrival, Reception, Record

_HTTP_11: Final = "HTTP/1.1"
_UPGRADED: Final = 101
_SERVER: Final = istr("Server")

_received: Final = web.RequestHandler.data_received
"""Named, since `super()` takes as long as all else that is done here for most requests."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a worker have in common."""

    log: logging.Logger
    server: str
    """The value of the Server field, "" for none."""
    body_timeout: float
    """Seconds to wait for more of a request's body, infinity for no limit."""
    counts: bool
    """Whether anybody wants to know how many bytes were sent."""
    reception: Reception
    websockets: WeakSet[web.WebSocketResponse]
    """Where those are noted that were opened."""


class Connection(web.RequestHandler):
    """One connection.

    aiohttp makes it, with its own arguments; `arrive` says the rest.

    Attributes:
        record: the request in hand, None while there is none.
        response: what is being answered, None before its head is made.
        refused: why the request in hand is refused, None if it is not.
        task: what serves the connection.
    """

    __slots__ = (
        "_arrival",
        "_body",
        "_body_timer",
        "_counts",
        "_heading",
        "_heard",
        "_is_lost",
        "_message",
        "_outcome",
        "_sent",
        "_terms",
        "_wire",
        "record",
        "refused",
        "response",
        "task",
    )

    def arrive(self, arrival: Arrival, terms: Terms) -> None:
        """Say which connection it is, before it is made.

        Args:
            arrival: the connection, as prefork has it.
            terms: what all have in common.
        """
        self._arrival = arrival
        self._terms = terms
        self._counts = terms.counts
        self._wire: asyncio.Transport | None = None
        self._heading = False
        self._is_lost = False
        self._message: RawRequestMessage | None = None
        self._outcome = "ok"
        self._sent = 0
        self._body: StreamReader | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self.record: Record | None = None
        self.response: web.StreamResponse | None = None
        self.refused: ProtocolError | None = None
        self.task: asyncio.Task[None] | None = None
        arrival.when_late(self.late)

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._wire = transport  # type: ignore[assignment]  # uvloop's is one in all but its class
        super().connection_made(transport)
        self.task = self._task_handler

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        body = self._body
        if body is None:
            _received(self, data)
            # A whole head is a request in the loop's next turn. And aiohttp calls this with nothing, to go on
            # with what it has.
            if self.record is None and data and not self._messages:
                self._heading = True
                self._arrival.began()
            return
        self._heard = self._loop.time()
        _received(self, data)
        if body.is_eof():
            self._forget_body()

    def pause_reading(self) -> None:
        """Take no more of the body: the application has not read what there is."""
        super().pause_reading()
        if self.record is not None:
            self.record.progress()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Take more of it."""
        self._heard = self._loop.time()
        super().resume_reading(resume_parser)
        if self._body is not None and self.record is not None:
            self.record.waiting(to_write=False)

    def pause_writing(self) -> None:
        """Have the application wait: the client does not take what there is."""
        super().pause_writing()
        if self.record is not None:
            self.record.waiting(to_write=True)

    def resume_writing(self) -> None:
        """Have it go on."""
        super().resume_writing()
        if self.record is not None:
            self.record.progress()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note that the connection is closed. The application goes on with its request, if any."""
        super().connection_lost(exc)
        self._is_lost = True
        self._wire = None
        if self.record is None:
            self._arrival.closed()
            return
        if self._outcome == "ok" and not self._is_taken:
            # The kernel says so when a client has not taken anything for write_timeout.
            self._outcome = "timeout" if isinstance(exc, TimeoutError) else "aborted"
        if self.task is None or self.task.done():
            self.end()
        else:
            self.task.add_done_callback(self._over)

    def _over(self, _task: asyncio.Task[None]) -> None:
        self.end()

    # A request

    def begin(self, message: RawRequestMessage | None, payload: StreamReader) -> None:
        """Note that the head of a request has come.

        Args:
            message: its head; None for something that is no request: `handle_error` is called next.
            payload: its body.
        """
        if self.record is not None:
            self.end()  # it had an answer that aiohttp did not log
        if self._body is not None:
            self._forget_body()
        self._heading = False
        self._message = message
        self._outcome = "ok"
        self._sent = 0
        self.response = None
        self.refused = None
        if message is None:
            self.record = self._arrival.request("-", "-", "-", ())
            return
        version = message.version
        if version is HttpVersion11 and not message.chunked:
            text = _HTTP_11
        else:
            text = f"HTTP/{version.major}.{version.minor}"
            self.refused = refusal.fault_of(message)
        fields = message.headers.items() if self._counts else ()  # only the access log wants them
        self.record = self._arrival.request(message.method, message.path, text, fields)
        if payload is not EMPTY_PAYLOAD and not payload.is_eof():
            self._await_body(payload, self.record)

    def scheme(self, request: web.BaseRequest) -> str:
        """Return the scheme that a trusted proxy names.

        Raises:
            ProtocolError: its fields contradict each other.
        """
        return self._arrival.forwarded(request.headers.items()).scheme

    def prepared(self, response: web.StreamResponse) -> None:
        """Finish the head of a response, which nobody else changes any more."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self.response = response
        terms = self._terms
        headers = response.headers
        if headers.get(_SERVER) == SERVER_SOFTWARE:
            if server := terms.server:
                headers[_SERVER] = server
            else:
                del headers[_SERVER]
        if response.status == _UPGRADED and isinstance(response, web.WebSocketResponse):
            terms.websockets.add(response)
            if self.record is not None:
                self.record.taken()
        elif not terms.reception.keeps and response.keep_alive:
            response.force_close()
            headers["Connection"] = "close"

    def wrote(self, count: int, _total: int) -> None:
        """Count bytes of the body."""
        self._sent += count

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Note that a request has its answer, as far as the client was there to take it."""
        del time
        transport = self.transport
        if transport is None or transport.is_closing():
            if self._outcome == "ok" and response.status != _UPGRADED:
                self._outcome = "aborted"
        elif self._counts and not self._sent and isinstance(response, web.FileResponse):
            # By sendfile, past aiohttp's writer.
            self._sent = 0 if request.method == "HEAD" else response.content_length or 0
        if self.response is None and isinstance(response, refusal.Refusal):
            self.response = response
        self.end()

    def end(self) -> None:
        """Note that the request in hand is over, whatever became of it."""
        record = self.record
        if record is None:
            return
        self.record = None
        response = self.response
        outcome = self._outcome
        if response is None:
            record.end(0, 0, outcome=outcome)
        else:
            fields = response.headers.items() if self._counts else ()
            record.end(response.status, self._sent, fields, outcome=outcome)
        if outcome == "timeout":
            self.force_close()  # what is left of a body is not waited for
        if self._is_lost:
            self._arrival.closed()

    @property
    def _is_taken(self) -> bool:
        return self.response is not None and self.response.status == _UPGRADED

    def give_up(self) -> str | None:
        """Cancel the request in hand; return its request line, None if there is none."""
        if self.record is None or self.task is None:
            return None
        if not self._is_taken:
            self._outcome = "timeout"
        self.task.cancel()
        return self.line

    @property
    def line(self) -> str:
        """Method and target of the request in hand, or of the one before."""
        return "no request" if self._message is None else f"{self._message.method} {self._message.path}"

    # The body of a request

    def _await_body(self, payload: StreamReader, record: Record) -> None:
        self._body = payload
        self._heard = self._loop.time()
        record.waiting(to_write=False)
        if self._terms.body_timeout != inf:
            self._body_timer = self._loop.call_later(self._terms.body_timeout, self._look_at_body)

    def _look_at_body(self) -> None:
        self._body_timer = None
        if self._body is None or self.record is None or self._wire is None:
            return
        if not self._wire.is_reading():
            self._heard = self._loop.time()  # it is the application that is slow
        left = self._heard + self._terms.body_timeout - self._loop.time()
        if left > 0.0:
            self._body_timer = self._loop.call_later(left, self._look_at_body)
        else:
            self._stall(self._body)

    def _stall(self, body: StreamReader) -> None:
        """Have the application's next read fail: 408 if it has not answered and lets the error out."""
        self._terms.log.info("timeout from %s: waiting for the body", self._peer)
        self._outcome = "timeout"
        if self.response is None:
            body.set_exception(web.HTTPRequestTimeout())
        else:
            body.set_exception(ConnectionResetError("the client has not sent the rest of its body"))

    def _forget_body(self) -> None:
        self._body = None
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        if self.record is not None:
            self.record.progress()

    # What goes wrong

    @property
    def _peer(self) -> str:
        return self._arrival.address or "unix"

    def late(self) -> None:
        """Close the connection: it was idle for too long, or half a head is all that has come."""
        wire = self._wire
        if wire is None:
            return
        if wire.is_closing():
            wire.abort()  # it waits for a client that does not take what it was sent
            return
        if self.record is None and self._messages:
            return  # a request has come just now: it begins in the loop's next turn
        if self._heading and self.record is None:
            self._terms.log.info("timeout from %s: waiting for the head", self._peer)
            answer = refusal.rendered(408, self._terms.server)
            wire.write(answer)
            record = self._arrival.request("-", "-", "-", ())
            record.end(408, refusal.body_of(answer), outcome="timeout")
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return what a request is answered that cannot be served, or whose handler has failed."""
        if refused := refusal.status_of(exc):
            return self.refuse(refused, refusal.reason_of(exc), request)
        if self._is_lost and isinstance(exc, ConnectionError):
            self._terms.log.info("aborted by %s: %s", self._peer, exc)
            self.end()
            raise exc
        self._outcome = "error" if self._outcome == "ok" else self._outcome
        if request.writer.output_size > 0:
            self._failed(exc)
            self.end()
            raise ConnectionResetError("the response has begun: it can only break off")
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = self._terms.server
        return response

    def refuse(self, status: int, reason: str, request: web.BaseRequest) -> web.StreamResponse:
        """Return the answer to what is no request, or one that may not be."""
        if request.writer.output_size > 0:
            self.end()
            raise ConnectionResetError("the response has begun: it can only break off")
        self._outcome = "rejected"
        self._terms.log.info("rejected from %s: %s", self._peer, reason)
        method = "" if self._message is None else self._message.method
        answer = refusal.rendered(status, self._terms.server, method)
        self._sent = refusal.body_of(answer)
        return refusal.Refusal(status, answer)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what went wrong in the application, where aiohttp has noticed it."""
        error = kw.get("exc_info")
        if isinstance(error, OSError) and error.errno == errno.ETIMEDOUT and self.response is not None:
            self._outcome = "timeout"  # of asyncio's sendfile: the client has not taken anything for too long
            return
        self._outcome = "error" if self._outcome == "ok" else self._outcome
        self._failed(error if isinstance(error, BaseException) else None, str(args[0]) if args else "")

    def _failed(self, error: BaseException | None, message: str = "") -> None:
        said = "" if error is not None or not message else f": {message}"
        self._terms.log.error("error in the application: %s%s", self.line, said, exc_info=error)
