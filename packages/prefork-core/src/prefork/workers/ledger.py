# SPDX-License-Identifier: MIT
"""What is written down of the requests that a worker class answers with an HTTP of its own.

Decides what the arbiter sees of such a request on the scoreboard, and what the access log and the counters
get at its end. Nothing here knows how requests are read or answered. For one thread.
"""

from __future__ import annotations

import threading
from itertools import count
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.observe.access import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prefork.observe.access import AccessLog
    from prefork.process.scoreboard import Slot, ThreadRecord

_PLAIN: Final = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
"""Fields whose CGI name has no HTTP_ in front (RFC 3875 §4.1)."""


Said = tuple[str, str, str, str, "Iterable[tuple[str, str]]"]
"""Of a request: address of the client ("" for a Unix socket), method, target, version, fields as received."""


class Answer(NamedTuple):
    """What became of a request."""

    status: int
    """0 for none."""
    sent: int
    """Bytes of the body."""
    fields: Iterable[tuple[str, str]]
    outcome: str


class Ledger:
    """The requests of a worker.

    Args:
        slot: the worker's part of the scoreboard.
        access: the access log, None for none.
        milestones: what is called once, when so many requests were served.

    Attributes:
        access, milestones: as given.
        free: records that no request has.
    """

    def __init__(
        self, slot: Slot, access: AccessLog | None, milestones: Mapping[int, Callable[[], object]]
    ) -> None:
        self._slot = slot
        self.access = access
        self.milestones = milestones
        self._served = count(1)
        self._made = 0
        self.free: list[ThreadRecord] = []

    def take(self) -> ThreadRecord | None:
        """Return a new record of the scoreboard, None if as many are in use as there are."""
        if self._made >= self._slot.threads:
            return None
        record = self._slot.thread(self._made)
        record.belong_to(threading.get_ident())
        self._made += 1
        return record

    def count(self, record: ThreadRecord | None, *, failed: bool) -> None:
        """Count a request that has ended, and that was not simply answered.

        Args:
            record: that of the request. None for one that the arbiter could not see: it counts as well.
            failed: whether it was answered with an error of the worker's own.
        """
        counted = record or self._slot.thread(0)
        if failed:
            counted.count_error()
        if record is None:
            counted.count()

    def reached(self) -> None:
        """Call what is to be called when so many requests were served."""
        if call := self.milestones.get(next(self._served)):
            call()

    def write(self, said: Said, began: float, answer: Answer) -> None:
        """Write a line of the access log, if there is one.

        Args:
            said: the request.
            began: when its head was there, in monotonic seconds.
            answer: what became of it.
        """
        if self.access is None:
            return
        peer, method, target, version, fields = said
        exchange = Exchange(peer, method, target, version, fields=_cgi_fields(fields))
        exchange.status = answer.status
        exchange.sent = answer.sent
        exchange.headers = list(answer.fields)
        exchange.outcome = answer.outcome
        exchange.duration = monotonic() - began
        exchange.started = time() - exchange.duration
        self.access.write(exchange)


def _cgi_fields(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return fields by their CGI names, the values of repeated ones joined (RFC 9110 §5.3)."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        key = name.upper().replace("-", "_")
        if key not in _PLAIN:
            key = "HTTP_" + key
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    return fields
