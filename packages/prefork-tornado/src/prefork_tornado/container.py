# SPDX-License-Identifier: MIT
"""WSGI applications beside Tornado's event loop: each request is one call in a thread of a pool.

Decides how the body of a request and the pieces of a response get from the loop to the thread and back, and
what the application may call in which order (PEP 3333).
"""

from __future__ import annotations

import os
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Final

from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate

from prefork.errors import ClientDisconnected
from prefork.http import check_head
from prefork.http.framing import has_body
from prefork.wsgi.environ import Peer, base_environ, make_environ
from prefork.wsgi.errors import ErrorStream
from prefork.wsgi.input import Input
from prefork.wsgi.watch import EXTEND_DEADLINE

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine

    from prefork.http import ResponseHead
    from prefork.settings import Settings
    from prefork.worker import Exchange

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

IN_MEMORY: Final = 1024**2
"""Bytes of a body from which on it waits in a temporary file for its end."""

ResponseArgs = tuple[str, list[tuple[str, str]]]
"""Status and fields, as an application gives them."""

_NO_BODY: Final = Input(lambda _limit: b"")


class Container(HTTPServerConnectionDelegate):
    """A WSGI application.

    Args:
        app: the callable.
        loop: the event loop.
        log: the error log.
        settings: the resolved settings.

    Attributes:
        app, loop, log: as given.
        pool: the threads.
        is_closed: whether nothing that they say reaches anybody.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[Any]],
        loop: asyncio.AbstractEventLoop,
        log: logging.Logger,
        settings: Settings,
    ) -> None:
        self.app = app
        self.loop = loop
        self.log = log
        self.is_closed = False
        self.pool = ThreadPoolExecutor(settings.threads, "wsgi")
        errors = ErrorStream(log)
        several = settings.workers != 1 or settings.max_workers > 1

        @cache
        def base(server: tuple[str, int] | None) -> dict[str, Any]:
            return base_environ(
                server,
                script_name=os.environ.get("SCRIPT_NAME", ""),
                errors=errors,
                multithread=settings.threads > 1,
                multiprocess=several,
            )

        self._base = base

    def close(self) -> None:
        """Leave calls alone that have not ended; the process is about to."""
        self.is_closed = True
        self.pool.shutdown(wait=False, cancel_futures=True)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:  # noqa: ARG002
        """See Tornado."""
        connection: Any = request_conn
        return _Call(self, connection.exchange)

    def environ(self, exchange: Exchange, body: Input) -> dict[str, Any]:
        """Return the environ of a request.

        Args:
            exchange: the request in hand.
            body: `wsgi.input`.

        Raises:
            ProtocolError: the path is not below SCRIPT_NAME.
        """
        address, port = exchange.peer
        peer = Peer(address, str(port) if address else "")
        base = self._base(exchange.server)
        environ = make_environ(base, exchange.request, peer, exchange.forwarded(), body)
        environ[EXTEND_DEADLINE] = exchange.extend_deadline
        return environ


class _Call(HTTPMessageDelegate):
    """One request, and the call that answers it.

    Args:
        container: the application.
        exchange: the request in hand.
    """

    def __init__(self, container: Container, exchange: Exchange) -> None:
        self._container = container
        self._exchange = exchange
        self._body: SpooledTemporaryFile[bytes] | None = None
        self._behind: ThreadFuture[None] | None = None

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """See Tornado."""

    def data_received(self, chunk: bytes) -> None:
        """See Tornado."""
        if self._body is None:
            self._body = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed when the call is over)
        self._body.write(chunk)

    def on_connection_close(self) -> None:
        """See Tornado."""
        self._close_body()

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()

    def finish(self) -> None:
        """See Tornado: the request is whole."""
        body = _NO_BODY
        if self._body is not None:
            self._body.seek(0)
            body = Input(self._body.read)
        self._exchange.wake = self._wake
        self._container.pool.submit(self._run, self._container.environ(self._exchange, body))

    def _run(self, environ: dict[str, Any]) -> None:
        """Call the application. In a thread, as all that an `Answer` does."""
        answer = Answer(self._exchange.request.method, self.send)
        failure: BaseException | None = None
        try:
            answer.take(self._container.app(environ, answer.start))
        except BaseException as error:  # noqa: BLE001 (the application call; it may call sys.exit)
            failure = error
        self._close_body()
        self._container.loop.call_soon_threadsafe(self._over, answer, failure)

    def send(self, head: ResponseArgs | None, data: bytes) -> ThreadFuture[None]:
        """Have the loop send a piece of body; the result comes when more may be sent.

        Args:
            head: of the response if it was not sent yet.
            data: the piece.
        """
        done: ThreadFuture[None] = ThreadFuture()
        self._container.loop.call_soon_threadsafe(self._send, head, data, done)
        return done

    # In the loop again

    def _send(self, head: ResponseArgs | None, data: bytes, done: ThreadFuture[None]) -> None:
        exchange = self._exchange
        if self._container.is_closed:
            done.set_exception(ClientDisconnected("the worker has ended"))
            return
        try:
            if head is not None:
                exchange.start(*head)
            exchange.write(data)
        except OSError as error:
            done.set_exception(error)
            return
        if exchange.is_behind:
            self._behind = done
        else:
            done.set_result(None)

    def _wake(self) -> None:
        self._container.loop.call_soon(self._woken)

    def _woken(self) -> None:
        if self._behind is not None and not self._exchange.is_behind and not self._container.is_closed:
            done, self._behind = self._behind, None
            done.set_result(None)  # if the client has gone the next piece finds out

    def _over(self, answer: Answer, failure: BaseException | None) -> None:
        """End the response."""
        if self._container.is_closed:
            return
        exchange = self._exchange
        try:
            if failure is not None and not answer.is_complete:
                exchange.fail(failure)
                return
            if (head := answer.unsent()) is not None:
                exchange.start(*head)
            exchange.finish(answer.last)
        except ClientDisconnected:
            return  # prefork knows
        except Exception as error:  # noqa: BLE001 (a response without a head)
            exchange.fail(error)
        if failure is not None:
            self._container.log.error("error in close() of the response", exc_info=failure)


class Answer:
    """What a WSGI application answers, from its side.

    Args:
        method: of the request.
        send: sends a head, if there is one, and a piece of body; the result says when more may follow.

    Attributes:
        last: the last bytes of the body.
        is_complete: whether that is all of it.
    """

    def __init__(self, method: str, send: Callable[[ResponseArgs | None, bytes], ThreadFuture[None]]) -> None:
        self.last = b""
        self.is_complete = False
        self._method = method
        self._send = send
        self._head: ResponseHead | None = None
        self._args: ResponseArgs | None = None
        self._begun = False
        self._sent = 0
        self._before: ThreadFuture[None] | None = None

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """`start_response` (PEP 3333, "The start_response() Callable")."""
        if exc_info is not None:
            try:
                if self._begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # break the cycle through this frame
        elif self._head is not None:
            raise AssertionError("start_response was called twice without exc_info")
        if not isinstance(headers, list):
            raise TypeError(f"response headers must be a list, not {type(headers).__name__}")
        self._head = check_head(status, headers)
        self._args = (status, headers)
        return self.write

    def unsent(self) -> ResponseArgs | None:
        """Return the head if it is still to be sent."""
        if self._args is None:
            raise AssertionError("the application returned a body without calling start_response")
        return None if self._begun else self._args

    def write(self, data: bytes) -> None:
        """The `write` callable of PEP 3333: send a piece of body, and the head before the first."""
        if not isinstance(data, bytes):
            raise TypeError(f"the application returned {type(data).__name__} as body, not bytes")
        if not data:
            return
        head = self.unsent()
        if self._before is not None:
            self._before.result()
        self._begun = True
        self._sent += len(data)
        self._before = self._send(head, data)

    def take(self, body: Iterable[Any]) -> None:
        """Send what the application has returned."""
        try:
            if isinstance(body, list | tuple):
                self.last = b"".join(body)
            else:
                for piece in body:
                    self.write(piece)
                    if self._is_enough():
                        break
            self.is_complete = True
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _is_enough(self) -> bool:
        """Return whether nobody gets more of the body, which may be endless."""
        head = self._head
        if head is None or not self._sent:
            return False
        return not has_body(self._method, head.status) or (
            head.length is not None and self._sent > head.length
        )
