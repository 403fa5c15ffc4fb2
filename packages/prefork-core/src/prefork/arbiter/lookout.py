# SPDX-License-Identifier: MIT
"""The process that watches files for `reload`, as the arbiter has it: started, listened to, started again.

It decides what is watched for a generation. What a change is, is `prefork.autoreload`; what follows from one
is the loop's. There is such a process only while a generation with `reload` is the present one.
"""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.arbiter.brood import Born
from prefork.autoreload import watcher
from prefork.autoreload.sources import Sources
from prefork.autoreload.watcher import Kind
from prefork.process import identity
from prefork.supervisor.backoff import Backoff

if TYPE_CHECKING:
    import logging
    import selectors
    from collections.abc import Iterable

    from prefork.arbiter.brood import Brood
    from prefork.arbiter.generation import Generation
    from prefork.process.kernel import Kernel
    from prefork.supervisor.messages import Death

_READ: Final = 1
"""selectors.EVENT_READ."""
_MOST: Final = 65536


class Lookout:
    """At most one process that watches files.

    Args:
        kernel: kills it.
        brood: forks it.
        selector: shared with the loop; the channel is registered with this object.
        log: the error log.
    """

    def __init__(
        self, kernel: Kernel, brood: Brood, selector: selectors.BaseSelector, log: logging.Logger
    ) -> None:
        self._kernel = kernel
        self._brood = brood
        self._selector = selector
        self._log = log
        self._generation: Generation | None = None
        self._sources: Sources | None = None
        self._end: socket.socket | None = None
        self._pid = 0
        self._born = 0.0
        self._dismissed: set[int] = set()
        self._backoff = Backoff()
        self._rest = b""

    def keep(self, generation: Generation, others: Iterable[Generation], now: float) -> None:
        """See that what belongs to a generation is watched, and nothing else.

        Args:
            generation: the present one.
            others: all generations that have something open.
            now: monotonic seconds.

        Raises:
            Born: this is the process that watches.
        """
        if generation is not self._generation:
            self._generation = generation
            self._aim_at(sources_of(generation))
        if self._sources is not None and not self._pid and now >= self._backoff.next_at:
            self._start(generation, self._sources, others, now)

    def _aim_at(self, sources: Sources | None) -> None:
        if sources == self._sources:
            return
        self._dismiss()
        self._sources = sources
        self._backoff = Backoff()
        if sources is not None:
            self._log.info("reload: watching %s for changes", ", ".join(sources.folders))

    def _start(
        self, generation: Generation, sources: Sources, others: Iterable[Generation], now: float
    ) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._not_now(error, now)
            return
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            pid = self._brood.fork_aide(ours, others)
        except OSError as error:
            ours.close()
            theirs.close()
            self._not_now(error, now)
            return
        if pid == 0:
            raise Born(partial(_live, generation, sources, theirs))
        theirs.close()
        self._pid, self._end, self._born, self._rest = pid, ours, now, b""
        self._selector.register(ours, _READ, self)

    def _not_now(self, error: OSError, now: float) -> None:
        self._backoff.failed(now, now)
        self._log.warning("reload: files cannot be watched now: %s", error.strerror)

    def has_changes(self) -> bool:
        """Take in what the process says; return whether files have changed."""
        changed = False
        for kind, text in watcher.words(self._receive()):
            if kind is Kind.CHANGED:
                self._log.info("reload: %s changed", text)
                changed = True
            else:
                self._log.warning("reload: %s", text)
        return changed

    def _receive(self) -> bytes:
        """Return whole lines; at the end of file the channel is closed."""
        assert self._end is not None
        try:
            received = self._end.recv(_MOST)
        except BlockingIOError:
            return b""
        except OSError:
            received = b""
        if not received:
            self._hang_up()
        lines, newline, self._rest = (self._rest + received).rpartition(b"\n")
        return lines + newline

    def ended(self, pid: int, death: Death, now: float) -> bool:
        """Note that a child was reaped; return whether it was ours.

        Args:
            pid: of the child.
            death: how it ended.
            now: monotonic seconds.
        """
        if pid in self._dismissed:
            self._dismissed.remove(pid)
            return True
        if pid != self._pid:
            return False
        self._hang_up()
        self._pid = 0
        self._backoff.failed(self._born, now)
        wait = self._backoff.next_at - now
        self._log.warning("reload: the process that watches files ended (%s): another in %.1f s", death, wait)
        return True

    def next_start(self) -> float:
        """Return when to call `keep` at the latest, infinity for never."""
        waits = self._sources is not None and not self._pid
        return self._backoff.next_at if waits else inf

    def stop(self) -> None:
        """Watch nothing any more."""
        self._sources = self._generation = None
        self._dismiss()

    def _dismiss(self) -> None:
        if self._pid:
            self._hang_up()
            self._kernel.kill(self._pid, signal.SIGKILL)  # it has nothing to finish
            self._dismissed.add(self._pid)
            self._pid = 0

    def end(self) -> None:
        """Stop, and wait for the end of every process that there was."""
        self.stop()
        for pid in self._dismissed:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue
        self._dismissed.clear()

    def _hang_up(self) -> None:
        if self._end is not None:
            self._selector.unregister(self._end)
            self.close()

    def close(self) -> None:
        """Close the channel, in a child that has nothing to do with it."""
        if self._end is not None:
            self._end.close()
            self._end = None


def sources_of(generation: Generation) -> Sources | None:
    """Return what is watched for a generation, None for nothing.

    Args:
        generation: its folder and settings count.
    """
    settings = generation.settings
    if not settings.reload:
        return None
    folders = dict.fromkeys(os.path.join(generation.folder, path) for path in ("", *settings.pythonpath))
    extra = [os.path.join(generation.folder, path) for path in settings.reload_extra_files]
    return Sources(tuple(map(os.path.normpath, folders)), tuple(map(os.path.normpath, extra)))


def _live(generation: Generation, sources: Sources, end: socket.socket) -> int:
    identity.set_title("watcher", generation.name)
    assert generation.imported is not None
    return watcher.run(sources, generation.imported, end)
