# SPDX-License-Identifier: MIT
"""Greenlets for tests, made of threads: one of them runs at a time, and gives way only where it waits."""

from __future__ import annotations

import sys
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from prefork.net.stream import block

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType


class Baton:
    """The thread that makes this, as a greenlet."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    @property
    def gr_frame(self) -> FrameType | None:
        """Where it is, None when it asks itself."""
        return None if self._thread == threading.get_ident() else sys._current_frames().get(self._thread)


class Batons:
    """A library of greenlets; see `prefork.worker.Greenlets`. Whoever has the baton runs."""

    def __init__(self) -> None:
        self._baton = threading.Lock()
        self._deferred: list[Callable[[], object]] = []

    def enter(self) -> None:
        """Become the main greenlet."""
        self._baton.acquire()

    def defer(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call a function in a greenlet of its own, as soon as the calling one waits."""
        self._deferred.append(call)
        return self._deferred.clear

    def _live(self, call: Callable[[], object]) -> None:
        with self._baton:
            call()

    def pause(self) -> None:
        """Let others run."""
        self.give_way(lambda: True)

    def waits_for(self, fd: int) -> Callable[[float], object]:
        """Return a way to wait for a descriptor again and again."""
        return lambda timeout: self.wait(fd, timeout, to_write=False)

    def wait(self, fd: int, timeout: float, *, to_write: bool) -> bool:
        """Let others run until a descriptor is ready."""
        return self.give_way(
            lambda: block(fd, inf if timeout == inf else monotonic() + timeout, to_write=to_write)
        )

    def give_way(self, waits: Callable[[], bool]) -> bool:
        """Let others run while a function waits, as a library does that was made cooperative."""
        while self._deferred:
            threading.Thread(target=self._live, args=(self._deferred.pop(0),), daemon=True).start()
        self._baton.release()
        try:
            return waits()
        finally:
            self._baton.acquire()

    def current(self) -> Baton:
        """Return the calling greenlet."""
        return Baton()

    def offered(self, sock: socket.socket) -> dict[str, object]:
        """Return more entries for an environ."""
        return {"baton.socket": sock}
