# SPDX-License-Identifier: MIT
"""An echo application inside `wsgiref.validate`, which checks both sides of PEP 3333 at each call.

The path says how the body is read, the query how the response is given. The validator raises when the server
breaks a rule, so that the client gets a 500; what it only warns of is raised too.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.validate import WSGIWarning, validator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

warnings.simplefilter("error", WSGIWarning)

PIECE = 1000


def by_read(body: Any) -> Iterator[bytes]:
    """Read pieces up to the end."""
    while piece := body.read(PIECE):
        yield piece


def by_readline(body: Any) -> Iterator[bytes]:
    """Read lines up to the end."""
    while line := body.readline():
        yield line


def by_long_readline(body: Any) -> Iterator[bytes]:
    """Read lines of a limited length."""
    while line := body.readline(PIECE):
        yield line


READERS: dict[str, Callable[[Any], Iterable[bytes]]] = {
    "/read": by_read,
    "/read-all": lambda body: [body.read(2**40)],
    "/readline": by_readline,
    "/readline-limit": by_long_readline,
    "/readlines": lambda body: body.readlines(),
    "/readlines-hint": lambda body: [*body.readlines(PIECE), *body.readlines()],
    "/iterate": iter,
    "/ignore": lambda _body: [],
}


class Pieces:
    """A response body that says when it is closed."""

    def __init__(self, pieces: Iterable[bytes], errors: Any, note: str) -> None:
        self._pieces = iter(pieces)
        self._errors = errors
        self._note = note

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the pieces."""
        return self._pieces

    def close(self) -> None:
        """Note that the server has called it."""
        self._errors.write(f"closed {self._note}\n")
        self._errors.flush()


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the request's body."""
    path = environ["PATH_INFO"] or "/ignore"
    body = b"".join(READERS[path](environ["wsgi.input"]))
    facts = "{REQUEST_METHOD} {RAW_URI} {SERVER_PROTOCOL}".format_map(environ)
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("X-Request", facts),
        ("X-Length", environ.get("CONTENT_LENGTH", "none")),
    ]
    how = environ["QUERY_STRING"]
    if how == "length":
        headers.append(("Content-Length", str(len(body))))
    if how == "nothing":
        start_response("204 No Content", [("X-Request", facts)])
        return Pieces([], environ["wsgi.errors"], facts)
    write = start_response("200 OK", headers)
    if how == "write":
        write(body[:10])
        write(body[10:])
        return Pieces([], environ["wsgi.errors"], facts)
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    return Pieces(pieces, environ["wsgi.errors"], facts)


app = validator(echo)


UNREADABLE = -2
"""A block size with which the read() of any file raises: only by its descriptor can it be sent."""


def files(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with a file of the folder SHOP_FILES; the query gives the offset, or the length to announce."""
    path = Path(os.environ["SHOP_FILES"], environ["PATH_INFO"].strip("/"))
    file = path.open("rb")
    how, _, number = environ["QUERY_STRING"].partition("=")
    headers = [("Content-Type", "application/octet-stream")]
    if how == "offset":
        file.seek(int(number))
    if how == "length":
        headers.append(("Content-Length", number))
    start_response("200 OK", headers)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, UNREADABLE)
    return wrapped
