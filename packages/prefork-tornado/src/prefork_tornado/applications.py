# SPDX-License-Identifier: MIT
"""Which applications can be served, and what of them is Tornado's."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPServerConnectionDelegate
from tornado.web import RequestHandler
from tornado.wsgi import WSGIContainer

if TYPE_CHECKING:
    from typing import TypeGuard

_WANTED: Final = "a tornado.web.Application, another HTTPServerConnectionDelegate, or a WSGI callable"


def is_native(app: object) -> TypeGuard[HTTPServerConnectionDelegate]:
    """Return whether an application speaks Tornado's interface; else it is taken for WSGI."""
    return isinstance(app, HTTPServerConnectionDelegate)


def refusal(app: object) -> str | None:
    """Return why an application cannot be served, None when it can.

    Args:
        app: the application.
    """
    if is_native(app):
        return None
    if isinstance(app, WSGIContainer):
        return "a WSGIContainer is not needed: name the WSGI application that is in it"
    if isinstance(app, type) and issubclass(app, RequestHandler):
        return f"a RequestHandler is one part of an application; wanted is {_WANTED}"
    if iscoroutinefunction(app) or iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004
        return f"it is asynchronous, as ASGI applications are (-k aio serves those); wanted is {_WANTED}"
    if not callable(app):
        return f"it is {type(app).__name__}; wanted is {_WANTED}"
    return None
