# SPDX-License-Identifier: MIT
"""An operator's end of the control socket: one request, one answer, and what can go wrong.

It decides what is told of a server that does not answer. What an answer says is `protocol`'s.
"""

from __future__ import annotations

import os
import socket
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

from prefork.control.protocol import Refused, Trouble, parse_answer, render_request
from prefork.errors import PreforkError

if TYPE_CHECKING:
    from prefork.control.protocol import Request

_BLOCK: Final = 65536
_PAUSE: Final = 0.02
"""Seconds between two attempts to connect while the socket's queue is full."""


class NoServer(PreforkError):
    """There is nobody to ask, or no longer."""


class NotAllowed(PreforkError):
    """This user may not ask."""


class TooSlow(PreforkError):
    """There was no answer in time."""


def ask(path: str, request: Request, *, timeout: float = inf, until_gone: bool = False) -> dict[str, Any]:
    """Ask a server, and return the result.

    Args:
        path: of its control socket.
        request: what to ask.
        timeout: seconds for all of it.
        until_gone: whether to wait, after the answer, for the end of the server too.

    Raises:
        NoServer: nobody is there, or no longer.
        NotAllowed: this user may not ask.
        TooSlow: the time was over.
        Refused: the server says what is the trouble.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _connect(sock, path, deadline)
            result = _result(path, _converse(sock, render_request(request), deadline))
            while until_gone and _receive(sock, deadline):
                pass
        except TimeoutError:
            raise TooSlow(f"no answer from {path} in {timeout:g} s") from None
    return result


def _result(path: str, line: bytes) -> dict[str, Any]:
    try:
        return parse_answer(line)
    except ValueError as error:
        raise NoServer(f"what answers on {path} is no prefork server") from error
    except Refused as refused:
        if refused.trouble is Trouble.DENIED:
            raise NotAllowed(f"{path}: {refused.why}") from None
        raise


def _connect(sock: socket.socket, path: str, deadline: float) -> None:
    while True:
        try:
            _limit(sock, deadline)
            sock.connect(path)
            return
        except BlockingIOError:  # the queue is full, and with a timeout connect(2) does not wait for room
            time.sleep(_PAUSE)
        except TimeoutError:
            raise
        except OSError as error:
            raise _trouble(path, error) from error


def _trouble(path: str, error: OSError) -> PreforkError:
    if isinstance(error, FileNotFoundError):
        return NoServer(f"there is no socket {path}", hint="does the server run, with this control_socket?")
    if isinstance(error, ConnectionRefusedError):
        return NoServer(f"nobody listens on {path}", hint="the server that has made it was killed")
    if isinstance(error, PermissionError):
        return NotAllowed(f"no permission to use {path}", hint=_whom_to_be(path))
    return NoServer(f"cannot connect to {path}: {error.strerror or error}")


def _whom_to_be(path: str) -> str:
    try:
        owner = f" (uid {os.stat(path).st_uid})"
    except OSError:
        owner = ""
    return f"root and the user who started the server{owner} may"


def _converse(sock: socket.socket, request: bytes, deadline: float) -> bytes:
    """Send a request, and return one line."""
    received = bytearray()
    try:
        _limit(sock, deadline)
        sock.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have said why
    while not received.endswith(b"\n"):
        data = _receive(sock, deadline)
        if not data:
            raise NoServer("the server has gone without an answer")
        received += data
    return bytes(received)


def _receive(sock: socket.socket, deadline: float) -> bytes:
    _limit(sock, deadline)
    try:
        return sock.recv(_BLOCK)
    except ConnectionResetError:
        return b""


def _limit(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(None if left == inf else left)
