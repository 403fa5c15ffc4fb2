# SPDX-License-Identifier: MIT
"""How a setting is declared, and the table that all sources of settings read.

A group of settings is a frozen dataclass whose fields were made with `option`: the field
gives name, type and default, the `Option` in its metadata all else. Flags, environment
variables, files, help and the reference page come from that one declaration. This module
knows no setting of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar, cast

from prefork.settings.kinds import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork.settings.kinds import Kind

T = TypeVar("T")

ENVIRONMENT_PREFIX: Final = "PREFORK_"
_METADATA: Final = "prefork.option"


class Group(Protocol):
    """A dataclass whose fields were made with `option`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, as declared.

    Args:
        name: the name in configuration files and of the attribute.
        section: the heading in `--help` and the reference page.
        kind: how its values are read and written.
        default: its value when nothing gives one.
        flags: its spellings on the command line, short ones first; none if it has no flag.
        help: what it does, one or more sentences, unit included.
        gunicorn: what differs from gunicorn's setting of this name; empty for nothing.
        in_files: whether a configuration file may set it.
        workers: the worker classes that have it; none when it is the server's own.
    """

    name: str
    section: str
    kind: Kind[Any]
    default: Any
    flags: tuple[str, ...]
    help: str
    gunicorn: str
    in_files: bool
    workers: tuple[str, ...] = ()

    @property
    def variable(self) -> str | None:
        """The environment variable, None if a value has no text form."""
        return None if self.kind.shape is Shape.NATIVE else ENVIRONMENT_PREFIX + self.name.upper()


def option(
    section: str,
    kind: Kind[T],
    default: T,
    *,
    help: str,  # noqa: A002  (the word every reader of a parser expects)
    flags: tuple[str, ...] | None = None,
    gunicorn: str = "",
    in_files: bool = True,
) -> T:
    """Declare one setting, as the value of a field of a frozen dataclass.

    Args:
        section: the heading it stands under.
        kind: how its values are read and written.
        default: its value when nothing gives one.
        help: what it does, one or more sentences, unit included.
        flags: its spellings on the command line; by default `--` and the name with dashes.
        gunicorn: what differs from gunicorn's setting of this name.
        in_files: whether a configuration file may set it.

    Returns:
        A dataclass field (typed as the default, as `dataclasses.field` is).
    """
    declared = (section, kind, flags, help, gunicorn, in_files)
    # A factory, because dataclasses refuse unhashable defaults and a mapping is one.
    return dataclasses.field(default_factory=lambda: default, metadata={_METADATA: declared})


class Table(Mapping[str, Option]):
    """The options of one or more groups by name, in the order of their declaration.

    Args:
        groups: the dataclasses that declare them.

    Attributes:
        unread: worker classes whose options are not known, and why, as a person reads it.

    Raises:
        ValueError: two groups declare one name or flag.
    """

    def __init__(self, *groups: type[Group]) -> None:
        self._options: dict[str, Option] = {}
        self.flags: dict[str, Option] = {}
        """The option of each flag, `--no-` twins of switches included."""
        self.unread: tuple[str, ...] = ()
        for group in groups:
            for declared in declared_in(group):
                self.add(declared)

    def __getitem__(self, name: str) -> Option:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def add(self, added: Option) -> None:
        """Add an option.

        Raises:
            ValueError: its name or a flag is there already.
        """
        twice = [flag for flag in flags_of(added) if flag in self.flags]
        if added.name in self._options or twice:
            raise ValueError(f"setting {added.name} {' '.join(twice)} is declared twice")
        self._options[added.name] = added
        self.flags.update(dict.fromkeys(flags_of(added), added))


def declared_in(group: type[Group]) -> list[Option]:
    """Return the options of a group, in the order of their declaration; other fields are left out."""
    fields = dataclasses.fields(cast("Any", group))
    return [_bound(field) for field in fields if is_option(field)]


def is_option(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field was made with `option`."""
    return _METADATA in field.metadata


def flags_of(declared: Option) -> tuple[str, ...]:
    """Return all flags of an option: a switch can always be turned off and on again."""
    return declared.flags + off_flags(declared)


def off_flags(declared: Option) -> tuple[str, ...]:
    """Return the flags that turn a switch off; none for other kinds."""
    if declared.kind.shape is not Shape.SWITCH:
        return ()
    return tuple(f"--no-{flag[2:]}" for flag in declared.flags if flag.startswith("--"))


def _bound(field: dataclasses.Field[Any]) -> Option:
    section, kind, flags, text, gunicorn, in_files = field.metadata[_METADATA]
    factory = cast("Callable[[], Any]", field.default_factory)
    if flags is None:
        flags = () if kind.shape is Shape.NATIVE else (f"--{field.name.replace('_', '-')}",)
    return Option(field.name, section, kind, factory(), flags, text, gunicorn, in_files)
