# SPDX-License-Identifier: MIT
"""What can be served, and how it becomes an application of aiohttp.

Knows nothing of connections, nor when an application starts. Imported in the worker process only.
"""

from __future__ import annotations

import inspect
from typing import Any

from aiohttp import web

from prefork.errors import BootError

_WSGI = 2
_ASGI = 3
"""How many arguments such applications are called with."""


def refuses(found: object) -> str | None:
    """Return why something cannot be served, None when it can.

    Args:
        found: an application, a runner of one, a function or coroutine function that returns one of these, or
            what calling such a coroutine function has returned.
    """
    if isinstance(found, web.Application | web.AppRunner) or inspect.isawaitable(found):
        return None
    if not callable(found):
        return f"it is no aiohttp.web.Application, nor a function that returns one, but {_named(found)}"
    if _takes(found, 0):
        return None
    if _takes(found, _ASGI):
        return "it takes the arguments of an ASGI application, which -k aio serves"
    if _takes(found, _WSGI):
        return "it takes the arguments of a WSGI application, which -k gthread serves"
    return "it is a function that needs arguments: give them, as in module:create_app('literal', key=1)"


async def made(found: Any) -> web.Application | web.AppRunner:
    """Return what is to be served, made if need be.

    To be awaited in the loop that serves it, so that a factory can use it already.

    Args:
        found: what `refuses` has not refused.

    Raises:
        BootError: it has returned something else.
    """
    known = web.Application | web.AppRunner
    value = found
    if not isinstance(value, known) and callable(value):
        value = value()
    if inspect.isawaitable(value):
        value = await value
    if not isinstance(value, known):
        raise BootError(f"the factory returned {_named(value)}, not an aiohttp.web.Application")
    return value


def _takes(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*(None,) * count)
    except (TypeError, ValueError):
        return False
    return True


def _named(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
