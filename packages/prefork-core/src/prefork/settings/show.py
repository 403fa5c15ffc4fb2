# SPDX-License-Identifier: MIT
"""What `--print-config` prints: every value and where it is from, as TOML that can be used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.hooks import TABLE as HOOKS
from prefork.settings.option import Table
from prefork.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork.settings.load import Loaded
    from prefork.settings.option import Option

_PLACE_COLUMN = 44


def config_text(loaded: Loaded) -> str:
    """Return all settings with their origins.

    Args:
        loaded: what was loaded.

    Returns:
        TOML for a prefork.toml. What TOML cannot say (unset values, functions) is in comments.
    """
    section = ""
    lines: list[str] = []
    for option in Table(Settings).values():
        if option.section != section:
            section = option.section
            lines += ["", f"# {section}"]
        shown = _assignment(option, getattr(loaded.settings, option.name))
        lines += [f"{shown:<{_PLACE_COLUMN}}  # {loaded.origins[option.name]}"]
    return "\n".join([*lines[1:], *_hook_lines(loaded), ""])


def _assignment(option: Option, value: object) -> str:
    if value is None:
        return f"# {option.name} is not set"
    shown = f"{option.name} = {option.kind.write(value)}"
    return shown if option.in_files else f"# {shown}"


def _hook_lines(loaded: Loaded) -> Iterator[str]:
    given = [name for name in HOOKS if name in loaded.origins]
    if given:
        yield from ("", "# Hooks")
    for name in given:
        shown = f"# {name}"
        yield f"{shown:<{_PLACE_COLUMN}}  # {loaded.origins[name]}"
