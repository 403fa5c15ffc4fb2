# SPDX-License-Identifier: MIT
"""Which configuration file is used, and in which language it is written.

Only one file is ever read, so that a value never comes from where nobody looks. What is in
it is for `pyfile` and `tomlfile`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.errors import ConfigError
from prefork.settings import tomlfile
from prefork.settings.tomlfile import PYPROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork.settings.option import Table
    from prefork.settings.origin import Given, Origin

DEFAULTS: Final = ("prefork.conf.py", "prefork.toml", PYPROJECT)
"""The files that are looked for, in this order, when none is named."""

_GUNICORN: Final = "gunicorn.conf.py"


class Choice(NamedTuple):
    """What was found in the current folder.

    Args:
        name: the file to use, None if there is none.
        warnings: what an operator may have expected otherwise.
    """

    name: str | None
    warnings: tuple[str, ...]


def choose(cwd: str) -> Choice:
    """Look for a configuration file in a folder.

    Raises:
        ConfigError: a pyproject.toml cannot be read.
    """
    found = [name for name in DEFAULTS if _is_candidate(Path(cwd, name))]
    if len(found) > 1:
        return Choice(found[0], (f"{found[0]} is used; not read: {', '.join(found[1:])}",))
    if not found and Path(cwd, _GUNICORN).is_file():
        return Choice(None, (f"{_GUNICORN} is only read when it is named: -c {_GUNICORN}",))
    return Choice(found[0] if found else None, ())


def read(table: Table, named: str, origin: Origin, cwd: str) -> Iterator[Given]:
    """Yield what a configuration file gives.

    Args:
        table: the settings there are.
        named: a path, `file:PATH` or `python:MODULE`.
        origin: where that name is from.
        cwd: the folder that paths start at; the file may import modules from it.

    Raises:
        ConfigError: there is no such file, it cannot be read, or what it holds is wrong.
    """
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    module = named.removeprefix("python:") if named.startswith("python:") else None
    shown = named.removeprefix("file:")
    path = Path(cwd, shown) if module is None else _path_of(module, origin)
    try:
        if path.suffix == ".toml":
            yield from tomlfile.read(path, shown)
        else:
            # Imported here: most of it is only needed to run such a file.
            from prefork.settings import pyfile

            yield from pyfile.read(table, path, shown, module or "__config__")
    except OSError as error:
        raise ConfigError(f"{origin}: cannot read the configuration file {path}: {error.strerror}") from error


def _is_candidate(path: Path) -> bool:
    try:
        return path.is_file() and (path.name != PYPROJECT or tomlfile.has_settings(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _path_of(module: str, origin: Origin) -> Path:
    """Return the file of a module, which is run anew each time so that a reload reads it again."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{origin}: cannot find the module {module}: {error}") from error
    if spec is None or spec.origin is None or not spec.has_location:
        raise ConfigError(f"{origin}: there is no module {module} with a file")
    return Path(spec.origin)
