# SPDX-License-Identifier: MIT
"""Processes that a test stops or kills, and which connections they had in that moment.

A process is stopped before it is looked at, so it accepts nothing in between: what it has then is all
that can be lost with it. Knows nothing of requests; a connection is the port of its client's end.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, Final

from prefork.testing import processes
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from prefork.testing.load import Loss

NOTICED: Final = 30.0
"""Seconds within which a client sees that its connection is gone. Later its port may be another's."""


@dataclass(slots=True)
class Seizure:
    """A process that was stopped."""

    pid: int
    at: float
    """Monotonic seconds."""
    ports: frozenset[int]
    """Of the clients whose connections it had."""
    died: bool = False
    """Whether it did not go on."""


class Custody:
    """All processes that one test has stopped or killed."""

    def __init__(self) -> None:
        self._seizures: list[Seizure] = []

    @property
    def killed(self) -> list[int]:
        """The pids of those that did not go on, in the order in which they were stopped."""
        return [seizure.pid for seizure in self._seizures if seizure.died]

    def stop(self, pid: int) -> Seizure:
        """Stop a process, and note what it has."""
        seizure = Seizure(pid, time.monotonic(), frozenset())
        try:
            os.kill(pid, SIGSTOP)
            until(lambda: processes.is_stopped(pid), f"{pid} to stand still")
            seizure.at = time.monotonic()
            seizure.ports = frozenset(client_ports(pid))
        except OSError:
            pass  # it had ended already, or just then: /proc has several ways to say so
        self._seizures.append(seizure)
        return seizure

    def kill(self, pid: int) -> Seizure:
        """Stop a process, note what it has, and kill it."""
        seizure = self.stop(pid)
        seizure.died = True
        with contextlib.suppress(ProcessLookupError):
            if processes.is_running(pid):
                os.kill(pid, SIGKILL)
        return seizure

    def let_go_on(self, seizure: Seizure) -> bool:
        """Let a process go on that was stopped; return whether it was still there."""
        if not seizure.died and processes.is_running(seizure.pid):
            with contextlib.suppress(ProcessLookupError):  # its arbiter may kill it just now
                os.kill(seizure.pid, SIGCONT)
                return True
        seizure.died = True
        return False

    def explains(self, loss: Loss) -> Seizure | None:
        """Return the process whose end explains why a request was lost, None when there is none."""
        for seizure in self._seizures:
            in_time = seizure.at <= loss.at <= seizure.at + NOTICED
            if seizure.died and in_time and loss.port in seizure.ports:
                return seizure
        return None


def client_ports(pid: int) -> set[int]:
    """Return the ports of those who are connected to a process by IPv4.

    Raises:
        OSError: there is no such process.
    """
    inodes = {name[8:-1] for name in processes.descriptors(pid) if name.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].partition(":")[2], 16) for row in rows if row[9] in inodes} - {0}
