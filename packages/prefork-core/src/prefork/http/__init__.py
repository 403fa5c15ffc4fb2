# SPDX-License-Identifier: MIT
"""HTTP/1.1 without I/O: one strict core for every worker (RFC 9110, RFC 9112)."""

from __future__ import annotations

from prefork.http.connection import ServerConnection
from prefork.http.head import Request, parse_head
from prefork.http.limits import Limits
from prefork.http.response import ResponseHead, check_head, render_head

__all__ = ["Limits", "Request", "ResponseHead", "ServerConnection", "check_head", "parse_head", "render_head"]
