# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.hooks import TABLE as HOOKS
from prefork.settings import Settings
from prefork.settings.absent import ABSENT
from prefork.settings.option import Table, flags_of
from prefork.settings.reference import render


def test_every_setting_is_on_the_page_with_its_flags_and_its_variable() -> None:
    page = render()
    for option in Table(Settings).values():
        _, _, rest = page.partition(f"\n### {option.name}\n")
        entry = rest.partition("\n### ")[0]
        assert option.help in entry
        assert all(f"`{flag}`" in entry for flag in flags_of(option))
        assert option.variable is None or f"`{option.variable}`" in entry


def test_every_hook_and_every_missing_setting_has_a_row() -> None:
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert len(rows) == len(HOOKS) + len(ABSENT)
    assert all(any(row.startswith(f"| `{name}` |") for row in rows) for name in ABSENT)
    assert (
        "| `nworkers_changed(server, new, old)` | arbiter | when the number of workers is changed |" in rows
    )


def test_cells_do_not_break_the_tables() -> None:
    rows = [line for line in render().splitlines() if line.startswith("| `")]
    assert {row.count("|") for row in rows} == {4, 5}
