# SPDX-License-Identifier: MIT
"""The end of the server: told once, twice or in a hurry, and who may finish what.

It decides when workers are told to stop because the server stops. It counts nobody's requests: a
worker ends when it has nothing left.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from prefork.errors import ExitCode
from prefork.supervisor.children import MEMBERS, SERVING, State
from prefork.supervisor.fleet import QUICK_GRACE, Mode, seconds
from prefork.supervisor.messages import Exit, Level, Order, Stopping, StopQueueing

if TYPE_CHECKING:
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Stop

ECHO: Final = 1.0
"""Seconds in which a second TERM is the first one's echo: timeout(1), shells and supervisors send it to the
process and then to its group, and that must not cut requests off."""

ENDING: Final = frozenset({Mode.DRAINING, Mode.QUITTING})


class Ending:
    """The way of a server from the first order to stop to its exit.

    Args:
        fleet: what ends.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stopped_at = inf
        self.drains_at = inf
        """When drain_delay is over."""
        self._exit_code = int(ExitCode.OK)

    def stop(self, event: Stop) -> None:
        """Do as the operator says."""
        fleet = self._fleet
        if not event.quick and fleet.now < self._stopped_at + ECHO < inf:
            return
        if fleet.is_stopping or event.quick:
            self._quit()
            return
        self._stopped_at = fleet.now
        self._announce(fleet.graceful_timeout)
        for child in fleet.children.among(State.BOOTING):
            fleet.dismiss(child, Order.DRAIN)
        if fleet.policy.drain_delay > 0 and fleet.children.among(*SERVING):
            fleet.mode = Mode.DELAYING
            self.drains_at = fleet.now + fleet.policy.drain_delay
            fleet.say(Level.INFO, f"stopping in {seconds(fleet.policy.drain_delay)} (drain_delay)")
        else:
            self._drain()

    def give_up(self, code: int | None) -> None:
        """End a server whose first workers cannot boot.

        Args:
            code: with which one has ended; None when it has not.
        """
        self._exit_code = code if code in (ExitCode.BOOT, ExitCode.APP) else int(ExitCode.BOOT)
        text = f"the first worker could not boot: giving up (exit code {self._exit_code})"
        self._fleet.say(Level.ERROR, text)
        self._quit()

    def go_on(self) -> None:
        """Begin to drain when the delay is over."""
        fleet = self._fleet
        if fleet.mode is Mode.DELAYING and (self.drains_at <= fleet.now or not len(fleet.children)):
            self._drain()

    def finish(self) -> None:
        """Leave when nobody is left."""
        fleet = self._fleet
        if fleet.kinship.awaits_end:
            return
        if fleet.mode in ENDING and fleet.is_empty and not len(fleet.statuses):
            fleet.mode = Mode.ENDED
            fleet.do(Exit(self._exit_code))

    def _announce(self, grace: float) -> None:
        """Say that the server stops, and what of it is given up.

        Args:
            grace: seconds in which requests may be finished, 0 to drop them.
        """
        fleet = self._fleet
        if fleet.rollout is not None:
            fleet.say(Level.WARNING, f"reload to generation {fleet.generation} given up: stopping")
            fleet.rollout = None
        if not fleet.is_stopping:
            fleet.do(Stopping())
        fleet.kinship.stop(fleet.now, grace)

    def _say_what_is_left(self, task: str) -> None:
        """Say how many workers have yet to end, and by when."""
        count = len(self._fleet.children)
        self._fleet.say(Level.INFO, f"stopping: {count} worker{'' if count == 1 else 's'} to {task}")

    def _drain(self) -> None:
        fleet = self._fleet
        fleet.mode = Mode.DRAINING
        self.drains_at = inf
        self._say_what_is_left("finish what is in hand" + _within(fleet.graceful_timeout))
        fleet.do(StopQueueing())
        for child in fleet.children.among(State.STOPPING):  # told by an earlier policy, perhaps without limit
            child.deadline = min(child.deadline, fleet.now + fleet.graceful_timeout)
        for child in fleet.children.among(*MEMBERS, *SERVING):
            fleet.dismiss(child, Order.DRAIN)

    def _quit(self) -> None:
        fleet = self._fleet
        self._announce(0.0)
        fleet.mode = Mode.QUITTING
        self.drains_at = inf
        self._say_what_is_left("drop everything" + _within(QUICK_GRACE))
        for child in fleet.children.among(*MEMBERS, *SERVING, State.STOPPING):
            fleet.dismiss(child, Order.QUICK)


def _within(count: float) -> str:
    return "" if count == inf else f", within {seconds(count)}"
