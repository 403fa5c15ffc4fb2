# SPDX-License-Identifier: MIT
"""Clients that people really use: the standard library's, and for what they hide, the bytes of the wire."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import json
import secrets
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefork.testing.client import TIMEOUT, connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import Message
    from io import BufferedReader

    from prefork.testing.client import Address

_BLOCK: Final = 1 << 18


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def fetch(
    address: Address,
    target: str,
    *,
    method: str = "GET",
    body: bytes | Iterable[bytes] | None = None,
    source: str = "127.0.0.1",
    **fields: str,
) -> Reply:
    """Send one request with `http.client`.

    Args:
        address: where to.
        target: path and query.
        method: the method.
        body: bytes go with Content-Length; pieces are chunked, unless `Content_Length` is given.
        source: the loopback address to come from.
        fields: header fields, with underscores for dashes.
    """
    assert isinstance(address, tuple)
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT, source_address=(source, 0))
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    chunked = body is not None and not isinstance(body, bytes) and "Content-Length" not in headers
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    try:
        connection.request(method, target, body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


class Browser:
    """Keeps cookies and follows redirects, as people's browsers do.

    Args:
        address: of the server.
        fields: header fields of every request, with underscores for dashes.
    """

    def __init__(self, address: Address, **fields: str) -> None:
        assert isinstance(address, tuple)
        self.url = "http://{}:{}".format(*address)
        self.cookies = http.cookiejar.CookieJar()
        self._fields = {name.replace("_", "-"): value for name, value in fields.items()}
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, target: str) -> Reply:
        """Ask for a page."""
        return self._open(urllib.request.Request(self.url + target, headers=self._fields))

    def post(self, target: str, **form: str) -> Reply:
        """Send a form."""
        data = urllib.parse.urlencode(form).encode()
        return self._open(urllib.request.Request(self.url + target, data, self._fields))

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, empty when there is none."""
        return next((cookie.value or "" for cookie in self.cookies if cookie.name == name), "")

    def _open(self, request: urllib.request.Request) -> Reply:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return Reply(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, error.read())


class Upload(NamedTuple):
    """A multipart form (RFC 7578) with a file, of which only a block at a time is in memory."""

    content_type: str
    before: bytes
    after: bytes

    def pieces(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the form."""
        yield self.before
        yield from content
        yield self.after

    def length(self, content: int) -> int:
        """Return the bytes of the form with a file of so many bytes."""
        return len(self.before) + content + len(self.after)


def upload(filename: str, **form: str) -> Upload:
    """Return a form with some texts, and a file in the field `file`."""
    boundary = secrets.token_hex(16)
    texts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form.items()
    )
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return Upload(
        f"multipart/form-data; boundary={boundary}",
        (texts + head).encode(),
        f"\r\n--{boundary}--\r\n".encode(),
    )


def blocks(size: int) -> Iterator[bytes]:
    """Yield so many bytes, in which no two blocks are alike."""
    block = bytes(range(256)) * (_BLOCK // 256)
    for start in range(0, size, _BLOCK):
        yield (start.to_bytes(8, "big") + block[8:])[: size - start]


def wire(address: Address, request: bytes | str) -> bytes:
    """Send bytes and no more, and return all that comes back."""
    with connect(address) as sock:
        sock.sendall(request.encode() if isinstance(request, str) else request)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """Say that nothing more is sent, and return all that comes until the server closes."""
    with contextlib.suppress(OSError):  # the server was quicker with its reset, which reading will say
        sock.shutdown(socket.SHUT_WR)
    file: BufferedReader = sock.makefile("rb")
    with file:
        return file.read()
