# SPDX-License-Identifier: MIT
"""How long a request has waited for a thread, and whether that was too long.

A request waits in the kernel, in the queue of the listener or of its own connection, then for a thread of
the worker; and before, in a proxy, whose word counts if it is trusted. The kernel is asked only when it
matters: for each request when there is a limit or the access log shows it, else now and then.
"""

from __future__ import annotations

from math import ceil
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from prefork.http.forwarded import request_start
from prefork.net.tcpinfo import since_data

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from prefork.http.forwarded import ForwardPolicy
    from prefork.wsgi.connection import Connection

_LONGEST: Final = 3600.0
"""Seconds beyond which a proxy's X-Request-Start is taken for a wrong clock."""

_REPORT: Final = 10.0
"""Least seconds between two lines of log about requests that are turned away."""


class Queueing:
    """The queue time of one worker's requests.

    Args:
        limit: seconds that a request may have waited, 0 for no limit.
        always: whether each request's is wanted.
        forward: who is trusted to say when a request arrived at a proxy.
        log: the error log.
        count: called for each request that is turned away.

    Attributes:
        measures: whether that of the next request is wanted.
        limit: as given.
        retry_after: the value of Retry-After for who is turned away (RFC 9110 §10.2.3), whole seconds.
    """

    def __init__(
        self,
        limit: float,
        *,
        always: bool,
        forward: ForwardPolicy,
        log: logging.Logger,
        count: Callable[[], None],
    ) -> None:
        self.limit = limit
        self.retry_after = str(max(ceil(limit), 1))
        self._always = always or limit > 0
        self.measures = True
        self._forward = forward
        self._log = log
        self._count = count
        self._turned_away = 0
        self._report_at = 0.0

    def measure(self, conn: Connection) -> float | None:
        """Return how long the request in hand has waited, in seconds; None where nobody knows.

        Args:
            conn: its connection. When more than the request has arrived on it, what came last counts.
        """
        self.measures = self._always
        now = monotonic()
        known = since_data(conn.stream.sock)
        if conn.turn_since:
            known = max(known or 0.0, now - conn.turn_since)
        request = conn.http.request
        if request is None or "HTTP_X_REQUEST_START" not in request.fields:
            return known
        if not self._forward.trusts(conn.peer.address):
            return known
        started = request_start(request.fields["HTTP_X_REQUEST_START"])
        # What the client needed to send the rest to us is not time in a queue.
        reading = max(now - conn.began - (known or 0.0), 0.0)
        said = -1.0 if started is None else time() - started - reading
        return max(said, known or 0.0) if 0.0 <= said <= _LONGEST else known

    def turn_away(self, conn: Connection) -> None:
        """Count a request that is turned away, and tell the log now and then.

        Args:
            conn: its connection.
        """
        self._count()
        self._turned_away += 1
        now = monotonic()
        if now < self._report_at:
            return
        self._report_at = now + _REPORT
        count, self._turned_away = self._turned_away, 0
        self._log.warning(
            "turned away with 503: %d (waited longer than queue_timeout of %g s, the last one for %.1f s)",
            count,
            self.limit,
            conn.queued or 0.0,
        )
