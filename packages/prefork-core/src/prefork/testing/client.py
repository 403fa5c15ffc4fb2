# SPDX-License-Identifier: MIT
"""A client that believes nothing: it tells apart every way in which a request can fail."""

from __future__ import annotations

import re
import select
import socket
from dataclasses import dataclass
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a Unix socket ("@name" for an abstract one)."""

TIMEOUT: Final = 20.0
"""Seconds for one wait on the network."""

_LENGTH: Final = re.compile(rb"^content-length: *(\d+) *\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED: Final = re.compile(rb"^transfer-encoding: *chunked *\r$", re.IGNORECASE | re.MULTILINE)
_EMPTY: Final = frozenset({204, 304})
"""Statuses of responses that end with their head, as all below 200 do."""
_CLOSE: Final = re.compile(rb"^connection: *close *\r$", re.IGNORECASE | re.MULTILINE)


class RequestFailed(Exception):
    """A request got no whole answer.

    Args:
        kind: "refused" (nobody listens), "connect", "reset" or "empty" (reset, or closed, without a byte),
            "cut" (either of them within the answer), "timeout", "garbage".
        text: details.

    Attributes:
        path: what was asked for, where whoever asked has noted it.
        port: of this end of the connection, the same.
    """

    path = ""
    port = 0

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


def is_closed(sock: socket.socket) -> bool:
    """Return whether the server has closed a connection on which nothing else is expected."""
    return bool(select.select([sock], [], [], 0)[0])


class Replies:
    """The responses that come on one connection, each taken to its last byte and no further.

    Args:
        sock: the connection.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """What has come and belongs to no response that was asked for."""
        return bytes(self._buffer)

    def next(self, *, to_head: bool = False) -> Answer:
        """Return the next response, which ends as RFC 9112 section 6.3 says.

        Args:
            to_head: whether the request was HEAD, whose answer has no body.

        Raises:
            RequestFailed: there is no whole one.
        """
        head = self._until(b"\r\n\r\n", begun=False)[:-2]
        if not head.startswith(b"HTTP/1."):
            raise RequestFailed("garbage", repr(head))
        status = int(head[9:12])
        empty = to_head or status < 200 or status in _EMPTY
        body = b"" if empty else self._body(head)
        closing = _CLOSE.search(head) is not None
        return Answer(status, head.decode("latin-1"), body, closing)

    def _body(self, head: bytes) -> bytes:
        length = _LENGTH.search(head)
        if length is not None:
            return self._exactly(int(length[1]))
        if _CHUNKED.search(head) is None:
            while self._more(begun=True):
                pass
            return self._exactly(len(self._buffer))
        body = bytearray()
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            self._end()
        self._end()
        return bytes(body)

    def _end(self) -> None:
        """Take the end of a chunk, or of all of them."""
        found = self._exactly(2)
        if found != b"\r\n":
            raise RequestFailed("garbage", f"{found!r} where a chunk ends")

    def _until(self, end: bytes, *, begun: bool = True) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if not self._more(begun=begun or bool(self._buffer)):
                kind = "cut" if begun or self._buffer else "empty"
                raise RequestFailed(kind, repr(bytes(self._buffer)))
        return self._exactly(at + len(end))

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more(begun=True):
                raise RequestFailed("cut", f"{size - len(self._buffer)} bytes are missing")
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _more(self, *, begun: bool) -> bool:
        """Receive more; return False when the server has closed."""
        try:
            data = self._sock.recv(65536)
        except TimeoutError as error:
            raise RequestFailed("timeout", "while waiting for the answer") from error
        except OSError as error:
            raise RequestFailed("cut" if begun else "reset", str(error)) from error
        self._buffer += data
        return bool(data)


class Kept:
    """A connection for more than one request.

    Args:
        address: where to.
    """

    def __init__(self, address: Address) -> None:
        self.sock = connect(address)
        self._replies = Replies(self.sock)

    def send(self, data: bytes) -> None:
        """Send all bytes; see `send`."""
        send(self.sock, data)

    def read(self) -> Answer:
        """Return the next response; see `Replies.next`."""
        return self._replies.next()

    def ask(self, path: str) -> Answer:
        """Send a request, and return the answer."""
        self.send(render(path))
        return self.read()

    def ended(self) -> bool:
        """Wait until something comes; return whether it is the end, without a byte before or a reset.

        Raises:
            RequestFailed: it is a reset, or nothing came.
        """
        try:
            self._replies.next()
        except RequestFailed as error:
            if error.kind != "empty":
                raise
            return True
        return False

    @property
    def rest(self) -> bytes:
        """What has come that nobody has asked for."""
        return self._replies.rest

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def read_answer(sock: socket.socket, *, to_head: bool = False) -> Answer:
    """Read one response, after which there must be nothing.

    Args:
        sock: the connection; closed after a response that announces it, so that the server need not wait.
        to_head: whether the request was HEAD, whose answer has no body.

    Raises:
        RequestFailed: there was no whole response, or more than that.
    """
    replies = Replies(sock)
    answer = replies.next(to_head=to_head)
    if replies.rest:
        raise RequestFailed("garbage", f"{len(replies.rest)} bytes too many after {answer.head!r}")
    if answer.closing:
        sock.close()
    return answer


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
