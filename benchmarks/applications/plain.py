# SPDX-License-Identifier: MIT
"""The applications without a framework: as little as WSGI allows, so that the server is what is measured."""

from __future__ import annotations

import os
import time
from itertools import repeat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

WORK_SHORT: Final = 50_000
"""Turns of `work` in one request of /work: about 1 ms on the machine of the recorded results."""
WORK_LONG: Final = 10_000_000
"""Turns of `work` in one request of /burst: about 0.2 s."""
SLEEP: Final = 0.010
LONG: Final = 12.0


def constant(body: bytes) -> Application:
    """Return an application that answers the same bytes to every request."""
    headers = (("Content-Type", "text/plain"), ("Content-Length", str(len(body))))

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        return [body]

    return app


hello: Final = constant(b"Hello, world!")
kilobyte: Final = constant(b"k" * 1_024)
ten_kilobytes: Final = constant(b"t" * 10_240)
megabyte: Final = constant(b"m" * 1_048_576)


def answer(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    """Answer 200 with a body."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def upload(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the whole body in pieces, as a form parser does, and answer how long it was."""
    stream = environ["wsgi.input"]
    length = 0
    while piece := stream.read(65_536):
        length += len(piece)
    if length != int(environ["CONTENT_LENGTH"]):
        start_response("500 Body Lost", [("Content-Length", "0")])
        return []
    return answer(start_response, str(length).encode())


def sleep(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Wait 10 ms, as for a database."""
    time.sleep(SLEEP)
    return answer(start_response, b"slept")


def work(turns: int) -> int:
    """Compute for a while, in Python and with the GIL.

    No number is over 256, so none is allocated: where the next block of memory lies makes a fifth of the
    time, and that is another in each process.
    """
    total = 1
    for _ in repeat(None, turns):
        total = (total * 7 + 3) & 31
    return total


def wait(seconds: float) -> Callable[[], object]:
    """Return a function that sleeps."""
    return lambda: time.sleep(seconds)


ERRANDS: Final[dict[str, Callable[[], object]]] = {
    "/echo": lambda: None,
    "/sleep": wait(SLEEP),
    "/long": wait(LONG),
    "/work": lambda: work(WORK_SHORT),
    "/burst": lambda: work(WORK_LONG),
}
"""Path → what is done before the query is echoed, by which a client knows the answer for its own."""


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve the clients that check every answer, and slow ones beside them."""
    path = environ["PATH_INFO"]
    if path == "/upload":
        return upload(environ, start_response)
    if path == "/megabyte":
        return megabyte(environ, start_response)
    if path == "/worker":
        return answer(start_response, str(os.getpid()).encode())
    ERRANDS[path]()
    return answer(start_response, environ["QUERY_STRING"].encode("latin-1"))
