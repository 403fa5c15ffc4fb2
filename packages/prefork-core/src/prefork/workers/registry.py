# SPDX-License-Identifier: MIT
"""Finding a worker class by the name given to `-k`.

Workers of other distributions and our own come through the same entry points. What is checked here is
checked in the arbiter, before anything is forked.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from prefork.errors import ConfigError
from prefork.settings import idle
from prefork.worker import API_VERSION, Worker

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

    from prefork.settings import Loaded

GROUP: Final = "prefork.workers"


def find(name: str) -> type[Worker]:
    """Return the worker class of a name.

    Args:
        name: an installed name ("sync"), or the place of a class: "package.module:Class".

    Raises:
        ConfigError: there is none, or it cannot be used; the message says what there is.
    """
    if ":" in name or "." in name:
        return _check(name, _from_path(name), "its module")
    found = [entry for entry in _entries() if entry.name == name]
    if not found:
        raise ConfigError(f"there is no worker class {name!r}", hint=f"installed: {', '.join(names())}")
    owners = sorted({_owner(entry) for entry in found})
    if len(owners) > 1:
        raise ConfigError(
            f"worker class {name!r} is claimed by {' and '.join(owners)}", hint="uninstall one of them"
        )
    return _check(name, _load(found[0]), owners[0])


def chosen(name: str, threads: int) -> str:
    """Return the name of the worker class that serves: sync with several threads is gthread, as in gunicorn.

    Args:
        name: as given to `-k`.
        threads: how many threads each worker has.
    """
    return "gthread" if name == "sync" and threads > 1 else name


def names() -> list[str]:
    """Return the names of all installed worker classes."""
    return sorted({entry.name for entry in _entries()})


def without_effect(worker: type[Worker], loaded: Loaded) -> list[str]:
    """Return a warning for each setting that was given, but which the worker cannot honour.

    Args:
        worker: the class that serves.
        loaded: what was given.
    """
    reasons = dict(worker.ignored)
    if not worker.reforks:
        reasons["refork"] = "what this worker leaves behind in its process cannot be forked"
    return idle.without_effect(reasons, loaded.settings, loaded.origins)


def _entries() -> EntryPoints:
    from importlib.metadata import entry_points  # 12 ms, and only a start needs it

    return entry_points(group=GROUP)


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:
        raise ConfigError(
            f"worker class {entry.name!r} of {_owner(entry)} cannot be loaded: {error}"
        ) from error


def _from_path(path: str) -> object:
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise ConfigError(
            f"worker class {path!r} cannot be loaded: {error}", hint="write it as package.module:Class"
        ) from error


def _check(name: str, candidate: object, owner: str) -> type[Worker]:
    if not (isinstance(candidate, type) and issubclass(candidate, Worker)):
        raise ConfigError(f"worker class {name!r} of {owner} is not a subclass of prefork.worker.Worker")
    version = getattr(candidate, "api", None)
    if version != API_VERSION:
        raise ConfigError(
            f"worker class {name!r} of {owner} is written for version {version} of the worker API",
            hint=f"this prefork has version {API_VERSION}: install a matching release of {owner}",
        )
    return candidate
