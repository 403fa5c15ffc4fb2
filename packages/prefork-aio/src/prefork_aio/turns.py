# SPDX-License-Identifier: MIT
"""How an asyncio event loop gives prefork its turns: when a descriptor is readable, and in time.

Knows nothing of what is done in a turn.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turning(Protocol):
    """What wants turns: `prefork.worker.Exchanges` or `Reception`."""

    @property
    def fd(self) -> int:
        """Readable when it wants one."""

    @property
    def within(self) -> float:
        """Seconds in which it wants the next one at the latest."""


class Turns:
    """The turns of one worker.

    Args:
        loop: the event loop.
        turn: what is done in each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Callable[[], object]) -> None:
        self._loop = loop
        self._turn = turn
        self._turning: Turning | None = None
        self._timer: asyncio.Handle | None = None
        self._when = 0.0
        # A turn may be asked for in the context of one request; it must not be handed on to others.
        self._context = copy_context()

    def begin(self, turning: Turning) -> None:
        """Give it turns from now on.

        Args:
            turning: what wants them.
        """
        self._turning = turning
        self._loop.add_reader(turning.fd, self.take)
        self.take()

    def take(self) -> None:
        """Take a turn now."""
        if self._turning is not None:
            self._turn()
        if self._turning is not None:  # else this was the last one
            self.soon(self._turning.within)

    def soon(self, seconds: float) -> None:
        """Take one in so many seconds at the latest. An earlier one puts it off."""
        when = self._loop.time() + seconds
        if self._timer is not None:
            # One that is too early costs less than one that is made for each turn.
            if self._when <= when:
                return
            self._timer.cancel()
        self._when = when
        self._timer = self._loop.call_at(when, self._due, context=self._context)

    def _due(self) -> None:
        self._timer = None
        self.take()

    def end(self) -> None:
        """Give no more."""
        if self._turning is not None:
            self._loop.remove_reader(self._turning.fd)
            self._turning = None
        if self._timer is not None:
            self._timer.cancel()
