# SPDX-License-Identifier: MIT
"""A client that sends whatever bytes it is told to; responses are read by the standard library."""

from __future__ import annotations

import http.client
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from deadlines import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import BinaryIO, Self


class Answer(NamedTuple):
    """A response.

    Attributes:
        status: its status code.
        fields: its fields, found by names in any case.
        body: what arrived of its body.
        whole: whether the body was as long as its framing said.
    """

    status: int
    fields: http.client.HTTPMessage
    body: bytes
    whole: bool


class _Lent:
    """The client's one buffered reader, which a response must not close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def makefile(self, _mode: str) -> Self:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        return None


class Client:
    """A connection to a server.

    Args:
        address: host and port, or the path of a Unix socket.
        receive_buffer: bytes that the kernel keeps for the client, 0 for its default.
    """

    def __init__(self, address: Any, receive_buffer: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str | bytes) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        if receive_buffer:
            # Before connect(): the window is agreed on there.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(address)
        self._file = cast("BinaryIO", self.sock.makefile("rb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, *pieces: bytes) -> Self:
        """Send bytes."""
        for piece in pieces:
            self.sock.sendall(piece)
        return self

    def get(self, target: str = "/", *lines: str) -> Self:
        """Send a GET."""
        return self.send(request("GET", target, *lines))

    def answer(self, method: str = "GET") -> Answer:
        """Read one response, interim ones left out.

        Args:
            method: of the request.

        Raises:
            http.client.HTTPException, OSError: no response came.
        """
        response = http.client.HTTPResponse(cast("socket.socket", _Lent(self._file)), method=method)
        response.begin()
        try:
            body, whole = response.read(), True
        except http.client.IncompleteRead as error:
            body, whole = error.partial, False
        except ConnectionResetError:
            body, whole = b"", False
        return Answer(response.status, response.headers, body, whole)

    def read(self, count: int) -> bytes:
        """Return so many bytes, fewer only at the end."""
        return self._file.read(count)

    def read_head(self) -> bytes:
        """Return the bytes of one response head."""
        lines = []
        while True:
            lines.append(self._file.readline())
            if lines[-1] in {b"\r\n", b""}:
                return b"".join(lines)

    def rest(self) -> bytes:
        """Return all that comes until the server closes.

        Raises:
            ConnectionResetError: it resets the connection.
        """
        return self._file.read()

    def finish_sending(self) -> Self:
        """Close the sending direction."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Vanish as a crashed client does: with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.sock.close()


def request(method: str, target: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """Return the bytes of a request.

    Args:
        method: its method.
        target: its target.
        lines: field lines besides Host.
        body: sent with Content-Length, unless it is empty.
        version: of HTTP.
    """
    head = [f"{method} {target} HTTP/{version}", "Host: test", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def chunked(pieces: Iterable[bytes]) -> bytes:
    """Return pieces of a body in chunked coding, with the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
