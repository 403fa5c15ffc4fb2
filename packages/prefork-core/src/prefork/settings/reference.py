# SPDX-License-Identifier: MIT
"""The reference page of the settings, generated from the tables that the server itself reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork.hooks import TABLE as HOOKS
from prefork.settings.absent import ABSENT
from prefork.settings.contributed import table
from prefork.settings.option import flags_of
from prefork.settings.origin import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork.settings.contributed import Contribution
    from prefork.settings.option import Option


_NOTES: Final = """
One configuration file is used: the one named by `-c` or `PREFORK_CONFIG`, else the first that
exists of `prefork.conf.py`, `prefork.toml` and a `pyproject.toml` with `[tool.prefork]`.
`prefork --print-config` shows every value and where it is from.

Times are seconds, with fractions, or a text with units: `0.5`, `500ms`, `30s`, `1m30s`, `2h`.
Sizes are bytes or a text with a unit, of which k, m and g are powers of 1,024: `8190`, `64k`,
`1MiB`.
"""

_HOOKS: Final = """## Hooks

Functions in a Python configuration file, or texts `module:function` in any. The last two
arguments of `post_request` may be left out.

| Hook | Runs in | When |
|---|---|---|"""

_ABSENT: Final = """## Settings of gunicorn that prefork does not have

A value that asks for what prefork does anyway is accepted without a word.

| Setting | Flags | Becomes | Instead |
|---|---|---|---|"""


def render(contributions: Iterable[Contribution] = ()) -> str:
    """Return the page as Markdown.

    Args:
        contributions: what worker classes bring.
    """
    return "\n".join([*_head(), *_options(contributions), *_hooks(), *_absent()])


def _head() -> Iterator[str]:
    yield from ("# Settings", "", "Each source wins over those above it:", "")
    yield from (f"1. {source.value}" for source in Source)
    yield _NOTES


def _options(contributions: Iterable[Contribution]) -> Iterator[str]:
    section = ""
    for option in table(contributions).values():
        if option.section != section:
            section = option.section
            yield from (f"## {section}", "")
        yield from (f"### {option.name}", "", option.help, "")
        yield from (f"- {label}: {text}" for label, text in _facts(option) if text)
        yield ""


def _facts(option: Option) -> Iterator[tuple[str, str]]:
    yield "Value", option.kind.expects
    yield "Default", "not set" if option.default is None else f"`{option.kind.write(option.default)}`"
    yield "Flags", ", ".join(f"`{flag}`" for flag in flags_of(option))
    yield "Variable", f"`{option.variable}`" if option.variable else ""
    yield "In files", "" if option.in_files else "no"
    yield "Other than in gunicorn", option.gunicorn


def _hooks() -> Iterator[str]:
    yield _HOOKS
    yield from (f"| `{hook}` | {hook.process.value} | {hook.moment} |" for hook in HOOKS.values())
    yield ""


def _absent() -> Iterator[str]:
    yield _ABSENT
    for row in ABSENT.values():
        flags = ", ".join(f"`{flag}`" for flag in row.flags)
        yield f"| `{row.name}` | {flags} | {row.verdict.value} | {row.instead} |"
    yield ""
