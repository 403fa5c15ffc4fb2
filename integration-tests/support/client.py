# SPDX-License-Identifier: MIT
"""A client that believes nothing: it tells apart every way in which a request can fail."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a Unix socket ("@name" for an abstract one)."""

TIMEOUT: Final = 20.0
"""Seconds for one wait on the network."""

_LENGTH: Final = re.compile(rb"^content-length: *(\d+) *\r$", re.IGNORECASE | re.MULTILINE)
_CLOSE: Final = re.compile(rb"^connection: *close *\r$", re.IGNORECASE | re.MULTILINE)


class RequestFailed(Exception):
    """A request got no whole answer.

    Args:
        kind: "refused" (nobody listens), "connect", "reset", "empty" (closed without a byte), "cut" (closed
            within the answer), "timeout", "garbage".
        text: details.
    """

    def __init__(self, kind: str, text: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    head: str
    body: bytes
    closing: bool
    """Whether it says that the connection will be closed."""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def connect(address: Address, timeout: float = TIMEOUT) -> socket.socket:
    """Return a connected socket.

    Raises:
        RequestFailed: refused, connect or timeout.
    """
    family = socket.AF_UNIX
    if not isinstance(address, str):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        sock.connect("\0" + address[1:] if isinstance(address, str) and address.startswith("@") else address)
    except (ConnectionRefusedError, FileNotFoundError) as error:
        sock.close()
        raise RequestFailed("refused", str(error)) from error
    except TimeoutError as error:
        sock.close()
        raise RequestFailed("timeout", "while connecting") from error
    except OSError as error:
        sock.close()
        raise RequestFailed("connect", str(error)) from error
    return sock


def render(path: str, method: str = "GET", body: bytes = b"", *fields: str) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(sock: socket.socket, data: bytes) -> None:
    """Send all bytes.

    Raises:
        RequestFailed: reset or timeout.
    """
    try:
        sock.sendall(data)
    except TimeoutError as error:
        raise RequestFailed("timeout", "while sending") from error
    except OSError as error:
        raise RequestFailed("reset", f"while sending: {error}") from error


def read_answer(sock: socket.socket, *, to_head: bool = False) -> Answer:
    """Read one response, which must have a Content-Length or end with the connection.

    Args:
        sock: the connection; closed after a response that announces it, so that the server need not wait.
        to_head: whether the request was HEAD, whose answer has no body.

    Raises:
        RequestFailed: there was no whole response.
    """
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        data = _receive(sock)
        if not data:
            raise RequestFailed("cut" if buffer else "empty", repr(buffer))
        buffer += data
    head, _, body = buffer.partition(b"\r\n\r\n")
    head += b"\r\n"
    if not head.startswith(b"HTTP/1."):
        raise RequestFailed("garbage", repr(head))
    length = _LENGTH.search(head)
    if length is None:
        while data := _receive(sock):
            body += data
    missing = int(length[1]) - len(body) if length is not None and not to_head else 0
    while missing > 0:
        data = _receive(sock)
        if not data:
            raise RequestFailed("cut", f"{missing} bytes of {head!r} are missing")
        body += data
        missing -= len(data)
    if missing < 0:
        raise RequestFailed("garbage", f"{-missing} bytes too many after {head!r}")
    answer = Answer(int(head[9:12]), head.decode("latin-1"), body, _CLOSE.search(head) is not None)
    if answer.closing:
        sock.close()
    return answer


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except TimeoutError as error:
        raise RequestFailed("timeout", "while waiting for the answer") from error
    except OSError as error:
        raise RequestFailed("reset", str(error)) from error


def ask(
    address: Address,
    path: str = "/",
    *fields: str,
    method: str = "GET",
    body: bytes = b"",
    timeout: float = TIMEOUT,
) -> Answer:
    """Send one request over a connection of its own, and return the answer.

    Raises:
        RequestFailed: there was none.
    """
    with connect(address, timeout) as sock:
        send(sock, render(path, method, body, *fields))
        return read_answer(sock, to_head=method == "HEAD")
