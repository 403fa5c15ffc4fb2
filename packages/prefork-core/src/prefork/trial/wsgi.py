# SPDX-License-Identifier: MIT
"""The application under test, for worker classes that serve WSGI: `prefork.trial.wsgi:app`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from prefork.trial import answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request as `answers` says."""
    path: str = environ["PATH_INFO"]
    does, argument = answers.part(path)
    if does == "stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _stream(argument)
    if does == "empty":
        start_response("204 No Content", [])
        return []
    body = _body(environ, path, does, argument)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _body(environ: WSGIEnvironment, path: str, does: str, argument: str) -> bytes:
    if does == "raise":
        raise answers.RaisedOnPurpose(path)
    if does == "exit":
        sys.exit(3)
    if does == "echo":
        return _read(environ)
    if does == "big":
        return b"x" * int(argument)
    if does == "block":
        answers.block(argument)
    if does == "hold":
        _hold(argument)
    return answers.line(path)


def _read(environ: WSGIEnvironment) -> bytes:
    body: bytes = environ["wsgi.input"].read()
    return body


def _hold(name: str) -> None:
    answers.begin(name)
    while not answers.is_released(name):
        time.sleep(answers.PAUSE)


def _stream(name: str) -> Iterator[bytes]:
    yield b"first\n"
    _hold(name)
    yield b"last\n"
