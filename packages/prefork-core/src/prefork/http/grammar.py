# SPDX-License-Identifier: MIT
"""The grammar of RFC 9110 and RFC 9112: one compiled rule for each production we check.

Every expression is linear in the length of its input: no overlapping repeats, and what repeats a choice
is possessive ("++"), so that nothing is kept for a way back: that cost 100 ns for each byte of a long host.
"""

from __future__ import annotations

import re
from typing import Final

FIELD_BYTES: Final = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""RFC 9110 §5.5: field-content is VCHAR, obs-text, SP and HTAB. Deleting these from a head
by `bytes.translate` leaves the line ends and whatever must not be there."""

# RFC 9110 §5.6.2: token = 1*tchar
_TCHAR: Final = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN: Final = re.compile(rf"[{_TCHAR}]+")
TOKEN_FIRST: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
"""The bytes a request can start with: a method is a token."""

# RFC 9110 §9.1: methods are case-sensitive, the registered ones are upper case. A lower-case
# one is not a method that anybody implements.
METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+")

# RFC 9112 §2.3
VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")

# RFC 9112 §3.2.1 and RFC 3986 §3.3, §3.4: we take every visible ASCII character that is not
# the start of a fragment, because browsers send a few ("|", "^", "{") unencoded.
ORIGIN_FORM: Final = re.compile(r"/[!\"$-~]*")
# RFC 9112 §3.2.2: absolute-form, the authority captured with any userinfo.
ABSOLUTE_FORM: Final = re.compile(r"[hH][tT][tT][pP][sS]?://([!\"$-.0->@-~]*)((?:/[!\"$-~]*)?|\?[!\"$-~]*)")

# RFC 3986 §3.2.2 (host) and §3.2.3 (port); RFC 9110 §7.2. IPvFuture has no user. No comma, though
# §3.2.2 has it: "a,b" is what some recipient made of two Host lines (RFC 9110 §5.3).
_REG_NAME: Final = r"(?:[A-Za-z0-9\-._~!$&'()*+;=]++|%[0-9A-Fa-f]{2})++"
_IP_LITERAL: Final = r"\[[0-9A-Fa-f:.]{2,45}\]"
HOST: Final = re.compile(rf"({_IP_LITERAL}|{_REG_NAME})(?::([0-9]{{0,5}}))?")

# RFC 9112 §7.1: chunk-size, then §7.1.1: *( BWS ";" BWS name [ BWS "=" BWS value ] ).
_BWS: Final = r"[ \t]*+"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
CHUNK_LINE: Final = re.compile(
    rf"([0-9A-Fa-f]+)(?:{_BWS};{_BWS}[{_TCHAR}]++(?:{_BWS}={_BWS}(?:[{_TCHAR}]++|{_QUOTED}))?)*+".encode(
        "latin-1"
    )
)

# RFC 9112 §4: status-code is three digits; the reason may hold obs-text.
STATUS: Final = re.compile(r"([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")

SINGLETONS: Final = frozenset({"HTTP_HOST", "CONTENT_TYPE"})
"""Fields that cannot be a list, by their CGI name: two of them mean that two readers of this
request could see different ones (RFC 9110 §5.3, RFC 9112 §3.2). Content-Length has a rule of
its own (`framing.content_length`)."""

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that belong to the connection, not to the application (RFC 9110 §7.6.1, PEP 3333)."""


def tokens(value: str) -> list[str]:
    """Split a comma-separated list into its lower-cased members (RFC 9110 §5.6.1).

    Args:
        value: one field value, or several joined by commas.

    Returns:
        The members without surrounding SP and HTAB; empty ones are left out, as §5.6.1.2 asks.
    """
    return [member for part in value.lower().split(",") if (member := part.strip(" \t"))]
