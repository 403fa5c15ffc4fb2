# SPDX-License-Identifier: MIT
"""What bytes of a peer or of an application may look like in a log line.

Decides the alphabet of lines, so that a line is one line, a quoted column stays quoted and
a terminal that shows it is not steered. It knows nothing of lines or formats.
"""

from __future__ import annotations

import re
from typing import Final

SAFE: Final = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
"""Bytes that mean nothing to a terminal, to a quoted column, or to an escape."""

_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    if character in '"\\':
        return f"\\{character}"
    # PEP 3333 strings hold one byte of the peer in each character; others come from the application.
    raw = character.encode("latin-1") if character <= "\xff" else character.encode("utf-8", "surrogatepass")
    return "".join(f"\\x{byte:02X}" for byte in raw)


def escape(text: str) -> str:
    r"""Return text in printable ASCII: `\"`, `\\`, and `\xNN` for each byte of all else.

    Args:
        text: what a peer or an application gave.
    """
    return _UNSAFE.sub(_escape_one, text)


def _show_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02X}" if match[0] <= "\xff" else f"\\u{code:04X}"


def continued(text: str) -> str:
    """Return a text of one or more lines of which only the first begins in the first column.

    So a message that quotes a peer cannot pretend to be another record, and tools that
    join lines to records (those that begin with `[`) join rightly.

    Args:
        text: a message, a traceback, or both.
    """
    return _STEERING.sub(_show_one, text.rstrip("\n")).replace("\n", "\n  ")


def text_of(value: object) -> str:
    """Return `str(value)`, or the name of its type when that raises.

    Args:
        value: an object of the application.
    """
    if type(value) is str:
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an application's own __str__ may not keep a line from the log
        return f"<{type(value).__name__} that cannot be shown>"
