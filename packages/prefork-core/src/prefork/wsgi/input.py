# SPDX-License-Identifier: MIT
"""`wsgi.input`: a file-like view of a request body (PEP 3333, "Input and Error Streams").

Decides how much is read and where lines end. Knows nothing of where bytes come from: it is given a
function that waits for them. That function raises an OSError when the body cannot be had whole, so a
broken body never looks like a short one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE: Final = 64 * 1024


class Input:
    """A request body.

    Args:
        source: returns at least one and at most as many bytes as it is given, waiting for them if it must,
            or b"" at the end of the body.
    """

    __slots__ = ("_ended", "_held", "_source")

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._held = b""  # received, but beyond the last line that was asked for
        self._ended = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes of the body.

        Args:
            size: how many; fewer are returned only at the end. Negative or None for all that is left.

        Raises:
            OSError: the client went away, stalled, or broke the body.
        """
        if size is None or size < 0:
            size = -1
        pieces = []
        if self._held and size:
            pieces.append(self._take_held(size))
            size = size - len(pieces[0]) if size > 0 else size
        while size and not self._ended:
            piece = self._next(size if size > 0 else _PIECE)
            pieces.append(piece)
            if size > 0:
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line with its newline, or what is left of the body without one.

        Args:
            size: bytes to return at most; negative or None for no limit.

        Raises:
            OSError: as `read`.
        """
        limit = -1 if size is None or size < 0 else size
        if limit == 0:
            return b""
        pieces: list[bytes] = []
        length = 0
        while True:
            if not self._held:
                self._held = self._next(_PIECE)
            end = self._held.find(b"\n") + 1
            wanted = end or len(self._held)
            if 0 <= limit <= length + wanted:
                wanted = limit - length
                end = wanted
            piece = self._take_held(wanted)
            pieces.append(piece)
            length += len(piece)
            if end or self._ended:
                return b"".join(pieces)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return the lines that are left.

        Args:
            hint: stop after the line with which so many bytes were returned; zero, negative or None
                for no limit.

        Raises:
            OSError: as `read`.
        """
        lines = []
        length = 0
        for line in self:
            lines.append(line)
            length += len(line)
            if hint is not None and 0 < hint <= length:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines that are left."""
        return iter(self.readline, b"")

    def _next(self, limit: int) -> bytes:
        if self._ended:
            return b""
        piece = self._source(limit)
        self._ended = not piece
        return piece

    def _take_held(self, size: int) -> bytes:
        held = self._held
        if size < 0 or size >= len(held):
            self._held = b""
            return held
        self._held = held[size:]
        return held[:size]
