# SPDX-License-Identifier: MIT
"""The process that watches files, and says when one has changed.

It decides when saves that belong together are over. What is watched is `sources`, and what follows is the
arbiter's. It ends with the arbiter, whose death is an end of file.
"""

from __future__ import annotations

import logging
import os
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.autoreload.sources import MOST_FOLDERS, changes, look

if TYPE_CHECKING:
    import socket

    from prefork.autoreload.imported import Imported
    from prefork.autoreload.sources import Sources

STEP: Final = 25
"""Milliseconds without another file's change after which a save is over; also how often it looks whether the
arbiter is there. A save is told after one to two steps."""
LONGEST: Final = 400
"""Milliseconds after which changes are told though more of them come (a checkout of another branch)."""


class Kind(Enum):
    """What the arbiter is told."""

    CHANGED = "c"
    """Files have changed."""
    TROUBLE = "t"
    """Something is not watched."""


class Word(NamedTuple):
    """One line to the arbiter."""

    kind: Kind
    text: str

    def line(self) -> bytes:
        """Return it as it is sent."""
        text = " ".join(self.text.splitlines())
        return f"{self.kind.value}{text}\n".encode("ascii", "backslashreplace")


def words(lines: bytes) -> list[Word]:
    """Return what was sent.

    Args:
        lines: whole ones.
    """
    texts = [line.decode("ascii", "replace") for line in lines.splitlines()]
    return [Word(Kind(text[0]), text[1:]) for text in texts if text[:1] in ("c", "t")]


class Watcher:
    """Watches until the arbiter is gone.

    Args:
        sources: what to watch.
        imported: where workers say which files they have imported.
        end: a connected, non-blocking socket to the arbiter.
    """

    def __init__(self, sources: Sources, imported: Imported, end: socket.socket) -> None:
        self._sources = sources
        self._imported = imported
        self._end = end
        self._listed = imported.size
        self._view = look(sources, imported.read())
        self._has_more = False
        self._is_new = True

    def run(self) -> int:
        """Watch; return the exit status."""
        logging.disable()  # watchfiles says what we say better
        if self._view.is_cut:
            self._say(Kind.TROUBLE, f"only the first {MOST_FOLDERS} folders are watched as a whole")
        try:
            while not self._is_alone():
                self._watch()
        except (OSError, RuntimeError) as error:  # RuntimeError: watchfiles' own, when a limit is reached
            self._say(Kind.TROUBLE, str(error))
            return 1
        return 0

    def _watch(self) -> None:
        """Watch the folders that are known now, until there are others."""
        from watchfiles import watch  # 150 ms, in which nobody is kept waiting

        self._has_more, self._is_new = False, True
        try:
            for _ in watch(
                *self._view.folders,
                watch_filter=lambda _, path: self._matters(path),
                debounce=LONGEST,
                step=STEP,
                rust_timeout=0,
                stop_event=self,
                raise_interrupt=False,
                recursive=False,
                ignore_permission_denied=True,
            ):
                self._look()
                if self._has_more:
                    return
        except FileNotFoundError:
            self._look()  # a folder went before it was watched

    def is_set(self) -> bool:
        """Return whether to stop; watchfiles asks at each step, for the first time when all is watched."""
        if self._is_new:
            self._is_new = False
            self._look()  # what changed before
        listed = self._imported.size
        if listed != self._listed:
            self._listed = listed
            self._look()
        return self._has_more or self._is_alone()

    def _matters(self, path: str) -> bool:
        """Return whether it can be a change that counts, so that a log file in between costs little."""
        return path in self._view.files or self._sources.concern(path) or os.path.isdir(path)

    def _look(self) -> None:
        old, self._view = self._view, look(self._sources, self._imported.read())
        self._has_more = self._has_more or old.folders != self._view.folders
        changed = changes(old, self._view)
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            self._say(Kind.CHANGED, f"{self._shown(changed[0])}{more}")

    def _shown(self, path: str) -> str:
        """Return a path as the log shows it: short, and on one line."""
        for folder in self._sources.folders:
            path = path.removeprefix(f"{folder}{os.sep}")
        return path if path.isprintable() else ascii(path)

    def _say(self, kind: Kind, text: str) -> None:
        try:
            self._end.send(Word(kind, text).line())
        except OSError:
            return  # the arbiter is gone, or has stopped listening for thousands of saves

    def _is_alone(self) -> bool:
        try:
            return not self._end.recv(1)  # nothing is ever sent to us
        except BlockingIOError:
            return False
        except OSError:
            return True


def run(sources: Sources, imported: Imported, end: socket.socket) -> int:
    """Be the process that watches: see `Watcher` for the arguments.

    Returns:
        The exit status: 0 when the arbiter is gone, 1 when files cannot be watched, which was said.
    """
    return Watcher(sources, imported, end).run()
