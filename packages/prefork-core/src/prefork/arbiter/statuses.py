# SPDX-License-Identifier: MIT
"""The arbiter's living status processes: how one is forked, told, listened to and forgotten.

It decides what one is given, and how it learns what only the arbiter knows: by a page of shared memory, which
is written anew on each turn of the arbiter's loop. When one is started or ended is not known here.
"""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.arbiter.brood import Born
from prefork.process.bulletin import Bulletin
from prefork.supervisor.messages import StatusEnded, StatusFailed, StatusForked, StatusSilent

if TYPE_CHECKING:
    import logging
    import selectors
    from collections.abc import Callable, Iterable, Sequence

    from prefork.arbiter.brood import Brood
    from prefork.arbiter.generation import Generation
    from prefork.control.register import Register
    from prefork.net.listener import Listener
    from prefork.process.kernel import Kernel
    from prefork.process.scoreboard import Scoreboard
    from prefork.supervisor.messages import Death, Event

PULSE: Final = 1.0
"""Seconds between two signs of life, at most."""
SILENT: Final = 5.0
"""Seconds without one from the other side after which it counts as hung."""

_READ: Final = 1
"""selectors.EVENT_READ."""
_MOST: Final = 65536


@dataclass(slots=True)
class StatusProcess:
    """One living status process."""

    number: int
    """Of its generation."""
    pid: int
    end: socket.socket
    bulletin: Bulletin
    told: bool = False
    """Whether it is to end. What happens from then on is another's to tell: another arbiter's, perhaps."""


class Statuses:
    """The living status processes of one arbiter: one, or two while one follows the other.

    Args:
        kernel: kills.
        brood: forks.
        board: what the workers show.
        selector: shared with the loop; our ends are registered with their process.
        log: the error log.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        brood: Brood,
        board: Scoreboard,
        selector: selectors.BaseSelector,
        log: logging.Logger,
    ) -> None:
        self._kernel = kernel
        self._brood = brood
        self._board = board
        self._selector = selector
        self._log = log
        self._living: dict[int, StatusProcess] = {}
        self._kept: Sequence[Listener] = ()
        self._next_at = 0.0
        self._judged_at = 0.0

    def start(self, generation: Generation, others: Iterable[Generation], register: Register) -> Event:
        """Fork one.

        Args:
            generation: whose status listeners it has.
            others: all generations that have something open.
            register: what the arbiter knows.

        Returns:
            `StatusForked` or `StatusFailed`.

        Raises:
            Born: this is the process.
        """
        # Imported here: few servers have one. Before the fork, so that the memory is shared.
        from prefork.control.register import render
        from prefork.status import life

        now = self._kernel.now()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            return StatusFailed(generation.number, str(error.strerror))
        bulletin = None
        try:
            bulletin = Bulletin()
            bulletin.turn(now)
            bulletin.write(render(register), now)
            self._kept = generation.status_listeners
            pid = self._brood.fork_aide(ours, others)
        except OSError as error:
            for end in (ours, theirs, bulletin):
                if end is not None:
                    end.close()
            return StatusFailed(generation.number, str(error.strerror))
        finally:
            self._kept = ()
        if pid == 0:
            raise Born(
                partial(
                    life.run,
                    settings=generation.settings,
                    name=generation.name,
                    listeners=generation.status_listeners,
                    end=theirs,
                    bulletin=bulletin,
                    board=self._board,
                )
            )
        theirs.close()
        ours.setblocking(False)
        self._living[generation.number] = found = StatusProcess(generation.number, pid, ours, bulletin)
        self._selector.register(ours, _READ, found)
        self._next_at = now
        return StatusForked(generation.number, pid)

    def stop(self, number: int) -> None:
        """Tell the one of a generation to end."""
        from prefork.status.life import Word

        found = self._living.get(number)
        if found is not None:
            found.told = True
            try:
                found.end.send(Word.END.value)
            except OSError:
                return  # it is dead already

    def kill(self, number: int) -> None:
        """End the one of a generation by force."""
        found = self._living.get(number)
        if found is not None:
            self._kernel.kill(found.pid, signal.SIGKILL)

    def listen(self, found: StatusProcess) -> None:
        """Take in what one says: nothing, until it fails."""
        try:
            text = found.end.recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if text:
            self._log.error("error in the status process %d\n%s", found.pid, text.decode().rstrip())
        else:
            self._deafen(found)

    def ended(self, pid: int, death: Death) -> Event | None:
        """Forget the one of a pid that has been reaped; None for a stranger's.

        Args:
            pid: of the child.
            death: how it ended.
        """
        for found in list(self._living.values()):
            if found.pid == pid:
                if found.end.fileno() in self._selector.get_map():
                    self.listen(found)  # its last words
                self._deafen(found)
                found.end.close()
                found.bulletin.close()
                del self._living[found.number]
                return StatusEnded(found.number, death)
        return None

    def _deafen(self, found: StatusProcess) -> None:
        if found.end.fileno() in self._selector.get_map():
            self._selector.unregister(found.end)

    # ------------------------------------------------------------ what they are told, and show

    def publish(self, register: Callable[[], Register]) -> None:
        """Let them know what the arbiter knows; to be called on each turn of its loop.

        Args:
            register: returns that.
        """
        if not self._living:
            return
        from prefork.control.register import render

        now = self._kernel.now()
        text = render(register())
        for found in self._living.values():
            if not found.told:
                found.bulletin.write(text, now)
        self._next_at = now + PULSE

    def wake(self, planned: float, now: float) -> None:
        """Be lenient if the arbiter itself has been stopped: then all were, and these wake up, too.

        Args:
            planned: when it wanted to wake up.
            now: when it did.
        """
        if now - planned > PULSE:
            self._judged_at = now + PULSE

    def silent(self) -> list[Event]:
        """Return an event for each that gives no sign of life any more."""
        now = self._kernel.now()
        if now < self._judged_at:
            return []
        return [
            StatusSilent(found.number)
            for found in self._living.values()
            if found.bulletin.read_at < now - SILENT
        ]

    @property
    def next_at(self) -> float:
        """When the loop has to turn at the latest, in monotonic seconds; infinity for never."""
        return self._next_at if self._living else inf

    def let_go(self, generations: Iterable[Generation]) -> None:
        """Close in a child what it has nothing to do with.

        Args:
            generations: all that have something open.
        """
        for found in self._living.values():
            found.end.close()
            found.bulletin.close()
        for generation in generations:
            for listener in generation.status_listeners:
                if listener not in self._kept:
                    listener.sock.close()
