# SPDX-License-Identifier: MIT
"""Every value and where it is from: as TOML that can be used again, or as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefork.hooks import TABLE as HOOKS
from prefork.settings.kinds import Named, place_of
from prefork.settings.option import Table
from prefork.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork.settings.load import Loaded
    from prefork.settings.option import Option
    from prefork.settings.origin import Origin

_PLACE_COLUMN = 44


def described(settings: Settings, origins: Mapping[str, Origin]) -> list[dict[str, Any]]:
    """Return a row for each setting.

    Args:
        settings: the values.
        origins: where each is from.

    Returns:
        Rows of "name", "section", "value", "text" (the value as TOML, empty when it is not set) and "origin".
    """
    return [
        {
            "name": option.name,
            "section": option.section,
            "value": _plain(option, value),
            "text": "" if value is None else option.kind.write(value),
            "origin": str(origins[option.name]),
        }
        for option, value in _every(settings)
    ]


def _every(settings: Settings) -> Iterator[tuple[Option, Any]]:
    for option in Table(Settings).values():
        yield option, getattr(settings, option.name)
    yield from settings.contributed


def _plain(option: Option, value: Any) -> Any:
    """Return a value as JSON has it, which knows neither read-only mappings nor functions."""
    if value is not None and option.kind.is_function:
        return place_of(value)
    return dict(value) if isinstance(value, Mapping) else value


def config_text(loaded: Loaded) -> str:
    """Return what `--print-config` prints: all settings with their origins.

    Args:
        loaded: what was loaded.

    Returns:
        TOML for a prefork.toml. What TOML cannot say (unset values, functions) is in comments.
    """
    section = ""
    lines: list[str] = []
    for option, value in _every(loaded.settings):
        if option.section != section:
            section = option.section
            lines += ["", f"# {section}"]
        shown = _assignment(option, value)
        lines += [f"{shown:<{_PLACE_COLUMN}}  # {loaded.origins[option.name]}"]
    return "\n".join([*lines[1:], *_hook_lines(loaded), ""])


def _assignment(option: Option, value: object) -> str:
    if value is None:
        return f"# {option.name} is not set"
    shown = f"{option.name} = {option.kind.write(value)}"
    sayable = not option.kind.is_function or isinstance(value, Named)
    return shown if option.in_files and sayable else f"# {shown}"


def _hook_lines(loaded: Loaded) -> Iterator[str]:
    given = [name for name in HOOKS if name in loaded.origins]
    if given:
        yield from ("", "# Hooks")
    for name in given:
        shown = f"# {name}"
        yield f"{shown:<{_PLACE_COLUMN}}  # {loaded.origins[name]}"
