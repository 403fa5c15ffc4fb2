# SPDX-License-Identifier: MIT
"""A request that nobody sends: it warms an application up before it is forked.

It decides what such a request looks like and what counts as its failure. Neither connection nor parser nor
log of requests is in between: what is to be warm is the application.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

from prefork.errors import BootError
from prefork.wsgi.environ import base_environ
from prefork.wsgi.errors import ErrorStream

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

_FAILED: Final = 500
"""From this status on a request counts as failed."""
_PORTS: Final = {"http": "80", "https": "443"}


def request(application: Callable[..., Any], target: str, log: logging.Logger, script_name: str = "") -> None:
    """Have an application answer one GET request, and read the answer to its end.

    Args:
        application: the WSGI application.
        target: a path such as "/shop?page=1", or a URL, whose scheme and host the application sees then.
        log: where its `wsgi.errors` goes.
        script_name: where the application is mounted, above the path.

    Raises:
        BootError: it raised, or answered with a status of 500 or more.
    """
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda _data: None

    try:
        body = application(_environ(target, log, script_name), start_response)
        try:
            for _ in body:
                pass
        finally:
            if hasattr(body, "close"):
                body.close()
    except (Exception, SystemExit) as error:
        raise BootError(f"warmup: {target} raised {type(error).__name__}: {error}") from error
    status = statuses[-1] if statuses else "no status"
    if not status[:3].isdecimal() or int(status[:3]) >= _FAILED:
        raise BootError(f"warmup: {target} was answered with {status}")


def _environ(target: str, log: logging.Logger, script_name: str) -> dict[str, Any]:
    parts = urlsplit(target)
    scheme = parts.scheme or "http"
    environ = base_environ(
        (parts.hostname or "localhost", int(parts.port or _PORTS.get(scheme, "80"))),
        script_name=script_name,
        errors=ErrorStream(log),
        multithread=False,
        multiprocess=True,
    )
    return environ | {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": str(unquote_to_bytes(parts.path or "/"), "latin-1"),
        "QUERY_STRING": parts.query,
        "RAW_URI": parts._replace(scheme="", netloc="").geturl() or "/",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "HTTP_HOST": parts.netloc or "localhost",
        "HTTP_USER_AGENT": "prefork-warmup",
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(),
    }
