# SPDX-License-Identifier: MIT
"""What is written down of the requests that a worker class answers with an HTTP of its own.

Decides what the arbiter sees of such a request on the scoreboard, and what the access log and the counters
get at its end. Nothing here knows how requests are read or answered. For one thread.
"""

from __future__ import annotations

import threading
from itertools import count
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from prefork.observe.access import Exchange
from prefork.process.scoreboard import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prefork.observe.access import AccessLog
    from prefork.process.scoreboard import Slot, ThreadRecord

_PLAIN: Final = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
"""Fields whose CGI name has no HTTP_ in front (RFC 3875 §4.1)."""


class Ledger:
    """The requests of a worker.

    Args:
        slot: the worker's part of the scoreboard.
        access: the access log, None for none.
        milestones: what is called once, when so many requests were served.
    """

    def __init__(
        self, slot: Slot, access: AccessLog | None, milestones: Mapping[int, Callable[[], object]]
    ) -> None:
        self._slot = slot
        self.access = access
        self._milestones = milestones
        self._served = count(1)
        self._made = 0
        self._free: list[ThreadRecord] = []

    def take(self) -> ThreadRecord | None:
        """Return a record of the scoreboard for a request, None if as many are in use as there are."""
        if self._free:
            return self._free.pop()  # the last that was given back: its page is in use already
        if self._made >= self._slot.threads:
            return None
        record = self._slot.thread(self._made)
        record.belong_to(threading.get_ident())
        self._made += 1
        return record

    def ended(self, record: ThreadRecord | None, *, failed: bool) -> None:
        """Count a request that has ended, and give its record back.

        Args:
            record: that of the request. None for one that the arbiter could not see: it counts as well.
            failed: whether it was answered with an error of the worker's own.
        """
        counted = record or self._slot.thread(0)
        if failed:
            counted.count_error()
        if record is None:
            counted.count()
        else:
            record.end()
            self._free.append(record)
        if self._milestones and (reached := self._milestones.get(next(self._served))):
            reached()


class Record:
    """A request in hand; see `prefork.worker.Record`.

    Args:
        ledger: where it is written down.
        peer: address of the client, "" for a Unix socket.
        method, target, version: of the request line.
        fields: names and values, as received.
        over: called at its end.
    """

    __slots__ = (
        "_began",
        "_ended",
        "_fields",
        "_ledger",
        "_over",
        "_record",
        "_request_line",
        "_waits_since",
    )

    def __init__(
        self,
        ledger: Ledger,
        peer: str,
        method: str,
        target: str,
        version: str,
        fields: Iterable[tuple[str, str]],
        over: Callable[[], object],
    ) -> None:
        self._ledger = ledger
        self._over = over
        self._fields = fields
        self._request_line = (peer, method, target, version)
        self._began = monotonic()
        self._waits_since = 0.0
        self._ended = False
        self._record = record = ledger.take()
        if record is not None:
            line = f"{method} {target}".encode("latin-1", "replace")
            record.begin(line, self._began, client=peer.encode("ascii", "replace"))

    def waiting(self, *, to_write: bool) -> None:
        """See `prefork.worker.Record`."""
        if self._record is not None:
            self._waits_since = self._waits_since or monotonic()
            self._record.phase = Phase.WRITING if to_write else Phase.READING

    def progress(self) -> None:
        """See `prefork.worker.Record`."""
        if self._record is not None and self._waits_since:
            self._record.count_waited(monotonic() - self._waits_since)
            self._record.phase = Phase.APPLICATION
            self._waits_since = 0.0

    def taken(self) -> None:
        """See `prefork.worker.Record`."""
        if self._record is not None:
            self._record.phase = Phase.TAKEN

    def end(
        self, status: int, sent: int, fields: Iterable[tuple[str, str]] = (), *, outcome: str = "ok"
    ) -> None:
        """See `prefork.worker.Record`."""
        if self._ended:
            return
        self._ended = True
        if self._ledger.access is not None:
            self._write(self._ledger.access, status, sent, fields, outcome)
        self._ledger.ended(self._record, failed=outcome == "error")
        self._over()

    def killed(self) -> None:
        """Leave an access line: the worker is about to be killed."""
        if self._ledger.access is not None and not self._ended:
            self._write(self._ledger.access, 0, 0, (), "timeout")

    def _write(
        self, access: AccessLog, status: int, sent: int, fields: Iterable[tuple[str, str]], outcome: str
    ) -> None:
        exchange = Exchange(*self._request_line, fields=_cgi_fields(self._fields))
        exchange.status = status
        exchange.sent = sent
        exchange.headers = list(fields)
        exchange.outcome = outcome
        exchange.duration = monotonic() - self._began
        exchange.started = time() - exchange.duration
        access.write(exchange)


def _cgi_fields(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return fields by their CGI names, the values of repeated ones joined (RFC 9110 §5.3)."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        key = name.upper().replace("-", "_")
        if key not in _PLAIN:
            key = "HTTP_" + key
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    return fields
