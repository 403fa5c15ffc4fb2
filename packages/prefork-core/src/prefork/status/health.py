# SPDX-License-Identifier: MIT
"""Whether a server is alive, and whether it is ready, in the sense of who probes it.

It decides what makes the difference between 200 and 503, and how the reason is worded. Not alive means:
restart it, nothing else helps. Not ready means: send it no requests now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.control.report import STATES

if TYPE_CHECKING:
    from prefork.control.report import Snapshot

LATE: Final = 5.0
"""Seconds without a turn of the arbiter after which it counts as hung. It turns once a second at least; what
it does in one turn, such as reading a configuration file, may take a while."""

_STOPS: Final = frozenset({"delaying", "draining", "quitting", "ended"})


class Health(NamedTuple):
    """An answer to a probe."""

    good: bool
    why: str
    """In a few words."""


def live(idle: float) -> Health:
    """Say whether the arbiter can still do its work: replace workers, reload, stop.

    Stuck workers do not count. The arbiter deals with them, and a restart would end what others can finish.

    Args:
        idle: seconds since it turned for the last time.
    """
    if idle > LATE:
        return Health(good=False, why=f"the arbiter has not moved for {idle:.0f} s")
    return Health(good=True, why="live")


def ready(snapshot: Snapshot) -> Health:
    """Say whether the server can take requests, and wants more of them.

    Args:
        snapshot: the facts.
    """
    if snapshot.mode in _STOPS:
        return Health(good=False, why="stopping")
    serving = snapshot.count("ready") + snapshot.count("retiring")
    if serving:
        return Health(good=True, why="ready")
    others = ", ".join(f"{count} {state}" for state in STATES if (count := snapshot.count(state)))
    if snapshot.mode == "starting":
        return Health(good=False, why=f"starting: no worker is ready yet{_listed(others)}")
    if not snapshot.target:
        return Health(good=False, why="parked: there are to be no workers")
    return Health(good=False, why=f"no worker is ready{_listed(others)}")


def _listed(others: str) -> str:
    return f" ({others})" if others else ""
