# SPDX-License-Identifier: MIT
"""Settings from a TOML configuration file.

It decides which table of the file holds the settings, and on which line each one stands.
Every name in that table is a setting or a mistake; which of the two is not known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ConfigError
from prefork.settings.origin import Given, Origin, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYPROJECT: Final = "pyproject.toml"

_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[=.]""")
_TOOL_TABLE: Final = re.compile(rb"^\s*\[\s*tool\s*\.\s*prefork\b", re.MULTILINE)


def read(path: Path, shown: str) -> Iterator[Given]:
    """Yield what a TOML file gives: the whole file, of a pyproject.toml [tool.prefork].

    Args:
        path: the file.
        shown: how to call it in places and errors.

    Raises:
        ConfigError: it is not TOML.
        OSError: it cannot be read.
    """
    # Imported here: without a TOML file nothing needs it.
    import tomllib

    try:
        text = path.read_bytes().decode()
        content = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{shown}: not a TOML file: {error}") from error
    within = ("tool", "prefork") if path.name == PYPROJECT else ()
    lines = _lines(text, within)
    for name, value in _table(content, within, shown).items():
        place = f"{shown}:{lines[name]}" if name in lines else shown
        yield Given(name, value, Origin(Source.FILE, place))


def has_settings(path: Path) -> bool:
    """Return whether a pyproject.toml has a [tool.prefork], without parsing it.

    Raises:
        OSError: it cannot be read.
    """
    return bool(_TOOL_TABLE.search(path.read_bytes()))


def _table(content: dict[str, Any], within: tuple[str, ...], shown: str) -> dict[str, Any]:
    for name in within:
        content = content.get(name, {})
        if not isinstance(content, dict):
            raise ConfigError(f"{shown}: {'.'.join(within)} is not a table")
    return content


def _lines(text: str, within: tuple[str, ...]) -> dict[str, int]:
    """Return the first line of each name in a table; tomllib does not tell them."""
    found: dict[str, int] = {}
    current: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            current = tuple(part.strip(" \t\"'") for part in header[1].split("."))
            if current[:-1] == within:
                found.setdefault(current[-1], number)
        elif current == within and (key := _KEY.match(line)):
            found.setdefault(key[1], number)
    return found
