# SPDX-License-Identifier: MIT
"""Every bound on what a peer may send, in one place.

Nothing here reads settings: whoever makes a connection hands the numbers in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

UNLIMITED_HEAD: Final = 1 << 20
"""Bytes of a whole head when one of its limits is off: something must bound the buffer."""

METHOD_LENGTH: Final = 32
"""Longest method, bytes. The longest one registered with IANA has 17."""

CONTENT_LENGTH_DIGITS: Final = 18
"""Longest Content-Length, digits: below 2**63, and int() of it costs nothing."""

CHUNK_SIZE_DIGITS: Final = 15
"""Longest chunk size, hexadecimal digits: below 2**63, leading zeros counted."""

CHUNK_LINE: Final = 4096
"""Longest chunk-size line, bytes: the size and its extensions (RFC 9112 §7.1.1)."""

CHUNK_OVERHEAD: Final = 64
"""Bytes of framing allowed for each chunk before they are counted as abuse."""

CHUNK_ABUSE: Final = 64 * 1024
"""Bytes of framing above `CHUNK_OVERHEAD` each that one body may have in total.

RFC 9112 §7.1.1 asks for a limit on the total length of chunk extensions: without it, one
byte of body can be made to cost thousands of bytes of reading.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request head, in bytes without CRLF; 0 means no limit of its own.

    Args:
        line: longest request line.
        fields: most header fields.
        field_size: longest field line (name, colon and value).
    """

    line: int = 8190
    fields: int = 100
    field_size: int = 8190
    head: int = field(init=False)
    """The most bytes that a whole head may have, its empty line included."""
    ample: int = field(init=False)
    """A head of so many bytes cannot break any of the limits on bytes."""

    def __post_init__(self) -> None:
        bounded = self.line and self.fields and self.field_size
        most = self.line + 2 + self.fields * (self.field_size + 2) + 2
        object.__setattr__(self, "head", most if bounded else UNLIMITED_HEAD)
        bounds = [bound for bound in (self.line, self.field_size, self.head) if bound]
        object.__setattr__(self, "ample", min(bounds))
