# SPDX-License-Identifier: MIT
"""How several tasks wait for one thing to happen. Decides that the end of one wait ends no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Bell:
    """What tasks wait for.

    Args:
        loop: the running event loop.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait until it is rung."""
        # A future for each: one that two tasks had would be cancelled for both with the first of them.
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            self._waiting.remove(waiter)

    def ring(self) -> None:
        """Let all who wait go on."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
