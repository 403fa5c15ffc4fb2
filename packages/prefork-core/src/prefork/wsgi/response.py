# SPDX-License-Identifier: MIT
"""The response of one request, from the application's side (PEP 3333).

Holds the order of `start_response`, `write` and iteration, and the promise of Content-Length. How the
bytes are framed is the connection's business, and how they are sent that of the function it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from prefork.http.framing import BY_LENGTH, BY_NOTHING, has_body
from prefork.http.response import ResponseHead, check_head
from prefork.http.states import WRITING_HEAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from prefork.http import ServerConnection

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_BLOCK: Final = 64 * 1024


class Readable(Protocol):
    """What `wsgi.file_wrapper` can wrap."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end."""


class Out(Protocol):
    """Where the bytes of a response go. Both may raise an OSError when the client is gone."""

    def send(self, data: bytes, /) -> None:
        """Send bytes, with more to come; waits for a client that is far behind."""

    def send_last(self, data: bytes, /) -> None:
        """Send the last bytes; never waits."""


class Manners(Protocol):
    """What all responses of a worker have in common."""

    server: str
    """The value of Server, "" for none."""
    keeps: bool
    """Whether connections stay open; asked when the head goes out, since the worker may be told to stop."""

    def date(self) -> str:
        """Return the value of Date."""


class FileWrapper:
    """`wsgi.file_wrapper`: a file as a response body, sent by `sendfile` where that is possible.

    It is its own iterator and can be moved where the file can, because Werkzeug cuts a Range out of it: it
    closes only the iterator, and reads all that is before the Range of what cannot be moved.

    Args:
        filelike: the file, at the place where the response begins.
        blksize: bytes to read at once where it is not.
    """

    __slots__ = ("blksize", "filelike")

    def __init__(self, filelike: Readable, blksize: int = _BLOCK) -> None:
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the blocks of the file."""
        return self

    def __next__(self) -> bytes:
        """Return the next block."""
        block = self.filelike.read(self.blksize)
        if not block:
            raise StopIteration
        return block

    def seekable(self) -> bool:
        """Return whether the file can be moved."""
        seekable = getattr(self.filelike, "seekable", None)
        return seekable is not None and bool(seekable())

    def seek(self, offset: int, whence: int = 0, /) -> object:
        """Move the file, as its own `seek` does."""
        return self.filelike.seek(offset, whence)  # type: ignore[attr-defined]

    def tell(self) -> int:
        """Return where the file stands."""
        return int(self.filelike.tell())  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the file, if it can be closed."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class Response:
    """What the application answers, on its way out.

    Args:
        http: the connection, with the request being served.
        out: takes the bytes that go out.
        manners: see there.

    Attributes:
        head: what the application gave to `start_response`, checked; None before.
        status: the whole status of it, "200 OK"; "" before.
        headers: the fields of it, as given.
        sent: bytes of body sent, without framing.
        begun: the status code whose head went out, 0 before.
        fault: what was wrong with the length of the body; "" for nothing.
    """

    __slots__ = (
        "_http",
        "_manners",
        "_out",
        "begun",
        "fault",
        "head",
        "headers",
        "sent",
        "status",
    )

    def __init__(self, http: ServerConnection, out: Out, manners: Manners) -> None:
        self._http = http
        self._out = out
        self._manners = manners
        self.head: ResponseHead | None = None
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.begun = 0
        self.fault = ""

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """`start_response` (PEP 3333, "The start_response() Callable").

        Args:
            status: "200 OK".
            headers: pairs of native strings; a list.
            exc_info: as of `sys.exc_info()`, when an error replaces the response begun before.

        Returns:
            The `write` callable.

        Raises:
            ValueError, TypeError: status or headers break the rules; nothing of them is sent.
            AssertionError: called again without `exc_info`.
            BaseException: the one in `exc_info`, when the head is out already.
        """
        if exc_info is not None:
            try:
                if self._http.writing is not WRITING_HEAD:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # break the cycle through this frame
        elif self.head is not None:
            raise AssertionError("start_response was called twice without exc_info")
        if not isinstance(headers, list):
            raise TypeError(f"response headers must be a list, not {type(headers).__name__}")
        self.head = check_head(status, headers)
        self.status = status
        self.headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """The `write` callable of PEP 3333: send a piece of body, and the head before the first."""
        if not isinstance(data, bytes):
            raise _no_bytes(data)
        if data:
            self._out.send(self._begin(None) + self._frame(data))

    def send_list(self, body: list[Any] | tuple[Any, ...]) -> None:
        """Send a body of which all pieces are there, in one write."""
        try:
            data = b"".join(body)
        except TypeError:
            wrong = next(piece for piece in body if not isinstance(piece, bytes))
            raise _no_bytes(wrong) from None
        out = self.last(data)
        if out:
            self._out.send_last(out)

    def last(self, data: bytes) -> bytes:
        """Return what goes out last, in one write: the end of the body, or all of it with the head.

        Args:
            data: all of the body, or all that was not written yet.
        """
        http = self._http
        head = self._started() if self.head is None else self.head
        status, _, _, length, _ = head
        if http.writing is WRITING_HEAD and (length is None or length == len(data)):
            self.begun = status
            manners = self._manners
            if not manners.keeps:
                http.persistent = False
            out = http.respond(head, data, manners.date(), manners.server)
            if http.framing is not BY_NOTHING:
                self.sent = len(data)
            return out
        return self._begin(len(data)) + self._frame(data) + self._end()

    def send_iterable(self, body: Iterable[Any]) -> None:
        """Send a body piece by piece, each as soon as it is there, as PEP 3333 demands."""
        for piece in body:
            self.write(piece)
            if piece and (self.fault or self._http.framing is BY_NOTHING):
                # Beyond Content-Length, or HEAD, 204, 304: nobody gets the rest, and it may be endless.
                break
        self.finish()

    def finish(self) -> None:
        """End the response; sends the head if there was no body."""
        rest = self._begin(0) if self._http.writing is WRITING_HEAD else b""
        rest += self._end()
        if rest:
            self._out.send_last(rest)

    def begin_raw(self, length: int | None) -> bytes:
        """Return the head for a body that is sent by another way, see `sent_raw`."""
        return self._begin(length)

    def sent_raw(self, count: int) -> None:
        """Note bytes of body that went out without this object."""
        self._http.sent_raw(count)
        self.sent += count

    def _started(self) -> ResponseHead:
        if self.head is None:
            raise AssertionError("the application returned a body without calling start_response")
        return self.head

    def _begin(self, length: int | None) -> bytes:
        if self._http.writing is not WRITING_HEAD:
            return b""
        head = self._started()
        self.begun = head.status
        http = self._http
        if length is not None and (head.length or 0) > length:
            # It will turn out too short and the connection close: RFC 9112 §9.6 wants that announced.
            assert http.request is not None
            http.persistent = http.persistent and not has_body(http.request.method, head.status)
        manners = self._manners
        if not manners.keeps:
            http.persistent = False
        return http.start_response(head, length, manners.date(), manners.server)

    def _frame(self, data: bytes) -> bytes:
        http = self._http
        if http.framing is BY_LENGTH:
            missing = http.missing
            if missing < len(data):
                self.fault = "more"
                data = data[:missing]
        elif http.framing is BY_NOTHING:
            return b""
        self.sent += len(data)
        return http.frame(data)

    def _end(self) -> bytes:
        if self._http.missing > 0:
            self.fault = "fewer"
        return self._http.end_response()


def _no_bytes(piece: object) -> TypeError:
    return TypeError(f"the application returned {type(piece).__name__} as body, not bytes")
