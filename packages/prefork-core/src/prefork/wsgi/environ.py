# SPDX-License-Identifier: MIT
"""The WSGI environ of one request (PEP 3333, "environ Variables"; RFC 3875 §4.1).

What is the same for all requests of a worker, or of a listener, is made once and copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from prefork import __version__
from prefork.http.forwarded import path_info
from prefork.wsgi.response import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.http import Request
    from prefork.http.forwarded import Forwarded


class Peer(NamedTuple):
    """The other end of a connection.

    Attributes:
        address: its IP address; "" on a Unix socket.
        port: its port; "" on a Unix socket.
    """

    address: str
    port: str


def base_environ(
    server: tuple[str, int] | None, *, script_name: str, errors: object, multithread: bool, multiprocess: bool
) -> dict[str, Any]:
    """Return what is the same for every request that comes through one listener.

    Args:
        server: host and port of the listener; None for a Unix socket, where Host decides.
        script_name: where the application is mounted, "" for the root.
        errors: the text stream of `wsgi.errors`.
        multithread: whether another thread may call the application at the same time.
        multiprocess: whether another process may.
    """
    environ: dict[str, Any] = {
        "SERVER_SOFTWARE": f"prefork/{__version__}",
        "SCRIPT_NAME": script_name.rstrip("/"),
        "wsgi.version": (1, 0),
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        # Reading to the end is safe, also for chunked bodies, which have no CONTENT_LENGTH.
        "wsgi.input_terminated": True,
    }
    if server is not None:
        # RFC 3875 §4.1.14: an IPv6 address stands in brackets, as in the URL that is made of it.
        environ["SERVER_NAME"] = f"[{server[0]}]" if ":" in server[0] else server[0]
        environ["SERVER_PORT"] = str(server[1])
    return environ


def make_environ(
    base: Mapping[str, Any], request: Request, peer: Peer, forwarded: Forwarded, body: object
) -> dict[str, Any]:
    """Return the environ of one request.

    Args:
        base: from `base_environ`.
        request: its head.
        peer: who sent it.
        forwarded: what a trusted proxy says about it.
        body: `wsgi.input`.

    Raises:
        ProtocolError: the path is not below SCRIPT_NAME.
    """
    scheme, script_name, fields = forwarded
    path = request.path
    if "%" in path:
        path = str(unquote_to_bytes(path), "latin-1")
    elif path == "*":
        path = ""  # RFC 3875 §4.1.5: empty, or it begins with a slash
    # One by one: the same pairs in the display would be a dictionary of their own first.
    environ = {**base, **request.fields}
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = request.query
    environ["RAW_URI"] = request.target
    environ["SERVER_PROTOCOL"] = request.version
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = peer
    environ["wsgi.url_scheme"] = scheme
    environ["wsgi.input"] = body
    if fields:
        environ.update(fields)
    script_name = script_name or environ["SCRIPT_NAME"]
    if script_name:
        environ["SCRIPT_NAME"] = script_name
        environ["PATH_INFO"] = path_info(path, script_name) if path else ""
    if "SERVER_NAME" not in environ:
        _server_from_host(environ)
    return environ


def _server_from_host(environ: dict[str, Any]) -> None:
    """PEP 3333 wants SERVER_NAME and SERVER_PORT, which a Unix socket does not have."""
    host: str = environ.get("HTTP_HOST", "")
    name, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
    environ["SERVER_NAME"] = name or "localhost"
    environ["SERVER_PORT"] = port or ("443" if environ["wsgi.url_scheme"] == "https" else "80")
