# SPDX-License-Identifier: MIT
"""Gives the reception its turn whenever it wants one. Imported in the worker process only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from prefork.worker import Arrival, Reception


class Pump:
    """Turns the reception by an event loop.

    Args:
        loop: the event loop.
        reception: the reception.
        serve: called with each new connection.
        turned: called after each turn.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reception: Reception,
        serve: Callable[[Arrival], object],
        turned: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._reception = reception
        self._serve = serve
        self._turned = turned
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Turn it from now on."""
        self._loop.add_reader(self._reception.fd, self._turn)
        self._turn()

    def _turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            for arrival in self._reception.turn():
                self._serve(arrival)
        finally:
            self._timer = self._loop.call_later(self._reception.within, self._turn)
        self._turned()

    def stop(self) -> None:
        """Leave it alone."""
        self._loop.remove_reader(self._reception.fd)
        if self._timer is not None:
            self._timer.cancel()
