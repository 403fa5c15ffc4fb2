# SPDX-License-Identifier: MIT
"""A real server process under a worker class, also as a daemon, and with processes that are no workers."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from prefork.testing import processes
from prefork.testing import server as kit
from support import workers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from signal import Signals

_OF_ITS_OWN: Final = 2
"""Sockets of an idle worker: the listener, and its end of the channel to the arbiter."""


class Server(kit.Server):
    """A running `python -m prefork`, for a `with` statement; see `prefork.testing.Server`.

    Args:
        folder: it runs there; files of applications and configurations belong there.
        arguments: the command line, split as a shell would.
        environ: variables to add to a clean environment and those of `support.workers`.
        more: keywords of `prefork.testing.Server`.
    """

    def __init__(
        self,
        folder: Path,
        arguments: str = "app:app",
        *,
        environ: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        variables = {**workers.variables(), **(environ or {})}
        super().__init__(folder, shlex.split(arguments), environ=variables, **more)
        self._daemon: int | None = None

    @property
    def pid(self) -> int:
        """The arbiter: the process that was started, or the daemon that it became."""
        return self._daemon or self.started

    @property
    def is_running(self) -> bool:
        """Whether the arbiter runs."""
        return super().is_running if self._daemon is None else processes.is_running(self._daemon)

    def follow(self, daemon: int) -> None:
        """Take another process for the arbiter from now on."""
        self._daemon = daemon

    def signal(self, number: Signals, *, to_all: bool = False) -> None:
        """Send the arbiter a signal, or all processes of the server."""
        if self._daemon is not None:  # with which code it has ended nobody knows
            assert self.is_running, f"arbiter {self._daemon}, which the test follows, has ended"
        super().signal(number, to_all=to_all)

    def templates(self) -> list[int]:
        """Return the pids of the templates that run."""
        return self._children("template")

    def statuses(self) -> list[int]:
        """Return the pids of the status processes that run."""
        return self._children("status")

    def _children(self, kind: str) -> list[int]:
        running = [child.pid for child in processes.children(self.pid) if not child.is_zombie]
        return [pid for pid in running if processes.title(pid).startswith(f"prefork: {kind}")]

    def connections(self) -> int:
        """Return how many connections the workers have open, of a server with one address."""
        workers = self.workers()
        sockets = sum(name.startswith("socket:") for pid in workers for name in processes.descriptors(pid))
        return sockets - _OF_ITS_OWN * len(workers)
