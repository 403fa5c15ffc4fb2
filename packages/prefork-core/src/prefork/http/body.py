# SPDX-License-Identifier: MIT
"""Request bodies: taking the transfer coding off what is in the receive buffer.

A decoder never waits. It returns bytes, b"" at the end of the body, or None when the buffer must
be fed first. A body that breaks the syntax raises, after the bytes before the break were handed
out, so that what the application sees does not depend on how the bytes were split.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from prefork.errors import ProtocolError
from prefork.http import grammar
from prefork.http.limits import (
    CHUNK_ABUSE,
    CHUNK_LINE,
    CHUNK_OVERHEAD,
    CHUNK_SIZE_DIGITS,
    Limits,
)

if TYPE_CHECKING:
    from prefork.http.buffer import ReceiveBuffer


class Decoder(Protocol):
    """A body being read.

    Attributes:
        left: bytes known to be missing, -1 when that is not known; 0 exactly when the body has ended.
    """

    left: int

    def read(self, buffer: ReceiveBuffer, limit: int) -> bytes | None:
        """Return up to `limit` bytes, b"" at the end, None when the buffer must be fed first."""


class LengthDecoder:
    """A body of Content-Length bytes (RFC 9112 §6.2)."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def read(self, buffer: ReceiveBuffer, limit: int) -> bytes | None:
        """See `Decoder.read`."""
        if not self.left:
            return b""
        if not buffer.data:
            return None
        piece = buffer.take(min(self.left, limit))
        self.left -= len(piece)
        return piece


class _Expect(Enum):
    """What comes next in a chunked body (RFC 9112 §7.1)."""

    SIZE = "chunk size"
    DATA = "chunk data"
    DATA_END = "end of chunk"
    TRAILER = "trailer"
    NOTHING = "nothing"


class ChunkedDecoder:
    """A chunked body (RFC 9112 §7.1). Its trailers are checked and dropped.

    Trailers never reach the fields of the request: whoever looked at those has decided already
    (RFC 9110 §6.5.1).

    Args:
        limits: bounds of the trailer section, those of the head.
    """

    __slots__ = ("_chunk", "_error", "_expect", "_limits", "_spent", "_trailers", "left")

    def __init__(self, limits: Limits) -> None:
        self.left = -1
        self._limits = limits
        self._expect = _Expect.SIZE
        self._chunk = 0  # bytes missing of the current chunk
        self._spent = 0  # bytes of framing beyond what chunks need
        self._trailers = 0
        self._error: ProtocolError | None = None

    def read(self, buffer: ReceiveBuffer, limit: int) -> bytes | None:
        """See `Decoder.read`.

        Raises:
            ProtocolError: the body breaks the chunked coding.
        """
        if self._error is not None:
            raise self._error
        pieces: list[bytes] = []
        try:
            self._collect(buffer, limit, pieces)
        except ProtocolError as error:
            self._error = error
            if not pieces:
                raise
        if pieces:
            return b"".join(pieces)
        return b"" if self._expect is _Expect.NOTHING else None

    def _collect(self, buffer: ReceiveBuffer, limit: int, pieces: list[bytes]) -> None:
        """Decode until the limit is reached, the buffer is empty, or the body has ended."""
        while limit and self._expect is not _Expect.NOTHING:
            if self._expect is _Expect.DATA:
                piece = buffer.take(min(self._chunk, limit))
                if not piece:
                    return
                pieces.append(piece)
                limit -= len(piece)
                self._chunk -= len(piece)
                if not self._chunk:
                    self._expect = _Expect.DATA_END
            elif not self._framing(buffer):
                return

    def _framing(self, buffer: ReceiveBuffer) -> bool:
        """Consume one piece of framing; return False when the buffer does not hold it whole."""
        if self._expect is _Expect.DATA_END:
            return self._data_end(buffer)
        if self._expect is _Expect.SIZE:
            line = buffer.take_line(CHUNK_LINE, "chunk size line")
            if line is not None:
                self._size(line)
            return line is not None
        line = buffer.take_line(self._limits.field_size or CHUNK_LINE, "trailer line")
        if line is not None:
            self._trailer(line)
        return line is not None

    def _data_end(self, buffer: ReceiveBuffer) -> bool:
        head = bytes(buffer.data[:2])
        if head == b"\r\n":
            buffer.skip(2)
            self._expect = _Expect.SIZE
            return True
        if head not in {b"", b"\r"}:
            raise ProtocolError("chunk data does not end where its size says")
        return False

    def _size(self, line: bytes) -> None:
        match = grammar.CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError("malformed chunk size line")
        if len(match[1]) > CHUNK_SIZE_DIGITS:
            raise ProtocolError("chunk size too large")
        self._spend(len(line))
        self._chunk = int(match[1], 16)
        self._expect = _Expect.DATA if self._chunk else _Expect.TRAILER

    def _trailer(self, line: bytes) -> None:
        """RFC 9112 §7.1.2: field lines like those of the head, up to an empty one."""
        if not line:
            self._expect = _Expect.NOTHING
            self.left = 0
            return
        self._trailers += 1
        if self._limits.fields and self._trailers > self._limits.fields:
            raise ProtocolError("too many trailer fields")
        name, colon, _ = line.partition(b":")
        if (
            not colon
            or not grammar.TOKEN.fullmatch(str(name, "latin-1"))
            or line.translate(None, grammar.FIELD_BYTES)
        ):
            raise ProtocolError("malformed trailer field")

    def _spend(self, framing: int) -> None:
        self._spent += max(framing - CHUNK_OVERHEAD, 0)
        if self._spent > CHUNK_ABUSE:
            raise ProtocolError("chunk extensions too large")
