# SPDX-License-Identifier: MIT
"""A look at the whole server: what the machine, the scoreboard and the kernel say at this moment.

It decides where each fact is from. What is told of it is `control.report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork import __version__
from prefork.control.report import InHand, Listening, Seat, Snapshot, Totals
from prefork.net.tcpinfo import waiting_connections

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefork.arbiter.brood import Brood, Worker
    from prefork.arbiter.generation import Generation
    from prefork.process.scoreboard import Slot
    from prefork.supervisor.children import Child
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Reason


def counted(slot: Slot) -> Totals:
    """Return what one worker has counted so far.

    Args:
        slot: its part of the scoreboard.
    """
    requests, errors, queued, measured = slot.sums()
    return Totals(requests, errors, slot.shed, queued, measured)


def look(
    *,
    fleet: Fleet,
    brood: Brood,
    generations: Iterable[Generation],
    kills: Mapping[Reason, int],
    pid: int,
    started: float,
    uptime: float,
    now: float,
) -> Snapshot:
    """Look at everything.

    Args:
        fleet: who is in which state.
        brood: the living children, and the sums of the dead.
        generations: all that have something open.
        kills: workers that were ended by force, by reason.
        pid: of the arbiter.
        started: when it did, in seconds since the epoch.
        uptime: how long ago that was, in seconds.
        now: monotonic seconds.
    """
    living = {worker.serial: counted(worker.slot) for worker in brood}
    totals = brood.past
    for sums in living.values():
        totals = totals.plus(sums)
    return Snapshot(
        version=__version__,
        pid=pid,
        started=started,
        uptime=uptime,
        mode="reloading" if fleet.rollout is not None else fleet.mode.value,
        generation=fleet.generation,
        target=fleet.target,
        rolled_back=fleet.rolled_back,
        upgrade=str(fleet.kinship),
        seats=tuple(
            _seat(child, brood.get(child.serial), living.get(child.serial, Totals()), now)
            for child in fleet.children
        ),
        listeners=_listeners(generations),
        totals=totals,
        kills={reason.value: count for reason, count in kills.items()},
    )


def _seat(child: Child, worker: Worker | None, sums: Totals, now: float) -> Seat:
    found = (child.slot, child.pid, child.generation, child.state.value, now - child.born)
    if worker is None:  # it is about to be forked
        return Seat(*found, threads=0, busy=0, requests=0, errors=0, connections=0, idle=0, oldest=None)
    slot = worker.slot
    busy, first = slot.in_hand()
    oldest = None
    if first is not None:
        oldest = InHand(first.method, first.target, max(0.0, now - first.started), first.phase.name.lower())
    return Seat(
        *found,
        threads=slot.threads,
        busy=busy,
        requests=sums.requests,
        errors=sums.errors,
        connections=slot.connections,
        idle=slot.idle,
        oldest=oldest,
        memory=child.weight or None,
    )


def _listeners(generations: Iterable[Generation]) -> tuple[Listening, ...]:
    found = {
        id(listener): Listening(listener.url, waiting_connections(listener.sock), listener.is_quiet)
        for generation in generations
        for listener in generation.listeners
    }
    return tuple(found.values())
