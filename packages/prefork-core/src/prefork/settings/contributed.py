# SPDX-License-Identifier: MIT
"""Settings that worker classes contribute: which may be declared, and which worker class has which.

A worker class declares its options as the server declares its own (`settings.option`), and they are read from
the same places. What is decided here is what happens when names meet. Who has installed what is not known.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from prefork.errors import ConfigError, UsageError
from prefork.hooks import TABLE as HOOKS
from prefork.settings.absent import ABSENT
from prefork.settings.cmdline import COMMAND_FLAGS
from prefork.settings.option import Table, declared_in, flags_of, is_option
from prefork.settings.origin import COMMAND_LINES, Source
from prefork.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from prefork.settings.option import Group, Option
    from prefork.settings.resolve import Resolution

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED: Final = frozenset({"cmd_args"})
"""What would make a variable that has another meaning."""


class Contribution(NamedTuple):
    """What one worker class brings.

    Args:
        worker: its name, as `-k` takes it.
        distribution: what has installed it, with its version.
        group: the dataclass of its options, None if it has none.
        trouble: why it cannot be used, and so has no options; empty if it can.
    """

    worker: str
    distribution: str
    group: type[Group] | None = None
    trouble: str = ""

    def __str__(self) -> str:
        return f"{self.worker} ({self.distribution})"


def table(contributions: Iterable[Contribution]) -> Table:
    """Return the server's settings and those of worker classes, whose names do not meet (`clashes`).

    Args:
        contributions: of all worker classes.
    """
    every = sorted(contributions, key=lambda each: each.worker)
    made = Table(Settings)
    made.unread = tuple(dict.fromkeys(each.trouble for each in every if each.trouble))
    for owners in _owners(every).values():
        name = "Worker" if len(owners) == 1 else "Workers"
        workers = tuple(owner.worker for owner, _ in owners)
        section = f"{name} {', '.join(workers)} ({owners[0][0].distribution})"
        made.add(dataclasses.replace(owners[0][1], section=section, workers=workers))
    return made


def fault(group: object) -> str:
    """Return what is wrong with the options that a worker class declares; an empty text for nothing.

    Args:
        group: its `settings`.
    """
    if group is None:
        return ""
    if not (isinstance(group, type) and dataclasses.is_dataclass(group)):
        return "its settings are not a dataclass"
    if other := [field.name for field in dataclasses.fields(group) if not is_option(field)]:
        return f"its setting {other[0]} is not made with prefork.worker.option"
    return next(filter(None, map(_fault_of, declared_in(group))), "")


def _fault_of(declared: Option) -> str:
    name = declared.name
    if not _NAME.fullmatch(name) or name in _RESERVED:
        return f"its setting cannot be called {name}"
    if name in Table(Settings) or name in HOOKS:
        return f"its setting {name} is one of the server's own"
    if name in ABSENT:
        return f"its setting {name} is gunicorn's, and means something else"
    taken = [flag for flag in flags_of(declared) if flag in _taken()]
    return f"the flag {taken[0]} of its setting {name} has another meaning" if taken else ""


def clashes(contributions: Sequence[Contribution]) -> Mapping[str, str]:
    """Return the worker classes with an option that another one has as well, and what is wrong.

    Those that share a declaration, by inheritance of their dataclasses, may do so.

    Args:
        contributions: of all worker classes.
    """
    found: dict[str, str] = {}
    flags: dict[str, tuple[Contribution, Option]] = {}
    for owner, declared in _declarations(contributions):
        for flag in (declared.name, *flags_of(declared)):
            other, theirs = flags.setdefault(flag, (owner, declared))
            if not _is_same(declared, theirs):
                text = f"{flag} is declared by the worker classes {other} and {owner}"
                found.setdefault(other.worker, text)
                found.setdefault(owner.worker, text)
    return found


def check_owners(of: Table, found: Resolution) -> None:
    """Refuse a value for an option that the worker class that serves does not have.

    Args:
        of: the table of all options.
        found: what was given.

    Raises:
        ConfigError: there is one in a file or variable.
        UsageError: there is one on a command line.
    """
    chosen = found.values["worker_class"]
    for name, origin in found.origins.items():
        if origin.source is Source.DEFAULT or name not in of:
            continue
        owners = of[name].workers
        if owners and chosen not in owners:
            _refuse(
                f"{origin}: {name} is a setting of {_worded(owners)}, but worker_class is {chosen}",
                origin.source,
            )


def _refuse(message: str, source: Source) -> NoReturn:
    error = UsageError if source in COMMAND_LINES else ConfigError
    raise error(message)


def _worded(owners: Sequence[str]) -> str:
    return (
        f"the worker class {owners[0]}" if len(owners) == 1 else f"the worker classes {' and '.join(owners)}"
    )


def _owners(contributions: Sequence[Contribution]) -> dict[str, list[tuple[Contribution, Option]]]:
    """Return who has each option, by name, those of one worker class together."""
    owners: dict[str, list[tuple[Contribution, Option]]] = {}
    for owner, declared in _declarations(contributions):
        owners.setdefault(declared.name, []).append((owner, declared))
    return dict(sorted(owners.items(), key=lambda item: [owner.worker for owner, _ in item[1]]))


def _declarations(contributions: Sequence[Contribution]) -> list[tuple[Contribution, Option]]:
    return [
        (owner, declared)
        for owner in contributions
        if owner.group is not None and not owner.trouble
        for declared in declared_in(owner.group)
    ]


def _is_same(one: Option, other: Option) -> bool:
    return one.name == other.name and one.kind is other.kind and one.help == other.help


@functools.cache
def _taken() -> Container[str]:
    """Return all flags that have a meaning without any worker class."""
    return {*Table(Settings).flags, *COMMAND_FLAGS, *(flag for row in ABSENT.values() for flag in row.flags)}
