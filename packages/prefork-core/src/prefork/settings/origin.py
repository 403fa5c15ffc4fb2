# SPDX-License-Identifier: MIT
"""Where a value came from, in the order in which sources win over each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple


class Source(Enum):
    """A source of settings; each wins over those above it."""

    DEFAULT = "built-in defaults"
    PLATFORM = "WEB_CONCURRENCY, PORT and FORWARDED_ALLOW_IPS"
    FILE = "the configuration file"
    ENVIRONMENT = "PREFORK_* variables"
    CMD_ARGS = "PREFORK_CMD_ARGS"
    COMMAND_LINE = "the command line"


COMMAND_LINES: Final = (Source.COMMAND_LINE, Source.CMD_ARGS)
"""Where a mistake is one of usage."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of one value.

    Args:
        source: the source.
        place: what a person looks for: "prefork.toml:3", "env PREFORK_WORKERS", "flag --workers".
    """

    source: Source
    place: str

    def __str__(self) -> str:
        return self.place


DEFAULT: Final = Origin(Source.DEFAULT, "default")


class Given(NamedTuple):
    """A value as a source gave it, not read yet.

    Args:
        name: the setting's name in configuration files; perhaps there is none of this name.
        value: a text, or the native value of a file.
        origin: the place.
    """

    name: str
    value: object
    origin: Origin
