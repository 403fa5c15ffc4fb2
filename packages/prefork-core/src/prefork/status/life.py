# SPDX-License-Identifier: MIT
"""The life of a status process, from the fork to its end.

Decides what it keeps and gives up, which facts it has, and when it ends: on the arbiter's word, or with the
arbiter. Knows nothing of why it is started or ended.
"""

from __future__ import annotations

import gc
import signal
import time
import traceback
from enum import Enum
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.control import register
from prefork.errors import ExitCode
from prefork.process import identity
from prefork.status.answers import Facts, answer
from prefork.status.look import snapshot
from prefork.status.server import StatusServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from prefork.control.report import Snapshot, Totals
    from prefork.net.listener import Listener
    from prefork.process.bulletin import Bulletin
    from prefork.process.scoreboard import Scoreboard
    from prefork.settings import Settings

STEP: Final = 1.0
"""Seconds between two signs of life, at most."""
FROZEN: Final = 2.0
"""Seconds between two of its own turns after which nobody has turned: a stopped container, swap."""

_IGNORED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)
"""What is sent to all processes at once, and meant for the arbiter. This one is asked while the server stops,
too."""


class Word(Enum):
    """What the arbiter says. No word at all (end of file) means that it is dead."""

    END = b"e"


class Source:
    """Where the facts are from.

    Args:
        bulletin: what the arbiter leaves.
        board: what the workers show.
        now: the monotonic clock.
    """

    def __init__(
        self, bulletin: Bulletin, board: Scoreboard, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._bulletin = bulletin
        self._board = board
        self._now = now
        self._totals: Totals | None = None
        self._turned_at = now()
        self._woken_at = -inf

    def turn(self) -> None:
        """Note that the process turns."""
        now = self._now()
        if now - self._turned_at > FROZEN:
            self._woken_at = now
        self._turned_at = now
        self._bulletin.turn(now)

    def facts(self) -> Facts:
        """Look at the server."""
        now = self._now()
        # After a pause of its own it cannot blame the arbiter, which may not have woken up yet.
        idle = now - max(self._bulletin.written_at, self._woken_at)
        return Facts(idle, self._snapshot(now))

    def _snapshot(self, now: float) -> Snapshot | None:
        text = self._bulletin.read()
        if not text:
            return None
        found = snapshot(register.parse(text), self._board, now)
        # A worker that has just ended is in neither sum for a moment.
        self._totals = found.totals if self._totals is None else found.totals.at_least(self._totals)
        return found._replace(totals=self._totals)


def run(
    *,
    settings: Settings,
    name: str,
    listeners: Sequence[Listener],
    end: socket.socket,
    bulletin: Bulletin,
    board: Scoreboard,
) -> int:
    """Answer probes until the arbiter says so, or is gone.

    Args:
        settings: the resolved settings.
        name: of the server.
        listeners: where probes come from.
        end: connected to the arbiter, non-blocking.
        bulletin: what the arbiter leaves.
        board: what the workers show.

    Returns:
        The exit status.
    """
    try:
        # What comes from the arbiter is no garbage, and looking for some would copy each of its pages.
        gc.freeze()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        identity.set_title("status", name)
        identity.drop_privileges(settings.user, settings.group, initgroups=settings.initgroups)
        source = Source(bulletin, board)
        answers = partial(answer, facts=source.facts)
        server = StatusServer(listeners, answers, settings.server_header, end.fileno())
        source.turn()
        while server.turn(STEP):
            source.turn()
        server.close()
    except Exception:  # noqa: BLE001 (the arbiter has a log, and starts another one)
        _complain(end, traceback.format_exc())
        return ExitCode.CRASH
    if not _is_told(end):
        for listener in listeners:
            listener.unlink()  # nobody else is left to do it
    return ExitCode.OK


def _is_told(end: socket.socket) -> bool:
    try:
        return end.recv(1) == Word.END.value
    except OSError:
        return False


def _complain(end: socket.socket, text: str) -> None:
    try:
        end.send(text.encode("utf-8", "replace"))
    except OSError:
        return  # the arbiter is dead, too
