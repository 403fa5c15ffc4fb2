# SPDX-License-Identifier: MIT
"""Heads that repeat the one before on their connection.

A client that keeps its connection sends the same fields again and again; often only the target differs. The
same bytes mean the same, so what they were parsed to is used again when all behind the target is equal, byte
for byte: that is one comparison in place of nine tenths of the parsing. This module holds no rule of its own.
It knows a head that differs in an origin-form target and a common method only; for whatever else there may be
it says nothing, and `head.parse_head` decides.

What is kept of fields is kept for each connection and goes with it, because it can hold passwords and session
ids. An idle connection must stay cheap too, so long heads are not kept. Targets are for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefork.http import grammar
from prefork.http.head import COMMON_METHODS, NO_LINES, Request
from prefork.http.known import PATIENCE, Known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.http.limits import Limits

_new: Final = tuple.__new__  # see `framing.Plan`

LONGEST_KEPT: Final = 1024
"""Most bytes behind the target of a head that is kept; with what they were parsed to they take 2.5 KiB."""

_LONGEST_LINE: Final = 256
"""Most bytes of a method and target that are kept."""

# Method and target as sent → method, target, path, query. It holds what many clients ask for, so it is all
# clients' in common.
_lines: Known[bytes, tuple[str, str, str, str]] = Known()


class Parsed(NamedTuple):
    """What one head behind its target was parsed to, see `Request` for each.

    Attributes:
        fields: those of each request that repeats it, so nobody may change them.
        memo: see `Request`; goes with the connection, too.
    """

    rest: bytes
    version: str
    fields: Mapping[str, str]
    content_length: int
    expects_continue: bool
    memo: dict[str, Any]


def keep(request: Request) -> Parsed | None:
    """Return what a request has in common with the next one, should that repeat it; None for nothing.

    Args:
        request: as it came from `parse_head`. Absolute-form, authority-form and names with an underscore are
            left alone: with the first two the target has a say in the rest.
    """
    rest = request.rest
    if not request.persistent or len(rest) > LONGEST_KEPT or request.target[0] != "/" or request.underscored:
        return None
    memo: dict[str, Any] = {}
    parts = rest, request.version, request.fields, request.content_length, request.expects_continue, memo
    return _new(Parsed, parts)


def _parse_line(line: bytes) -> tuple[str, str, str, str] | None:
    """Return method, target, path and query; None when `head.parse_head` must be asked."""
    try:
        method, target = line.decode("ascii").split(" ")
    except ValueError:
        return None
    if method not in COMMON_METHODS or not grammar.ORIGIN_FORM.fullmatch(target):
        return None
    path, _, query = target.partition("?")
    parts = method, target, path, query
    if _lines.patience > 0 and len(line) <= _LONGEST_LINE:
        _lines.keep(line, parts)
    return parts


def parse_repeated(buffer: bytes | bytearray, parsed: Parsed, limits: Limits) -> Request | None:
    """Parse the request head at the start of a buffer if it differs from another one in its target only.

    Args:
        buffer: as of `parse_head`.
        parsed: from `keep`, of a request with the same limits.
        limits: as of `parse_head`.

    Returns:
        What `parse_head` would return; None when that must be asked.
    """
    rest, version, fields, content_length, expects_continue, memo = parsed
    at = buffer.find(b" HTTP/1.")
    size = at + len(rest)
    # A target has no space, so no other version is in front of this one in a request line that is right.
    if not buffer.startswith(rest, at) or size > limits.ample:
        return None
    line = buffer[:at] if type(buffer) is bytes else bytes(buffer[:at])
    parts = None
    if _lines.patience > 0:
        parts = _lines.get(line)
    else:
        _lines.rest()
    if parts is None:
        parts = _parse_line(line)
        if parts is None:
            return None
    elif _lines.patience < PATIENCE:
        _lines.patience += 1
    method, target, path, query = parts
    request = Request(method, target, version, path, query, fields, NO_LINES, rest, size)
    request.line = line
    request.content_length = content_length
    request.persistent = True  # else nothing would have been kept
    request.expects_continue = expects_continue
    request.memo = memo
    return request
