# SPDX-License-Identifier: MIT
"""A page of shared memory on which the arbiter leaves what only it knows, for its status process.

It decides how a text is exchanged as a whole though nobody waits for anybody, and how each side sees that the
other one still turns. What the text says is not known here.

The arbiter may be stopped in the middle of a write. So a checksum goes with each text, and a reader that
finds none that fits keeps the text that it had.
"""

from __future__ import annotations

import mmap
from binascii import crc32
from typing import Final

SIZE: Final = 512 * 1024
"""Bytes; only pages that are touched cost memory. A worker takes some 70, and there are 1,024 at most."""
_HEADER: Final = 64
_LENGTH: Final = 0
_SUM: Final = 1
_WRITER: Final = 2
_READER: Final = 3
_TRIES: Final = 100


class Bulletin:
    """What one arbiter tells one status process.

    Raises:
        OSError: the memory cannot be mapped.
    """

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, SIZE)
        self._bytes = memoryview(self._map)
        self._ints = self._bytes[:_HEADER].cast("q")
        self._floats = self._bytes[:_HEADER].cast("d")
        self._written = b""
        self._read = b""

    # ------------------------------------------------------------ the arbiter's side

    def write(self, text: bytes, now: float) -> None:
        """Leave a text, and the time at which it was true.

        Args:
            text: replaces the one before.
            now: monotonic seconds.

        Raises:
            ValueError: it is too long; the one before stays.
        """
        self._floats[_WRITER] = now
        if text == self._written:
            return
        if len(text) > SIZE - _HEADER:
            raise ValueError(f"{len(text)} bytes are more than fit on a bulletin")
        self._ints[_LENGTH] = len(text)
        self._ints[_SUM] = crc32(text)
        self._bytes[_HEADER : _HEADER + len(text)] = text
        self._written = text

    @property
    def read_at(self) -> float:
        """When the reader turned for the last time, in monotonic seconds."""
        return self._floats[_READER]

    # ------------------------------------------------------------ the reader's side

    def turn(self, now: float) -> None:
        """Note that the reader turns.

        Args:
            now: monotonic seconds.
        """
        self._floats[_READER] = now

    @property
    def written_at(self) -> float:
        """When the arbiter turned for the last time, in monotonic seconds."""
        return self._floats[_WRITER]

    def read(self) -> bytes:
        """Return the last whole text; empty before the first."""
        for _ in range(_TRIES):
            length = self._ints[_LENGTH]
            checksum = self._ints[_SUM]
            if 0 <= length <= SIZE - _HEADER:
                text = bytes(self._bytes[_HEADER : _HEADER + length])
                if crc32(text) == checksum:
                    self._read = text
                    break
        return self._read

    def close(self) -> None:
        """Give this process's copy up."""
        for view in (self._ints, self._floats, self._bytes):
            view.release()
        self._map.close()
