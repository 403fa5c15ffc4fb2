# SPDX-License-Identifier: MIT
"""How busy the server is, read off the scoreboard and the queues of the listeners.

It decides what counts as a request that a thread is needed for. How many workers follow from that is
`supervisor.scaling`.
"""

from __future__ import annotations

import select
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.net.tcpinfo import waiting_connections
from prefork.supervisor.messages import Sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork.net.listener import Listener
    from prefork.process.scoreboard import Slot

INTERVAL: Final = 0.25
"""Seconds from one sample to the next. Three of them make a decision, and two seconds after the load
has come the workers for it must be ready."""


class Gauge:
    """Takes samples at intervals, while somebody wants them."""

    def __init__(self) -> None:
        self.next_at = inf
        """When `look` is to be called again."""

    def rest(self) -> None:
        """Take no samples until `look` is called."""
        self.next_at = inf

    def look(self, slots: Sequence[Slot], listeners: Sequence[Listener], now: float) -> Sampled | None:
        """Take a sample, if it is time.

        Args:
            slots: of the workers that serve.
            listeners: where new connections wait.
            now: monotonic seconds.
        """
        if now < self.next_at < inf:
            return None
        self.next_at = now + INTERVAL
        return sample(slots, listeners)


def sample(slots: Sequence[Slot], listeners: Sequence[Listener]) -> Sampled:
    """Return the load at this moment.

    Args:
        slots: of the workers that serve.
        listeners: where new connections wait.
    """
    threads = sum(max(slot.threads, 1) for slot in slots)
    counts = [waiting_connections(listener.sock) for listener in listeners]
    # Of a Unix socket the kernel only says whether anybody waits: as many are assumed as there are threads.
    waiting = [
        threads * _has_queue(listener) if count is None else count
        for listener, count in zip(listeners, counts, strict=True)
    ]
    requests = sum(map(_requests, slots))
    return Sampled(len(slots), threads, requests, sum(waiting), is_counted=None not in counts)


def _requests(slot: Slot) -> int:
    """Count the requests that a worker has in hand, those without a thread included.

    Those are on connections that are open and do not wait for their client. A worker with a free thread has
    none, and its figures may be a second old.
    """
    busy = slot.busy
    if busy < max(slot.threads, 1):
        return busy
    return max(busy, slot.connections - slot.idle)


def _has_queue(listener: Listener) -> bool:
    poll = select.poll()
    poll.register(listener.sock, select.POLLIN)
    return bool(poll.poll(0))
