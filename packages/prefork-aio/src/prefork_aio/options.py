# SPDX-License-Identifier: MIT
"""What can be set for both worker classes, and whether what it asks for is installed.

This module is imported in the arbiter, so it imports neither asyncio nor a library of it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from prefork.worker import kinds, option

if TYPE_CHECKING:
    from prefork.settings import Settings


@dataclass(frozen=True)
class Options:
    """What both worker classes can be told."""

    aio_loop: str = option(
        kinds.choice("auto", "asyncio", "uvloop"),
        "auto",
        help="The event loop: uvloop, asyncio's own, or auto: uvloop if it is installed, else asyncio's.",
    )


def lacks(settings: Settings, *libraries: str) -> str | None:
    """Return which library is needed and not installed, with the line that installs it; None for none.

    Args:
        settings: the resolved settings.
        libraries: the modules that the worker class needs; each is an extra of this distribution.
    """
    asked = ("uvloop",) if settings.of(Options).aio_loop == "uvloop" else ()
    for name in (*libraries, *asked):
        if not _is_installed(name, settings):
            return f"{name} is not installed (pip install 'prefork-aio[{name}]')"
    return None


def _is_installed(name: str, settings: Settings) -> bool:
    """Return whether a worker will find a module, which is not imported here."""
    places = [settings.chdir or ".", *settings.pythonpath, *sys.path]
    return PathFinder.find_spec(name, places) is not None
