# SPDX-License-Identifier: MIT
"""One HTTP/1.1 connection, seen from the server, without any I/O.

Feed it what was received; ask it for the next request and its body; let it render the response;
send what it returns. It holds the order of things (RFC 9112 §9): one request at a time, pipelined
ones wait in the buffer, nothing after a refused request is ever looked at, and never more or fewer
bytes of body than the head promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.errors import ClientDisconnected, ProtocolError
from prefork.http.body import ChunkedDecoder, Decoder, LengthDecoder
from prefork.http.buffer import ReceiveBuffer
from prefork.http.framing import BY_CHUNKS, BY_CLOSE, BY_LENGTH, BY_NOTHING, CHUNKED, SPECIAL, plan_response
from prefork.http.head import Request, parse_head
from prefork.http.repeat import keep, parse_repeated
from prefork.http.response import error_head, plain_head, render_head
from prefork.http.states import (
    READING_BODY,
    READING_DONE,
    READING_HEAD,
    READING_TAKEN,
    REFUSED,
    WRITING_BODY,
    WRITING_DONE,
    WRITING_HEAD,
)

if TYPE_CHECKING:
    from prefork.http.limits import Limits
    from prefork.http.repeat import Parsed
    from prefork.http.response import ResponseHead

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

DRAIN_LIMIT: Final = 64 * 1024
"""Bytes of a body that nobody wanted which are read to keep the connection (RFC 9112 §9.3)."""

PATIENCE: Final = 10
"""Requests in a row that may differ from the one before; after them nobody asks on their connection any more
whether they repeat it: proxies mix the requests of many clients on one."""


class ServerConnection:
    """The state of one connection.

    Args:
        limits: what the peer may send.

    Attributes:
        request: the request being served, None between requests.
        received: what was received and not consumed yet.
        reading: where in a request the connection is.
        writing: where in a response the connection is.
        persistent: whether the connection may be used after this response; False before any head was sent
            means that the next response announces `Connection: close`.
        peer_closed: whether the peer has said that it sends no more.
        framing: how the response being sent ends.
    """

    __slots__ = (
        "_body",
        "_kept",
        "_limits",
        "_patience",
        "_promised",
        "_scanned",
        "_skipped",
        "_unanswered_continue",
        "framing",
        "peer_closed",
        "persistent",
        "reading",
        "received",
        "request",
        "writing",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: Parsed | None = None
        self._patience = PATIENCE
        self.received = ReceiveBuffer()
        self._scanned = 0
        self._skipped = False
        self._body: Decoder | None = None
        self._unanswered_continue = False
        self.framing = BY_NOTHING
        self._promised = 0
        self.request: Request | None = None
        self.reading = READING_HEAD
        self.writing = WRITING_HEAD
        self.persistent = True
        self.peer_closed = False

    # Receiving

    def feed(self, data: bytes) -> None:
        """Add received bytes; b"" says that the peer sends no more."""
        if not data:
            self.peer_closed = True
        elif self.received.data:
            self.received.append(data)
        else:
            self.received.data = data

    @property
    def buffered(self) -> int:
        """Bytes received and not consumed yet."""
        return len(self.received.data)

    def next_request(self) -> Request | None:
        """Return the next request, None when more must be fed first.

        Raises:
            ProtocolError: what was received must be refused. Answer with `refuse`, then close: nothing that
                was or will be received on this connection is ever looked at again.
        """
        received = self.received
        data = received.data
        if self.reading is not READING_HEAD or not data:
            return None
        kept = self._kept
        request = None if kept is None else parse_repeated(data, kept, self._limits)
        if request is None:
            request = self._parse()
            if request is None:
                return None
            data = received.data
        else:
            self._patience = PATIENCE
        if len(data) == request.size:  # nothing is pipelined
            received.data = b""
        else:
            received.skip(request.size)
        self.request = request
        self._scanned = 0
        if request.content_length:
            self._await_body(request)
        else:
            self.reading = READING_DONE
        return request

    def _parse(self) -> Request | None:
        """Parse a head that is not known to repeat the one before."""
        received = self.received
        try:
            if not self._skipped and received.data[0] == 13 and not self._skip_blank_line():
                return None
            request = parse_head(received.data, self._limits, self._scanned)
        except ProtocolError:
            self.reading = REFUSED
            self.persistent = False
            raise
        if request is None:
            self._scanned = max(len(received.data) - 3, 0)
            return None
        if not request.persistent:
            self.persistent = False
        if self._patience:
            self._patience -= 1
            self._kept = keep(request)
        else:
            self._kept = None
        return request

    def _skip_blank_line(self) -> bool:
        """RFC 9112 §2.2: one empty line before the request line is ignored, for old clients."""
        data = self.received.data
        if len(data) == 1:
            return False
        if data[1] == 10:
            self.received.skip(2)
            self._skipped = True
        return bool(self.received.data)

    def _await_body(self, request: Request) -> None:
        self.reading = READING_BODY
        self._unanswered_continue = request.expects_continue
        self._body = (
            ChunkedDecoder(self._limits)
            if request.content_length == CHUNKED
            else LengthDecoder(request.content_length)
        )

    def read_body(self, limit: int) -> bytes | None:
        """Return up to `limit` decoded bytes of the body, b"" at its end, None to be fed first.

        Raises:
            ProtocolError: the body breaks its coding. The connection cannot be used again.
            ClientDisconnected: the peer closed before the end of the body.
        """
        body = self._body
        if body is None:
            return b""
        try:
            piece = body.read(self.received, limit)
        except ProtocolError:
            self.reading = REFUSED
            self.persistent = False
            raise
        if not body.left:
            self.reading = READING_DONE
        if piece:
            # RFC 9110 §10.1.1: a client that sends content does not wait for 100 any more.
            self._unanswered_continue = False
        elif piece is None and self.peer_closed:
            self.persistent = False
            raise ClientDisconnected("the client closed the connection before the end of its body")
        return piece

    def take_continue(self) -> bytes:
        """Return 100 (Continue) if the client waits for it before it sends its body, else b"".

        Call it when the application reads and the buffer is empty (RFC 9110 §10.1.1).
        """
        if not self._unanswered_continue or self.writing is not WRITING_HEAD:
            return b""
        self._unanswered_continue = False
        return CONTINUE

    def _body_is_in_the_way(self) -> bool:
        """Return whether the rest of the request body is too much, or too uncertain, to be drained."""
        if self.reading is not READING_BODY or self._body is None:
            return self.reading is REFUSED
        return self._unanswered_continue or not 0 <= self._body.left <= DRAIN_LIMIT

    # Sending

    def start_response(self, head: ResponseHead, length: int | None, date: str, server: str) -> bytes:
        """Begin the response and return its head.

        Args:
            head: what the application gave, checked.
            length: bytes of body if the worker knows and the application did not say, else None.
            date: the value of Date.
            server: the value of Server, "" for none.

        Raises:
            RuntimeError: there is no request, or its response was begun already.
        """
        request = self.request
        if request is None or self.writing is not WRITING_HEAD:
            raise RuntimeError("no request waits for a response")
        if self._body is not None and self._body_is_in_the_way():
            self.persistent = False
        status, _, _, given, _ = head
        plan = plan_response(request, status, length if given is None else given, self.persistent)
        self.writing = WRITING_BODY
        self.framing, self._promised, self.persistent = plan
        return render_head(head, plan, request.version, date, server)

    def respond(self, head: ResponseHead, body: bytes, date: str, server: str) -> bytes:
        """Return a whole response of which everything is known: one write.

        Args:
            head: what the application gave, checked.
            body: all of the body.
            date: the value of Date.
            server: the value of Server, "" for none.
        """
        status, line, fields, given, own = head
        request = self.request
        if (
            request is not None
            and request.method != "HEAD"
            and request.version == "HTTP/1.1"
            and self.persistent
            and self._body is None
            and self.writing is WRITING_HEAD
            and status not in SPECIAL
            and given == len(body)
            and server
            and not own
        ):
            # Nearly all are like that. What follows says the same of them, and takes three times as long.
            self.writing = WRITING_DONE
            self.framing = BY_LENGTH
            self._promised = 0
            return plain_head(line, fields, date, server) + body
        rendered = self.start_response(head, len(body), date, server)
        if self._promised == len(body):
            self.writing = WRITING_DONE
            self._promised = 0
            return rendered + body
        # HEAD, 204, 205 …, or not as long as the application said.
        return rendered + self.frame(body) + self.end_response()

    def frame(self, data: bytes) -> bytes:
        """Return a piece of body as it goes out.

        Args:
            data: decoded bytes; what exceeds the promised Content-Length is cut off, and nothing of it
                is returned for a response without a body.
        """
        framing = self.framing
        if framing is BY_CHUNKS:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if framing is BY_LENGTH:
            if len(data) > self._promised:
                data = data[: self._promised]
            self._promised -= len(data)
            return data
        return data if framing is BY_CLOSE else b""

    @property
    def missing(self) -> int:
        """Bytes that the head promised and that were not framed yet, -1 when it promised no number."""
        if self.framing is BY_LENGTH:
            return self._promised
        return 0 if self.framing is BY_NOTHING else -1

    @property
    def sends_raw(self) -> bool:
        """Whether body bytes go out as they are, so that `sendfile` can send them."""
        return self.framing in {BY_LENGTH, BY_CLOSE}

    def sent_raw(self, count: int) -> None:
        """Note bytes of body that went out by another way than `frame`."""
        if self.framing is BY_LENGTH:
            self._promised -= count

    def end_response(self) -> bytes:
        """End the response and return the last bytes of it.

        A response that is shorter than promised must not look complete: the connection will close.
        """
        if self.writing is not WRITING_BODY:
            # Given up, or ended already: a last chunk now would make it look complete.
            return b""
        self.writing = WRITING_DONE
        if self.framing is BY_CHUNKS:
            return b"0\r\n\r\n"
        if self.framing is BY_LENGTH and self._promised:
            self.persistent = False
        return b""

    def abort(self) -> None:
        """Give up the response: it never gets its end, and the connection must close."""
        self.writing = WRITING_DONE
        self.persistent = False

    def refuse(self, status: int, *, date: str, server: str) -> bytes:
        """Return a whole error response, b"" when one has begun already. The connection must close."""
        self.persistent = False
        if self.writing is not WRITING_HEAD:
            self.abort()
            return b""
        self.writing = WRITING_DONE
        # RFC 9110 §9.3.2: a HEAD that was refused before it was parsed gets no body either.
        begun = "HEAD" if self.received.data[:5] == b"HEAD " else ""
        method = begun if self.request is None else self.request.method
        return error_head(status, method=method, date=date, server=server)

    def take_over(self) -> bytes:
        """Leave the connection to somebody who speaks another protocol on it (RFC 9110 §7.8).

        Whatever is rendered from now on has no bytes, and nothing more is read as HTTP.

        Returns:
            What was received behind the request.

        Raises:
            RuntimeError: there is no request, or its response has begun.
        """
        if self.request is None or self.writing is not WRITING_HEAD:
            raise RuntimeError("the response has begun: the connection cannot be taken over any more")
        self.abort()
        self.framing, self._promised = BY_NOTHING, 0
        self.reading = READING_TAKEN
        early = bytes(self.received.data)
        self.received.data = b""
        return early

    # Between requests

    def next_cycle(self) -> bool:
        """Make ready for the next request, after the response has ended.

        Returns:
            False when the connection must close: it is not persistent, or the request was not read to
            its end and no more of it may be drained.
        """
        if not self.persistent or self.reading is not READING_DONE or self.writing is not WRITING_DONE:
            return False
        self.request = None
        self.reading = READING_HEAD
        self.writing = WRITING_HEAD
        self._body = None
        self._unanswered_continue = False
        self._skipped = False
        return True
