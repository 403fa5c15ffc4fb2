# SPDX-License-Identifier: MIT
from __future__ import annotations

from dataclasses import dataclass

import pytest

from prefork.settings import Settings
from prefork.settings.cmdline import help_text, parse
from prefork.settings.environment import prefixed
from prefork.settings.kinds import seconds, switch, whole
from prefork.settings.option import Table, flags_of, option
from prefork.settings.origin import Source
from prefork.settings.resolve import resolve


@dataclass(frozen=True, slots=True)
class Greenlets:
    """A group as a worker's package declares it."""

    pool_size: int = option("Greenlets", whole(at_least=1), 100, help="Greenlets at a time.")
    pool_wait: float = option("Greenlets", seconds(), 1.5, help="Seconds to wait for one.")
    patch: bool = option("Greenlets", switch(), True, help="Patch the standard library.")


@dataclass(frozen=True, slots=True)
class Clash:
    workers: int = option("Clash", whole(), 0, help="Already there.")


@dataclass(frozen=True, slots=True)
class FlagClash:
    waiters: int = option("Clash", whole(), 0, flags=("-w",), help="Its flag is already there.")


def test_a_group_without_arguments_holds_its_defaults() -> None:
    assert Greenlets() == Greenlets(pool_size=100, pool_wait=1.5, patch=True)


def test_any_group_is_read_from_flags_and_variables() -> None:
    table = Table(Settings, Greenlets)
    line = parse(table, ["--pool-size", "7", "--no-patch"], Source.COMMAND_LINE)
    found = resolve(table, [*prefixed({"PREFORK_POOL_WAIT": "2m"}), *line.given])
    values = Greenlets(**{name: found.values[name] for name in Table(Greenlets)})
    assert values == Greenlets(pool_size=7, pool_wait=120.0, patch=False)


def test_any_group_is_in_the_help() -> None:
    assert "--pool-size" in help_text(Table(Settings, Greenlets))


@pytest.mark.parametrize("group", [Clash, FlagClash])
def test_two_groups_cannot_declare_one_name_or_flag(group: type[Clash]) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Table(Settings, group)


def test_a_switch_can_be_turned_off_by_its_twin() -> None:
    assert flags_of(Table(Settings)["daemon"]) == ("-D", "--daemon", "--no-daemon")
