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
    from collections.abc import Iterable

    from prefork.arbiter.brood import Brood
    from prefork.arbiter.generation import Generation
    from prefork.process.scoreboard import Slot
    from prefork.supervisor.children import Child
    from prefork.supervisor.machine import Machine


def counted(slot: Slot) -> Totals:
    """Return what one worker has counted so far.

    Args:
        slot: its part of the scoreboard.
    """
    return Totals(slot.requests, slot.errors, slot.shed, slot.queued, slot.measured)


def look(
    *,
    machine: Machine,
    brood: Brood,
    generations: Iterable[Generation],
    pid: int,
    started: float,
    uptime: float,
    now: float,
) -> Snapshot:
    """Look at everything.

    Args:
        machine: who is in which state.
        brood: the living children, and the sums of the dead.
        generations: all that have something open.
        pid: of the arbiter.
        started: when it did, in seconds since the epoch.
        uptime: how long ago that was, in seconds.
        now: monotonic seconds.
    """
    totals = brood.past
    for worker in brood:
        totals = totals.plus(counted(worker.slot))
    return Snapshot(
        version=__version__,
        pid=pid,
        started=started,
        uptime=uptime,
        mode="reloading" if machine.rollout is not None else machine.mode.value,
        generation=machine.generation,
        target=machine.target,
        rolled_back=machine.rolled_back,
        seats=tuple(_seat(child, brood, now) for child in machine.children),
        listeners=_listeners(generations),
        totals=totals,
    )


def _seat(child: Child, brood: Brood, now: float) -> Seat:
    worker = brood.get(child.serial)
    found = (child.slot, child.pid, child.generation, child.state.value, now - child.born)
    if worker is None:  # it is about to be forked
        return Seat(*found, threads=0, busy=0, requests=0, errors=0, connections=0, idle=0, oldest=None)
    slot = worker.slot
    in_hand = slot.current()
    oldest = None
    if in_hand:
        first = in_hand[0]
        oldest = InHand(first.method, first.target, max(0.0, now - first.started), first.phase.name.lower())
    return Seat(
        *found,
        threads=slot.threads,
        busy=len(in_hand),
        requests=slot.requests,
        errors=slot.errors,
        connections=slot.connections,
        idle=slot.idle,
        oldest=oldest,
    )


def _listeners(generations: Iterable[Generation]) -> tuple[Listening, ...]:
    found = {
        id(listener): Listening(listener.url, waiting_connections(listener.sock), listener.is_quiet)
        for generation in generations
        for listener in generation.listeners
    }
    return tuple(found.values())
