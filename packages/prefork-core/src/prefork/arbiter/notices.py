# SPDX-License-Identifier: MIT
"""What the service manager is told of the server, and when (sd_notify(3)).

It decides that by comparing what is with what was told last, on each turn of the arbiter's loop. How it is
said is `process.systemd`. Nothing is done where no manager listens.
"""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.children import SERVING, State
from prefork.supervisor.fleet import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork.arbiter.brood import Brood
    from prefork.process.systemd import Manager
    from prefork.supervisor.fleet import Fleet

PULSE: Final = 1.0
"""Seconds between two looks: `STATUS` is not told more often, and seldom later."""
AHEAD: Final = 15.0
"""Seconds by which the manager's own limit is moved each time."""


class Notices:
    """All that a service manager hears of one server.

    Args:
        manager: who is told.
        waits: whether another arbiter speaks for the service until `take_over`.
    """

    def __init__(self, manager: Manager, *, waits: bool = False) -> None:
        self._manager = manager
        self._waits = waits
        self._reloads = False
        self._refused = ""
        self._line = ""
        self._look_at = 0.0
        self._pet_at = 0.0 if manager.watchdog else inf

    def serving(self) -> None:
        """Say that requests can be answered."""
        self._look_at = 0.0
        self._tell("READY=1", f"MAINPID={os.getpid()}")

    def take_over(self, fleet: Fleet) -> None:
        """Speak for the service from now on.

        Args:
            fleet: what there is.
        """
        self._waits = False
        if fleet.mode is Mode.RUNNING:
            self.serving()

    def _tell(self, *states: str) -> None:
        if not self._waits:
            self._manager.tell(*states)

    def stopping(self) -> None:
        """Say that the server has begun to end."""
        self._reloads = False
        self._look_at = 0.0
        self._tell("STOPPING=1")

    def reloading(self, fleet: Fleet, now: float) -> None:
        """Say that a reload begins, before it is known whether it can; `turn` says that it is over.

        Args:
            fleet: what there is.
            now: monotonic seconds. `Type=notify-reload` compares it with the time of its signal.
        """
        self._refused = ""
        if fleet.mode is Mode.RUNNING:
            self._reloads = True
            self._look_at = 0.0
            self._tell("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def refused(self, why: str) -> None:
        """Note why there is no reload.

        Args:
            why: in a sentence.
        """
        self._refused = why

    def hand_over(self, pid: int) -> None:
        """Say that another arbiter has taken over; this one says nothing more.

        Args:
            pid: of the other one.
        """
        self._manager.hand_over(pid)

    def turn(self, fleet: Fleet, brood: Brood, now: float) -> None:
        """Tell what has changed.

        Args:
            fleet: what there is, and what should be.
            brood: the living workers.
            now: monotonic seconds.
        """
        if not self._manager.is_there or self._waits:
            return
        states = []
        if self._reloads and fleet.rollout is None:
            self._reloads = False
            self._look_at = 0.0
            states.append("READY=1")
        if now >= self._pet_at and makes_progress(fleet):
            self._pet_at = now + self._manager.watchdog / 2
            states.append("WATCHDOG=1")
        if now >= self._look_at:
            self._look_at = now + PULSE
            states += self._looked(fleet, brood)
        if states:
            self._manager.tell(*states)

    def _looked(self, fleet: Fleet, brood: Brood) -> Iterator[str]:
        line = status_line(fleet, lambda: _busy(fleet, brood), self._refused)
        if line != self._line:
            self._line = line
            yield f"STATUS={line}"
        if is_bounded(fleet):
            yield f"EXTEND_TIMEOUT_USEC={int(AHEAD * 1e6)}"

    @property
    def next_at(self) -> float:
        """When `turn` is to be called at the latest, in monotonic seconds; infinity for never."""
        speaks = self._manager.is_there and not self._waits
        return min(self._look_at, self._pet_at) if speaks else inf


def status_line(fleet: Fleet, busy: Callable[[], int], refused: str = "") -> str:
    """Return the line that `systemctl status` shows.

    Args:
        fleet: what there is, and what should be.
        busy: returns how many threads have a request in hand.
        refused: why there was no reload, empty when there was.
    """
    serving = len(fleet.children.among(*SERVING))
    generation = f"generation {fleet.generation}"
    if fleet.mode is Mode.STARTING:
        return f"starting: {serving} of {fleet.target} workers ready, {generation}"
    if fleet.is_stopping:
        return f"stopping: {_workers(len(fleet.children))} left, {busy()} busy"
    if fleet.rollout is not None:
        new = sum(child.generation == fleet.generation for child in fleet.children.among(State.READY))
        return f"reloading: {new} of {fleet.target} workers of {generation} ready, {serving} serve"
    line = f"{_workers(serving)} ready, {busy()} busy, {generation}"
    if refused:
        line += f"; the last reload was refused: {refused}"
    elif fleet.rolled_back:
        line += f"; the last reload was rolled back: {fleet.rolled_back}"
    return line.partition("\n")[0]


def makes_progress(fleet: Fleet) -> bool:
    """Say whether a restart of everything would be no help: what is wrong can still be put right from here.

    It would when there are workers, and each has a stuck request or does not end though it is killed. One of
    those that boots, or that serves, is enough; so is none at all, because then one is started.

    Args:
        fleet: what there is.
    """
    workers = [child for child in fleet.children if child.state is not State.STOPPING]
    return not workers or any(
        child.state is State.BOOTING or (child.state in SERVING and child.stuck is None) for child in workers
    )


def is_bounded(fleet: Fleet) -> bool:
    """Say whether something is under way that the manager has a limit for, and a setting of ours another one.

    Then ours holds. Where ours is "for ever" the manager's holds.

    Args:
        fleet: what there is, and what should be.
    """
    if fleet.is_stopping:
        return bool(fleet.policy.graceful_timeout)
    boots = fleet.mode is Mode.STARTING or fleet.rollout is not None
    return boots and bool(fleet.policy.boot_timeout)


def _busy(fleet: Fleet, brood: Brood) -> int:
    serials = [child.serial for child in fleet.children.among(*SERVING, State.STOPPING)]
    return sum(worker.slot.in_hand()[0] for worker in brood.among(serials))


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"
