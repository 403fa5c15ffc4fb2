# SPDX-License-Identifier: MIT
"""What was received and not consumed yet.

Nearly every request arrives whole in one read, so the bytes are kept as they came; only when a
second piece must be joined, or a part is taken off the front, they become a `bytearray`, which
does both in amortised constant time per byte. A peer that sends single bytes costs no squares.
"""

from __future__ import annotations

from prefork.errors import ProtocolError


class ReceiveBuffer:
    """Received bytes. `data` may be looked at, and be put or emptied as a whole; parts are taken here."""

    __slots__ = ("_searched", "data")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self._searched = 0  # bytes in which `take_line` has found no line end

    def append(self, piece: bytes) -> None:
        """Add bytes at the end."""
        if not self.data:
            self.data = piece
        elif isinstance(self.data, bytearray):
            self.data += piece
        else:
            self.data = bytearray(self.data) + piece

    def skip(self, count: int) -> None:
        """Drop bytes from the front; `count` is at most what there is."""
        self._searched = 0
        if count == len(self.data):
            self.data = b""
        elif isinstance(self.data, bytearray):
            del self.data[:count]
        else:
            self.data = bytearray(memoryview(self.data)[count:])

    def take(self, count: int) -> bytes:
        """Remove and return up to `count` bytes from the front."""
        data = self.data
        if count >= len(data):
            self._searched = 0
            self.data = b""
            return bytes(data)
        piece = bytes(data[:count])
        self.skip(count)
        return piece

    def take_line(self, longest: int, name: str) -> bytes | None:
        """Remove and return one line without its CRLF, None when it is not whole yet.

        Args:
            longest: bytes that the line may have.
            name: what the line is, for the error.

        Raises:
            ProtocolError: the line is longer than that.
        """
        end = self.data.find(b"\r\n", self._searched, longest + 2)
        if end < 0:
            if len(self.data) >= longest + 2:
                raise ProtocolError(f"{name} too long")
            self._searched = max(len(self.data) - 1, 0)
            return None
        line = bytes(self.data[:end])
        self.skip(end + 2)
        return line
