# SPDX-License-Identifier: MIT
"""What hooks are given as `server` and `worker`, and how hooks of the arbiter are run.

It decides which names hooks can rely on: gunicorn's, where the meaning is the same. The
arbiter keeps them true; hooks may read them only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from prefork.hooks import Hooks
    from prefork.process.scoreboard import Slot
    from prefork.settings import Settings


@dataclass(slots=True)
class WorkerFacade:
    """One worker, as hooks see it."""

    age: int
    """Grows with every worker started."""
    cfg: Settings
    log: logging.Logger
    ppid: int
    slot: Slot
    pid: int = 0
    """0 before the fork."""
    booted: bool = False
    """Whether the application is loaded; known in the worker only."""
    aborted: bool = False
    """Whether it was sent SIGABRT."""
    alive: bool = True

    @property
    def timeout(self) -> float:
        """Seconds without progress after which the worker is killed."""
        return self.cfg.timeout

    @property
    def nr(self) -> int:
        """How many requests the worker has finished."""
        return self.slot.requests


@dataclass(slots=True)
class ServerFacade:
    """The arbiter, as hooks see it."""

    cfg: Settings
    log: logging.Logger
    pid: int
    proc_name: str
    num_workers: int = 0
    """How many workers there should be."""
    address: list[Any] = field(default_factory=list)
    """What each listener is bound to: (host, port, …) or a path."""
    WORKERS: dict[int, WorkerFacade] = field(default_factory=dict)
    """The workers by pid."""


def run_hook(hooks: Hooks, name: str, log: logging.Logger, *arguments: object) -> None:
    """Run a hook of a running server, if there is one: what it raises is logged, and nothing stops.

    Args:
        hooks: all hooks of a configuration.
        name: which one.
        log: where an error goes.
        arguments: what it is given.
    """
    hook = getattr(hooks, name)
    if hook is None:
        return
    try:
        hook(*arguments)
    except (Exception, SystemExit):
        log.exception("error in the hook %s", name)
