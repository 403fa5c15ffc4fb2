# SPDX-License-Identifier: MIT
"""The application of every case: as little as WSGI allows, so that the server is what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

BODY: Final = b"Hello, world!"
HEADERS: Final = (("Content-Type", "text/plain"), ("Content-Length", str(len(BODY))))


def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 13 bytes."""
    start_response("200 OK", list(HEADERS))
    return [BODY]
