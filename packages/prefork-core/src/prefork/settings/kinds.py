# SPDX-License-Identifier: MIT
"""The kinds of value that a setting can have: how each is read, and how it is written down.

A kind reads a text (of a flag or an environment variable) and a native value (of a Python
or TOML file) by the same rule, so that `timeout` means one thing wherever it is given. It
must not know which setting it reads for, nor where the value came from: it raises Misfit,
and the caller adds the place.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeVar

from prefork.errors import ConfigError

T = TypeVar("T")

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_PLAIN_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_PART: Final = r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)"
_DURATION_PART: Final = re.compile(_PART)
_DURATION: Final = re.compile(f"(?:{_PART})+")
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*(?:([kmg])(?:ib)?|b)?", re.IGNORECASE)
_SHARE: Final = re.compile(r"([0-9]{1,3})\s*%")
_OCTAL: Final = re.compile(r"(?:0o)?([0-7]{1,6})", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_FIELD_VALUE: Final = re.compile(r"(?:[!-~](?:[ !-~]*[!-~])?)?")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLACE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*[.:][^\W\d]\w*")
_TARGET: Final = re.compile(r"(?:https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?)?/(?!/)[!-~]*")

_SECONDS_OF: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES_OF: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SWITCH: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class Misfit(ValueError):
    """A value is not of its kind; the text, if there is one, says more than the kind does."""


class Shape(Enum):
    """How a command line gives a value."""

    ONE = "one"
    """A flag with one argument."""
    MANY = "many"
    """A flag with one argument that may be repeated; each adds to the list."""
    SWITCH = "switch"
    """A flag without an argument, and its `--no-` twin."""
    NATIVE = "native"
    """Not at all: it has no text form, so only configuration files can hold it."""


def as_toml(value: object) -> str:
    """Write a value as TOML does.

    Args:
        value: a string, bool, number, list, tuple or mapping of such.

    Returns:
        One line.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(key))} = {as_toml(item)}" for key, item in value.items()) + "}"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value.

    Args:
        expects: what a value must be, as errors and the reference page say it.
        read: turns a text or a native value into the setting's; raises Misfit, whose
            text, if it has one, says more than `expects` does.
        metavar: the placeholder in `--help`.
        shape: how a command line gives it.
        write: renders a value as TOML, for `--print-config` and the reference page.
        none_is_default: whether None in a Python file means the default, as in gunicorn.
        is_function: whether a function that a Python file defines or imports can be a value.
    """

    expects: str
    read: Callable[[object], T]
    metavar: str
    shape: Shape = Shape.ONE
    write: Callable[[Any], str] = as_toml
    none_is_default: bool = False
    is_function: bool = False


def whole(at_least: int = 0, at_most: int = 2**31 - 1) -> Kind[int]:
    """Return the kind of whole numbers from `at_least` to `at_most`."""
    expects = f"a whole number, {_range(at_least, at_most)}"
    return Kind(expects, lambda given: _within(_whole(given), at_least, at_most), "INT")


def whole_or_auto(at_least: int, at_most: int) -> Kind[int | Literal["auto"]]:
    """Return the kind of whole numbers of which the server may choose one itself."""

    def read(given: object) -> int | Literal["auto"]:
        if isinstance(given, str) and given.strip().lower() == "auto":
            return "auto"
        return _within(_whole(given), at_least, at_most)

    return Kind(f'"auto" or a whole number, {_range(at_least, at_most)}', read, "INT|auto")


def size(at_least: int, at_most: int) -> Kind[int]:
    """Return the kind of byte counts; k, m and g are powers of 1,024."""
    expects = f'a size in bytes such as 8190, "64k" or "1MiB", {_range(at_least, at_most)}'
    return Kind(expects, lambda given: _within(_size(given), at_least, at_most), "SIZE")


def size_or_share(at_most: int) -> Kind[int | str]:
    """Return the kind of byte counts that may be a share, such as "80%", of what there is."""

    def read(given: object) -> int | str:
        found = _SHARE.fullmatch(given.strip()) if isinstance(given, str) else None
        if found is None:
            return _within(_size(given), 0, at_most)
        return f"{_within(int(found[1]), 1, 100)}%"

    return Kind('a size in bytes such as "2g", or a share from "1%" to "100%"', read, "SIZE|PERCENT")


def seconds() -> Kind[float]:
    """Return the kind of durations: seconds, or a text with units."""
    expects = 'seconds, or a time such as "500ms", "30s" or "1m30s"'
    return Kind(expects, _seconds, "SECONDS", write=lambda value: f"{value:.15g}")


def mode() -> Kind[int]:
    """Return the kind of file modes: octal texts, or integers of a file as they are."""
    return Kind('an octal mode such as "0o660" or "660"', _mode, "MODE", write=_octal)


def optional_mode() -> Kind[int | None]:
    """Return the kind of file modes that may be unset."""
    return Kind(
        'an octal mode such as "0o027" or "027"',
        lambda given: None if given is None else _mode(given),
        "MODE",
        write=_octal,
    )


def switch() -> Kind[bool]:
    """Return the kind of things that are on or off."""

    def read(given: object) -> bool:
        if isinstance(given, bool):
            return given
        if given in (0, 1):
            return bool(given)
        if isinstance(given, str) and given.strip().lower() in _SWITCH:
            return _SWITCH[given.strip().lower()]
        raise Misfit

    return Kind("true or false (also 1/0, yes/no, on/off)", read, "", Shape.SWITCH, none_is_default=True)


def choice(*names: str) -> Kind[str]:
    """Return the kind of one of some words, in lower or upper case."""

    def read(given: object) -> str:
        if isinstance(given, str) and given.strip().lower() in names:
            return given.strip().lower()
        raise Misfit

    return Kind("one of " + ", ".join(f'"{name}"' for name in names), read, "|".join(names))


def text(metavar: str, expects: str = "a text") -> Kind[str]:
    """Return the kind of texts that may not be empty."""
    return Kind(expects, _text, metavar, none_is_default=True)


def optional_text(metavar: str, expects: str = "a text") -> Kind[str | None]:
    """Return the kind of texts that may be unset; empty means unset."""
    return Kind(f"{expects}, or nothing", lambda given: _text(given) if given else None, metavar)


def field_value() -> Kind[str]:
    """Return the kind of values of a response field (RFC 9110 section 5.5), ASCII only."""

    def read(given: object) -> str:
        if isinstance(given, str) and _FIELD_VALUE.fullmatch(given):
            return given
        raise Misfit

    return Kind("printable ASCII without spaces around it, or an empty text", read, "TEXT")


def account() -> Kind[str | int | None]:
    """Return the kind of users and groups: a name, a number, or nothing."""

    def read(given: object) -> str | int | None:
        if given is None or given == "":
            return None
        if isinstance(given, str) and not _NUMBER.fullmatch(given.strip()):
            return _text(given)
        return _whole(given)

    return Kind("a name or a number", read, "NAME|ID")


def listing(
    metavar: str, expects: str, check: Callable[[str], str] = str, separator: str = ","
) -> Kind[tuple[str, ...]]:
    """Return the kind of lists of texts.

    Args:
        metavar: the placeholder of one item.
        expects: what the list must be.
        check: normalises one item or raises Misfit.
        separator: what divides items within one text; empty for nothing.
    """
    return Kind(expects, lambda given: tuple(map(check, _items(given, separator))), metavar, Shape.MANY)


def targets() -> Kind[tuple[str, ...]]:
    """Return the kind of lists of paths and URLs to ask for; a comma belongs to the path."""
    return listing("PATH", 'paths such as "/" or URLs such as "http://shop.example/"', _target, separator="")


def networks() -> Kind[tuple[str, ...]]:
    """Return the kind of lists of addresses and CIDR networks, `*` for every peer."""
    return listing(
        "ADDRESS", 'IP addresses or CIDR networks, divided by commas, or "*" for every peer', _network
    )


def assignments() -> Kind[tuple[str, ...]]:
    """Return the kind of lists of `NAME=value`; a comma belongs to the value."""
    return listing("NAME=VALUE", 'a list of "NAME=value"', _assignment, separator="")


def field_names() -> Kind[tuple[str, ...]]:
    """Return the kind of lists of field names in their environ spelling, `*` for any."""
    return listing("NAME", "field names, divided by commas", lambda name: _field_name(name).upper())


def fields() -> Kind[Mapping[str, str]]:
    """Return the kind of mappings of field names to the one value that counts."""

    def read(given: object) -> Mapping[str, str]:
        if isinstance(given, Mapping):
            pairs = list(given.items())
        else:
            pairs = [(name, value) for name, _, value in (i.partition("=") for i in _items(given, ","))]
        if not all(isinstance(value, str) and value for _, value in pairs):
            raise Misfit
        return MappingProxyType({_field_name(name).upper(): value for name, value in pairs})

    return Kind('a table of field names and values (as a text: "NAME=value,…")', read, "NAME=VALUE")


def dictionary() -> Kind[Mapping[str, Any] | None]:
    """Return the kind of free tables, configuration files only."""

    def read(given: object) -> Mapping[str, Any] | None:
        if given is None or given == {}:
            return None
        if not isinstance(given, Mapping):
            raise Misfit
        return given

    return Kind("a table", read, "", Shape.NATIVE)


@dataclass(frozen=True, slots=True)
class Named:
    """A function by its place; it is imported when it is called, so that only who calls it needs it.

    Args:
        place: "module:function" or "module.function".
    """

    place: str

    def __call__(self, *arguments: object) -> object:
        """Import the function and call it.

        Raises:
            ConfigError: there is none at that place.
        """
        module, _, name = self.place.replace(":", ".").rpartition(".")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"there is no function {self.place}: {error}") from error
        if not callable(function):
            raise ConfigError(f"{self.place} is not a function")
        return function(*arguments)


def function() -> Kind[Callable[..., object] | None]:
    """Return the kind of functions: given in a Python file, or named in any source; may be unset."""

    def read(given: object) -> Callable[..., object] | None:
        if given is None or given == "":
            return None
        if isinstance(given, str) and _PLACE.fullmatch(given):
            return Named(given)
        if not callable(given):
            raise Misfit
        return given

    return Kind(
        '"module:function", or a function in a Python file',
        read,
        "MODULE:FUNCTION",
        write=lambda value: as_toml(place_of(value)),
        is_function=True,
    )


def place_of(value: object) -> str:
    """Return what a function is called where it is shown."""
    return value.place if isinstance(value, Named) else getattr(value, "__qualname__", repr(value))


def _range(at_least: int, at_most: int) -> str:
    return f"{at_least} or more" if at_most == 2**31 - 1 else f"{at_least} to {at_most}"


def _within(value: int, at_least: int, at_most: int) -> int:
    if not at_least <= value <= at_most:
        raise Misfit
    return value


def _whole(given: object) -> int:
    if isinstance(given, str) and _NUMBER.fullmatch(given.strip()):
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise Misfit


def _seconds(given: object) -> float:
    if isinstance(given, str):
        return _seconds_of_text(given.strip())
    # The bound refuses infinity and NaN too: no poller can wait for either.
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given < 1e12:
        return float(given)
    raise Misfit


def _seconds_of_text(given: str) -> float:
    if _PLAIN_SECONDS.fullmatch(given):
        return _seconds(float(given))
    if _DURATION.fullmatch(given):
        parts = _DURATION_PART.findall(given)
        return _seconds(sum(float(number) * _SECONDS_OF[unit] for number, unit in parts))
    raise Misfit


def _size(given: object) -> int:
    if not isinstance(given, str):
        return _whole(given)
    found = _SIZE.fullmatch(given.strip())
    if not found:
        raise Misfit
    return int(found[1]) * _BYTES_OF[(found[2] or "").lower()]


def _mode(given: object) -> int:
    if isinstance(given, str):
        found = _OCTAL.fullmatch(given.strip())
        if not found:
            raise Misfit
        return _within(int(found[1], 8), 0, 0o777)
    value = _whole(given)
    if value > 0o777:
        # 660 without the 0o is 0o1224: the commonest slip with modes.
        raise Misfit(f"{value} is octal {value:o}; was 0o{value} meant?")
    return _within(value, 0, 0o777)


def _octal(value: int) -> str:
    return f"0o{value:03o}"


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise Misfit
    return given


def _items(given: object, separator: str) -> list[str]:
    """Return the texts of a list, which may be one text or hold several in one."""
    given_items = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
    found = []
    for item in given_items:
        if not isinstance(item, str):
            raise Misfit
        found += [part.strip() for part in (item.split(separator) if separator else [item])]
    return [item for item in found if item]


def _network(item: str) -> str:
    # Imported here: the defaults are never read through it, so most starts can do without.
    import ipaddress

    if item != "*":
        try:
            ipaddress.ip_network(item)
        except ValueError as error:
            raise Misfit(str(error)) from None
    return item


def _target(item: str) -> str:
    if not _TARGET.fullmatch(item):
        raise Misfit
    return item


def _assignment(item: str) -> str:
    name, sign, _ = item.partition("=")
    if not name.strip() or not sign or "\0" in item:
        raise Misfit
    return item


def _field_name(name: object) -> str:
    if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
        raise Misfit
    return name
