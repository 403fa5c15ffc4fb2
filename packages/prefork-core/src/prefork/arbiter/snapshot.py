# SPDX-License-Identifier: MIT
"""What only the arbiter knows of its server at this moment.

It decides where each of these facts is from. What else there is to know is on the scoreboard, and brought
together with this by `status.look`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefork import __version__
from prefork.control.register import Parent, Place, Register
from prefork.control.report import Listening, Reforks
from prefork.net.tcpinfo import waiting_connections

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.arbiter.brood import Brood
    from prefork.arbiter.generation import Generation
    from prefork.arbiter.nursery import Nursery
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.templates import Template


class Birth(NamedTuple):
    """Who the arbiter is, and when it started."""

    pid: int
    started: float
    """Seconds since the epoch."""
    began: float
    """The same in monotonic seconds."""


def register(fleet: Fleet, brood: Brood, generations: Iterable[Generation], birth: Birth) -> Register:
    """Look at what only the arbiter can see.

    Args:
        fleet: who is in which state.
        brood: has the sums of the dead.
        generations: all that have something open.
        birth: of the arbiter.
    """
    return Register(
        version=__version__,
        pid=birth.pid,
        started=birth.started,
        began=birth.began,
        mode="reloading" if fleet.rollout is not None else fleet.mode.value,
        generation=fleet.generation,
        target=fleet.target,
        rolled_back=fleet.rolled_back,
        upgrade=str(fleet.kinship),
        places=tuple(
            Place(child.slot, child.pid, child.generation, child.state.value, child.born, child.weight)
            for child in fleet.children
        ),
        listeners=_listeners(generations),
        past=brood.past,
        templates=tuple(_template(template, brood.nursery) for template in fleet.templates),
        reforks=Reforks(fleet.reforks, fleet.failed_reforks),
    )


def _template(template: Template, nursery: Nursery) -> Parent:
    living = nursery.get(template.number)
    requests = None if living is None else living.requests
    return Parent(template.pid, template.generation, template.state.value, template.born, requests)


def _listeners(generations: Iterable[Generation]) -> tuple[Listening, ...]:
    found = {
        id(listener): Listening(listener.url, waiting_connections(listener.sock), listener.is_quiet)
        for generation in generations
        for listener in generation.listeners
    }
    return tuple(found.values())
