# SPDX-License-Identifier: MIT
"""What a thread tells the arbiter of the request that it has in hand.

Decides when the request counts as stuck: `timeout` after its last progress, and, while it waits for its
client, `timeout` after the deadline that the client has. One that has taken its connection over never does.
One that knows that it is long may say so. Each thread has a watch of its own.
"""

from __future__ import annotations

import threading
from math import inf, isnan
from time import monotonic
from typing import TYPE_CHECKING, Final

from prefork.process.scoreboard import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.http import Request
    from prefork.process.scoreboard import Slot, ThreadRecord
    from prefork.wsgi.connection import Connection

EXTEND_DEADLINE: Final = "prefork.extend_deadline"
"""Under which name the application finds `Watch.extend_deadline` in the environ."""


class Watch:
    """One thread's watch over its request.

    Args:
        record: the thread's part of the scoreboard.
        timeout: seconds that a request may go on without progress, 0 for no limit.
        slot: the worker's, which says how many of its threads are away.
        aways: the lock of that number, one for all threads.

    Attributes:
        conn: the connection whose request the thread has in hand, None for none.
        extend_deadline: a function of seconds, for the application: from now on its request may take so long
            before it counts as stuck. Raises ValueError for what is no time.
        end: notes that the request is over.
    """

    __slots__ = (
        "_away",
        "_aways",
        "_record",
        "_slot",
        "_taken",
        "_timeout",
        "_waited",
        "_waits_since",
        "conn",
        "end",
        "extend_deadline",
    )

    def __init__(self, record: ThreadRecord, timeout: float, slot: Slot, aways: threading.Lock) -> None:
        self._record = record
        self._timeout = timeout
        self._slot = slot
        self._aways = aways
        self._away = False
        self._taken = False
        self._waited = False
        self._waits_since = 0.0
        self.conn: Connection | None = None
        self.extend_deadline = self._extend_deadline  # bound once, not for each request
        self.end: Callable[[], None] = record.end

    def belongs_here(self) -> None:
        """Note that the calling thread is the one; the record says so to who reads stacks."""
        self._record.belong_to(threading.get_ident())

    def begin(self, request: Request, now: float, client: bytes) -> None:
        """Note that the application is about to be called.

        Args:
            request: with what.
            now: monotonic seconds.
            client: address of the peer.
        """
        self._taken = False
        self._waited = False
        self._record.begin(request.line, now, now + self._timeout if self._timeout else 0.0, client)

    def _extend_deadline(self, seconds: float) -> None:
        if isnan(seconds) or seconds < 0.0:
            raise ValueError(f"{EXTEND_DEADLINE}: {seconds!r} is no time in seconds")
        self._record.allowed = monotonic() + seconds

    def queued(self, seconds: float) -> None:
        """Note how long the request that the thread is about to take has waited.

        Args:
            seconds: that time.
        """
        self._record.count_queued(seconds)

    def failed(self) -> None:
        """Note that it is answered with an error of the worker's own."""
        self._record.count_error()

    def away(self) -> None:
        """Note that others do without this thread, because its request takes long. Any thread may."""
        with self._aways:
            if not self._away and not self._taken:
                self._away = True
                self._slot.away += 1

    def back(self) -> None:
        """Note that this is over."""
        with self._aways:
            if self._away:
                self._away = False
                self._slot.away -= 1

    def taken(self) -> None:
        """Note that the application has taken the connection over.

        Nobody knows any more what progress is. Nor is the thread away: siblings would get all new
        connections, for hours, because this worker holds one connection more than they do.
        """
        self._record.deadline = 0.0
        self._record.phase = Phase.TAKEN
        self._taken = True
        self.back()

    def progress(self) -> None:
        """Note that the request has moved."""
        if self._waited:
            self._waited = False
            self._record.count_waited(monotonic() - self._waits_since)
            self._record.phase = Phase.APPLICATION
        if self._timeout:
            self._record.deadline = monotonic() + self._timeout

    def waiting(self, deadline: float, *, to_write: bool) -> None:
        """Note that the application waits for its client.

        Args:
            deadline: of the client, in monotonic seconds; infinity for none.
            to_write: whether it waits for the client to take bytes; else to send some.
        """
        if not self._waited:
            self._waited = True
            self._waits_since = monotonic()
        self._record.phase = Phase.WRITING if to_write else Phase.READING
        if self._timeout:
            self._record.deadline = 0.0 if deadline == inf else deadline + self._timeout
