# SPDX-License-Identifier: MIT
"""The call of a WSGI application (PEP 3333): the only place that calls one for a client.

Decides what it is given and how its body is sent. What becomes of a request whose application raises, and
of the connection afterwards, is `wsgi.serve`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ClientDisconnected
from prefork.http.framing import BY_NOTHING, asks_upgrade
from prefork.http.states import READING_TAKEN, WRITING_HEAD
from prefork.net.stream import rest_of
from prefork.wsgi.environ import make_environ
from prefork.wsgi.input import Input
from prefork.wsgi.response import FileWrapper
from prefork.wsgi.takeover import is_normal_end
from prefork.wsgi.watch import EXTEND_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.http.forwarded import ForwardPolicy
    from prefork.net.stream import FilePart
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.requesthooks import RequestHooks
    from prefork.wsgi.response import Response
    from prefork.wsgi.takeover import Takeovers
    from prefork.wsgi.watch import Watch

_NO_BODY: Final = Input(lambda _limit: b"")


class Application:
    """A WSGI application.

    Args:
        app: the callable.
        forward: what proxies may say.
        hooks: runs the hooks of a request, None when there are none.
        takeovers: has the connections that the application takes over.
        sendfile: whether files are sent by `sendfile`.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        forward: ForwardPolicy,
        hooks: RequestHooks | None,
        takeovers: Takeovers,
        *,
        sendfile: bool,
    ) -> None:
        self._app = app
        self._forward = forward
        self._hooks = hooks
        self._takeovers = takeovers
        self._sendfile = sendfile

    def answer(self, conn: Connection, response: Response, watch: Watch) -> None:
        """Call the application and send what it answers, as far as the client takes it.

        Args:
            conn: the connection, with the request.
            response: the response to it.
            watch: of the calling thread.

        Raises:
            ProtocolError: the request is to be refused.
            ClientDisconnected: the client went away or stalled.
            BaseException: whatever the application raises.
        """
        request = conn.http.request
        assert request is not None
        forwarded = self._forward.apply(request, conn.peer.address)
        body = Input(conn.read_body) if request.content_length else _NO_BODY
        environ = conn.environ = make_environ(conn.base, request, conn.peer, forwarded, body)
        environ[EXTEND_DEADLINE] = watch.extend_deadline
        if self._hooks is not None:
            self._hooks.before(request)
        # The first question is enough nearly always, and costs no call.
        if "HTTP_UPGRADE" in request.fields and asks_upgrade(request):
            self._call_with_socket(conn, environ, response, watch)
        else:
            self._call(self._app, conn, environ, response)

    def _call_with_socket(
        self, conn: Connection, environ: dict[str, Any], response: Response, watch: Watch
    ) -> None:
        """Call the application with the socket within its reach."""

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            body = self._app(environ, start_response)
            if conn.http.reading is not READING_TAKEN:
                return body
            close = getattr(body, "close", None)
            if close is not None:
                close()
            return iter(())

        self._takeovers.offer(conn, environ, response, watch)
        try:
            self._call(app, conn, environ, response)
        except BaseException as error:
            if not self._takeovers.over(conn) or not is_normal_end(error):
                raise
        else:
            self._takeovers.over(conn)

    def _call(
        self, app: Callable[..., Any], conn: Connection, environ: dict[str, Any], response: Response
    ) -> None:
        body = app(environ, response.start)
        kind = type(body)
        try:
            if kind is list or kind is tuple:
                response.send_list(body)
                return
            if kind is FileWrapper and self._send_file(conn, response, body):
                conn.close_body, body = body.close, None
                return
            response.send_iterable(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _send_file(self, conn: Connection, response: Response, body: FileWrapper) -> bool:
        """Send a regular file by sendfile; return False when that is not possible."""
        if not self._sendfile or conn.http.writing is not WRITING_HEAD or response.head is None:
            return False
        part = rest_of(body.filelike)
        if part is None:
            return False
        send_part(conn, response, part)
        return True


def send_part(conn: Connection, response: Response, part: FilePart) -> None:
    """Send a part of a file as the whole body of a response.

    Args:
        conn: the connection.
        response: the response, whose head has not gone out.
        part: of which file; it stays open until `conn.close_body` is called.

    Raises:
        ClientDisconnected: the client went away.
        OSError: the file cannot be read, or has become shorter.
    """
    head = response.begin_raw(part.count)
    conn.stream.send(head)
    if conn.http.framing is not BY_NOTHING:
        part.count = min(part.count, conn.http.missing)
        response.sent_raw(part.count)
        try:
            conn.stream.send_file(part)
        except ClientDisconnected:
            raise
        except OSError:
            conn.forget_unsent()
            raise
    response.finish()
