# SPDX-License-Identifier: MIT
"""From what all sources give to one value for each setting, with its origin.

It decides who wins (the later one), and what becomes of names that are not settings. What
values mean is for their kinds; where they come from is for the sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from prefork.errors import ConfigError, UsageError
from prefork.hooks import TABLE as HOOKS
from prefork.settings.absent import ABSENT, Verdict
from prefork.settings.origin import COMMAND_LINES, DEFAULT, Source
from prefork.settings.spelling import meant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.errors import PreforkError
    from prefork.settings.option import Option, Table
    from prefork.settings.origin import Given, Origin


@dataclass(slots=True)
class Resolution:
    """The values of all settings.

    Args:
        values: by name.
        origins: where each is from; hooks that are given as well.
        hooks: the functions given for hooks, by name.
        warnings: about settings that are ignored.
    """

    values: dict[str, Any]
    origins: dict[str, Origin]
    hooks: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def resolve(table: Table, given: Iterable[Given]) -> Resolution:
    """Read every value and keep the last of each setting.

    Args:
        table: the settings there are.
        given: from the weakest source to the strongest.

    Returns:
        A value and an origin for each setting.

    Raises:
        ConfigError: a name or a value is wrong in a file or variable.
        UsageError: the same on a command line.
    """
    found = Resolution({name: table[name].default for name in table}, dict.fromkeys(table, DEFAULT))
    for item in given:
        if item.name in table and _may_set(table[item.name], item.origin):
            found.values[item.name] = _read(table[item.name], item)
            found.origins[item.name] = item.origin
        elif item.name in HOOKS and item.origin.source is Source.FILE:
            found.hooks[item.name] = _hook(item)
            found.origins[item.name] = item.origin
        elif item.name in ABSENT:
            _judge(item, found.warnings)
        else:
            _refuse_name(table, item)
    return found


def _may_set(option: Option, origin: Origin) -> bool:
    if origin.source is Source.FILE:
        return option.in_files
    return option.variable is not None


def _read(option: Option, item: Given) -> object:
    if item.value is None and option.kind.none_is_default:
        return option.default
    try:
        return option.kind.read(item.value)
    except ValueError as error:
        detail = f" ({error})" if str(error) else ""
        message = f"{option.name} is {item.value!r}, but must be {option.kind.expects}{detail}"
        _refuse(item.origin, message, option.gunicorn)


def _hook(item: Given) -> object:
    if item.value is None:
        return None
    try:
        return HOOKS[item.name].load(item.value)
    except ValueError as error:
        _refuse(item.origin, f"the hook {HOOKS[item.name]} cannot be {item.value!r}: {error}")


def _judge(item: Given, warnings: list[str]) -> None:
    row = ABSENT[item.name]
    if not row.matters(item.value):
        return
    if row.verdict is Verdict.REFUSED:
        _refuse(item.origin, str(row))
    warnings.append(f"{item.origin}: {row}")


def _refuse_name(table: Table, item: Given) -> NoReturn:
    if item.name in HOOKS or item.name in table:
        where = (
            "a configuration file"
            if item.name in HOOKS or table[item.name].in_files
            else "a flag or variable"
        )
        _refuse(item.origin, f"{item.name} can only be set in {where}")
    known = [*table, *HOOKS] if item.origin.source is Source.FILE else list(table)
    hint = "; ".join(filter(None, (meant(item.name, known), *table.unread)))
    _refuse(item.origin, f"there is no setting {item.name}", hint)


def _refuse(origin: Origin, message: str, hint: str = "") -> NoReturn:
    error: type[PreforkError] = UsageError if origin.source in COMMAND_LINES else ConfigError
    raise error(f"{origin}: {message}", hint=hint)
