# SPDX-License-Identifier: MIT
"""A look at the whole server: what the arbiter knows, and what the workers show on the scoreboard.

It decides where each fact is from. What is told of it is `control.report`. The arbiter looks this way for who
asks on the control socket, and the status process for its clients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork.control.report import InHand, Mould, Seat, Snapshot, Totals

if TYPE_CHECKING:
    from prefork.control.register import Place, Register
    from prefork.process.scoreboard import Scoreboard, Slot


def counted(slot: Slot) -> Totals:
    """Return what one worker has counted so far.

    Args:
        slot: its part of the scoreboard.
    """
    requests, errors, queued, measured = slot.sums()
    return Totals(requests, errors, slot.shed, queued, measured)


def snapshot(register: Register, board: Scoreboard, now: float) -> Snapshot:
    """Look at everything.

    Args:
        register: what the arbiter knows.
        board: what the workers show.
        now: monotonic seconds.
    """
    totals = register.past
    seats = []
    for place in register.places:
        slot = board.slot(place.slot)
        sums = counted(slot)
        totals = totals.plus(sums)
        seats.append(_seat(place, slot, sums, now))
    return Snapshot(
        version=register.version,
        pid=register.pid,
        started=register.started,
        uptime=now - register.began,
        mode=register.mode,
        generation=register.generation,
        target=register.target,
        rolled_back=register.rolled_back,
        upgrade=register.upgrade,
        seats=tuple(seats),
        listeners=register.listeners,
        totals=totals,
        kills={reason.value: count for reason, count in board.kills.items()},
        templates=tuple(
            Mould(parent.pid, parent.generation, parent.state, now - parent.born, parent.requests)
            for parent in register.templates
        ),
        reforks=register.reforks,
    )


def _seat(place: Place, slot: Slot, sums: Totals, now: float) -> Seat:
    busy, first = slot.in_hand()
    oldest = None
    if first is not None:
        oldest = InHand(first.method, first.target, max(0.0, now - first.started), first.phase.name.lower())
    return Seat(
        place.slot,
        place.pid,
        place.generation,
        place.state,
        now - place.born,
        threads=slot.threads,
        busy=busy,
        requests=sums.requests,
        errors=sums.errors,
        connections=slot.connections,
        idle=slot.idle,
        oldest=oldest,
        memory=place.memory or None,
    )
