# SPDX-License-Identifier: MIT
"""Whether something is an ASGI 3 application (ASGI specification, "Applications")."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def refusal(app: object) -> str | None:
    """Return why something cannot be served as an ASGI 3 application, None if it can.

    Args:
        app: what was found.
    """
    if not callable(app):
        return f"it is no application but {type(app).__name__}"
    if isinstance(app, type):
        return f"it is the class {app.__name__}, not an application; ASGI 2 is not served. Is a call missing?"
    if _takes(app, 3):
        return None
    if _takes(app, 2):
        return "it takes two arguments, as WSGI applications do: -k gthread serves them"
    if _takes(app, 0):
        return "it takes no arguments: if it makes the application, add () to its name"
    return "it does not take the arguments scope, receive and send of ASGI 3"


def _takes(app: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return count == 3  # a callable without a signature, made in C: let it be tried
    return True
