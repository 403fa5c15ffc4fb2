# SPDX-License-Identifier: MIT
"""The head of a request as Tornado has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tornado.httputil import HTTPHeaders, RequestStartLine

if TYPE_CHECKING:
    from prefork.http import Request
    from prefork.http.forwarded import Forwarded


def start_line(head: Request) -> RequestStartLine:
    """Return method, target and version.

    Args:
        head: the head of the request.
    """
    target = head.target
    if not target.startswith("/") and head.path:
        # RFC 9112 §3.2.2: of an absolute-form target handlers see what they see of any other.
        target = f"{head.path}?{head.query}" if head.query else head.path
    return RequestStartLine(head.method, target, head.version)


def fields(head: Request, forwarded: Forwarded) -> HTTPHeaders:
    """Return the fields, without those that could pose as others.

    Args:
        head: the head of the request.
        forwarded: what is believed of a proxy.
    """
    headers = HTTPHeaders()
    for raw_name, raw_value in head.pairs():
        name, value = str(raw_name, "latin-1"), str(raw_value, "latin-1")
        if b"_" in raw_name and "HTTP_" + name.upper().replace("-", "_") not in forwarded.fields:
            continue
        if name in headers:
            headers.add(name, value)
        else:
            headers[name] = value  # without a check, which was prefork's
    if not head.target.startswith("/") and "HTTP_HOST" in head.fields:
        headers["Host"] = head.fields["HTTP_HOST"]
    return headers
