# SPDX-License-Identifier: MIT
"""The end of a worker: what an order to stop begins, how long idle clients may still ask, when all is over.

Knows neither how a worker waits for its connections nor what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prefork.worker import StopReason
from prefork.workers.acceptor import NO

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from prefork.net.poller import Poll
    from prefork.workers.acceptor import Acceptor
    from prefork.workers.context import WorkerContext

Conn = TypeVar("Conn")

LAST_CALL: Final = 1.25
"""Seconds, since a connection became idle or was accepted, for which it is kept when its worker stops.

Who asks again and again cannot know of the stop: a round trip and a pause of its own lie between its last
answer and its next request. This is enough for both across an ocean, with a packet lost on the way, and for
who asks once a second; not a whole second, because the close would meet just those each time."""


class Ending(Generic[Conn]):
    """The end of a worker.

    Args:
        ctx: the worker's context.
        acceptor: the listeners.
        poller: where the stop descriptor is watched.
        connections: those that are open, at any time.
        wind_down: called when the end begins, unless everything is to be dropped.
        drop: closes a connection, and returns whether it had a request.
    """

    def __init__(
        self,
        ctx: WorkerContext,
        acceptor: Acceptor,
        poller: Poll,
        connections: Collection[Conn],
        *,
        wind_down: Callable[[], object],
        drop: Callable[[Conn], bool],
    ) -> None:
        self._ctx = ctx
        self._acceptor = acceptor
        self._poller = poller
        self._open = connections
        self._wind_down = wind_down
        self._drop = drop

    def begin(self) -> bool:
        """Begin the stop that was ordered; return False if there is no order after all."""
        reason = self._ctx.stopping
        if reason is None:
            return False
        # End of file would stay readable for ever. A stricter order is looked for by `is_over`.
        self._poller.forget(self._ctx.stop_fd)
        if reason is StopReason.QUICK:
            return True
        self._wind_down()
        if reason is StopReason.DRAIN:
            self._acceptor.drain()
        else:
            self._acceptor.end()
        return True

    def is_over(self) -> bool:
        """Return whether a worker that stops has drained, or is to go as it is."""
        if self._ctx.stopping is StopReason.QUICK or not self._ctx.time_left():
            return True
        return self._acceptor.state is NO and not self._open

    def close_all(self) -> None:
        """Close what is open still."""
        self._acceptor.end()
        left = sum(map(self._drop, list(self._open)))
        if left:
            self._ctx.log.warning("stopped with unfinished requests: %d", left)
        self._poller.close()
