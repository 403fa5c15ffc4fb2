# SPDX-License-Identifier: MIT
"""What only the arbiter knows of its server, and how it is written down for the status process.

It decides which facts these are. All others are on the scoreboard; `status.look` brings both together.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from prefork.control.report import Listening, Reforks, Totals


class Place(NamedTuple):
    """A slot, and the worker that has it."""

    slot: int
    pid: int
    generation: int
    state: str
    born: float
    """When it was forked, in monotonic seconds."""
    memory: int
    """Bytes that it shares with no other process, when last weighed; 0 when it never was."""


class Parent(NamedTuple):
    """A template."""

    pid: int
    generation: int
    state: str
    born: float
    """When it was started, or has become one, in monotonic seconds."""
    requests: int | None
    """How many it has answered before, as a worker; None when it has loaded the application itself."""


class Register(NamedTuple):
    """What the arbiter knows at one moment."""

    version: str
    pid: int
    started: float
    """Seconds since the epoch."""
    began: float
    """The same in monotonic seconds."""
    mode: str
    generation: int
    target: int
    """How many workers there should be."""
    rolled_back: str
    """Why the last reload was rolled back; empty when it was not."""
    upgrade: str
    """How far an upgrade is, or why the last one failed; empty for neither."""
    places: tuple[Place, ...]
    listeners: tuple[Listening, ...]
    past: Totals
    """What workers have counted that are not here any more."""
    templates: tuple[Parent, ...] = ()
    reforks: Reforks = Reforks()


def render(register: Register) -> bytes:
    """Return a register as text."""
    return json.dumps(register, separators=(",", ":")).encode()


def parse(text: bytes) -> Register:
    """Return the register of a text.

    Args:
        text: as `render` has made it.
    """
    found = Register(*json.loads(text))
    return found._replace(
        places=tuple(Place(*row) for row in found.places),
        listeners=tuple(Listening(*row) for row in found.listeners),
        past=Totals(*found.past),
        templates=tuple(Parent(*row) for row in found.templates),
        reforks=Reforks(*found.reforks),
    )
