# SPDX-License-Identifier: MIT
"""Which worker classes are installed, and which of them a name means.

Workers of other distributions and our own come through the same entry points. What is checked here is
checked in the arbiter, before anything is forked.
"""

from __future__ import annotations

import importlib
import inspect
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from prefork.errors import ConfigError
from prefork.settings import contributed, idle
from prefork.settings.contributed import Contribution
from prefork.settings.spelling import meant
from prefork.worker import API_VERSION, Interface, Worker
from prefork.workers import elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

    from prefork.settings import Loaded, Settings

GROUP: Final = "prefork.workers"

_FOREIGN: Final[Mapping[Interface, Mapping[str, str]]] = {
    Interface.WSGI: {},
    Interface.OTHER: {
        "warmup": "the application is none of WSGI, and only such a one can be asked without a connection"
    },
}
"""Settings that no worker class can honour for applications of a kind, and why."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A worker class that a distribution registers.

    Args:
        name: for `-k`.
        distribution: the name of the distribution.
        version: the distribution's.
        worker: the class, None if it cannot be used.
        error: why it cannot be used, None if it can.
    """

    name: str
    distribution: str
    version: str
    worker: type[Worker] | None = None
    error: ConfigError | None = None

    @property
    def owner(self) -> str:
        """The distribution with its version."""
        return f"{self.distribution} {self.version}"


def find(name: str) -> type[Worker]:
    """Return the worker class of a name.

    Args:
        name: an installed name ("sync"), or the place of a class: "package.module:Class".

    Raises:
        ConfigError: there is none, or it cannot be used; the message says what there is.
    """
    if ":" in name or "." in name:
        return _checked(name, _from_place(name), "its module")
    every = installed()
    for each in every:
        if each.name == name and each.error is not None:
            raise each.error
        if each.name == name and each.worker is not None:
            return each.worker
    known = _names(every)
    hints = (elsewhere.hint(name, known) or meant(name, known), f"installed: {', '.join(known)}")
    raise ConfigError(f"there is no worker class {name!r}", hint="; ".join(filter(None, hints)))


def chosen(name: str, threads: int) -> str:
    """Return the name of the worker class that serves: sync with several threads is gthread, as in gunicorn.

    Args:
        name: as given to `-k`.
        threads: how many threads each worker has.
    """
    return "gthread" if name == "sync" and threads > 1 else name


def serving(settings: Settings) -> type[Worker]:
    """Return the worker class that serves with some settings.

    Args:
        settings: the resolved settings.

    Raises:
        ConfigError: there is none of the name, or it cannot be used, or not with these settings.
    """
    name = chosen(settings.worker_class, settings.threads)
    worker = find(name)
    try:
        why = worker.lacks(settings)
    except Exception as error:
        raise ConfigError(f"worker class {name!r} cannot serve: {_described(error)}") from error
    if why is not None:
        raise ConfigError(f"worker class {name!r} cannot serve: {why}")
    return worker


def installed() -> list[Installed]:
    """Return all worker classes that distributions register, by name, with what is wrong with each.

    The module of each is imported, which is light by contract.
    """
    by_name: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry in _entries():
        by_name[entry.name].append(entry)
    every = [each for name in sorted(by_name) for each in _of_name(by_name[name])]
    wrong = contributed.clashes(list(map(_contribution, every)))
    return [_clashing(each, wrong[each.name]) if each.name in wrong else each for each in every]


def contributions() -> list[Contribution]:
    """Return what the installed worker classes bring to the settings."""
    return list(map(_contribution, installed()))


def without_effect(worker: type[Worker], loaded: Loaded) -> list[str]:
    """Return a warning for each setting that was given, but which the worker cannot honour.

    Args:
        worker: the class that serves.
        loaded: what was given.
    """
    reasons = {**_FOREIGN[worker.interface], **worker.ignored}
    if not worker.reforks:
        reasons["refork"] = "what this worker leaves behind in its process cannot be forked"
    return idle.without_effect(reasons, loaded.settings, loaded.origins)


def _entries() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # it takes a while, and `preforkctl -s` does without

    return entry_points(group=GROUP)


def _of_name(entries: list[EntryPoint]) -> list[Installed]:
    found = [_bare(entry) for entry in entries]
    owners = sorted({each.distribution for each in found})
    if len(owners) > 1:
        text = f"worker class {found[0].name!r} is claimed by {' and '.join(owners)}"
        error = ConfigError(text, hint="uninstall one of them")
        return [replace(each, error=error) for each in found]
    try:
        return [
            replace(found[0], worker=_checked(found[0].name, _load(entries[0], found[0]), found[0].owner))
        ]
    except ConfigError as error:
        return [replace(found[0], error=error)]


def _names(every: Iterable[Installed]) -> list[str]:
    return sorted({each.name for each in every})


def _bare(entry: EntryPoint) -> Installed:
    if entry.dist is None:
        return Installed(entry.name, "an unknown distribution", "")
    return Installed(entry.name, entry.dist.name, entry.dist.version)


def _clashing(each: Installed, why: str) -> Installed:
    text = f"worker class {each.name!r} of {each.owner} cannot be used: the setting {why}"
    return replace(each, worker=None, error=ConfigError(text, hint="uninstall one of them"))


def _contribution(each: Installed) -> Contribution:
    if each.error is not None:
        return Contribution(each.name, each.owner, trouble=each.error.message)
    return Contribution(each.name, each.owner, None if each.worker is None else each.worker.settings)


def _load(entry: EntryPoint, found: Installed) -> object:
    try:
        return entry.load()
    # Plugin load: whatever it raises is its own affair, and must not end a server that only reloads.
    except (Exception, SystemExit) as error:
        text = f"worker class {found.name!r} of {found.owner} cannot be loaded: {_described(error)}"
        raise ConfigError(text) from error


def _from_place(place: str) -> object:
    """Return the class at a place; a name of gunicorn's, which looks like one, is told ours."""
    module_name, _, attribute = place.partition(":") if ":" in place else place.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:
        hint = elsewhere.hint(place, _names(installed())) or "write it as package.module:Class"
        raise ConfigError(
            f"worker class {place!r} cannot be loaded: {_described(error)}", hint=hint
        ) from error


def _described(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _checked(name: str, candidate: object, owner: str) -> type[Worker]:
    what = f"worker class {name!r} of {owner}"
    if not (isinstance(candidate, type) and issubclass(candidate, Worker)):
        raise ConfigError(
            f"{what} is not a subclass of prefork.worker.Worker",
            hint=elsewhere.hint(name, elsewhere.DISTRIBUTIONS),
        )
    version = getattr(candidate, "api", None)
    if version != API_VERSION:
        said = "does not say for which version" if version is None else f"is written for version {version}"
        raise ConfigError(
            f"{what} {said} of the worker API; this prefork has version {API_VERSION}",
            hint=f"install another release of {owner.partition(' ')[0]}, or of prefork-core",
        )
    if not isinstance(candidate.interface, Interface):
        raise ConfigError(f"{what} has an interface that prefork does not know: {candidate.interface!r}")
    if inspect.isabstract(candidate):
        raise ConfigError(f"{what} cannot serve: {_missing(candidate)} is not defined")
    if fault := contributed.fault(candidate.settings):
        raise ConfigError(f"{what} cannot be used: {fault}")
    return candidate


def _missing(candidate: type[Worker]) -> str:
    return " and ".join(sorted(candidate.__abstractmethods__))
