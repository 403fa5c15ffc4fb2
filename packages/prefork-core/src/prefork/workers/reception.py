# SPDX-License-Identifier: MIT
"""New connections for a worker class that has an event loop and an HTTP of its own.

Decides when such a worker takes a connection, for how long one may be idle or send a head, and when the
worker has drained. Waits for nothing: the event loop says when it is its turn. For one thread.
"""

from __future__ import annotations

import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

from prefork.http.forwarded import Fields
from prefork.net.connected import Connected
from prefork.net.poller import READ, Poller
from prefork.process.scoreboard import Phase
from prefork.workers.acceptor import DRAINING, QUEUE_GRACE, Acceptor
from prefork.workers.ending import LAST_CALL, Ending
from prefork.workers.ledger import Answer, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefork.http.forwarded import Forwarded, ForwardPolicy
    from prefork.process.scoreboard import ThreadRecord
    from prefork.workers.context import WorkerContext
    from prefork.workers.ledger import Said

_LOOK: Final = 1.0
"""Seconds after which an idle worker looks at queues and deadlines unasked, as `workers.loop` does."""

_ATTENTION: Final = 0.25
"""Seconds between two looks while it stops, or while the time of a client is nearly up."""

_ROOM: Final = 16
"""The part of all connections, one of so many, that is closed at once at the limit, while they are idle."""


class Reception:
    """The connections of a worker; see `prefork.worker.Reception`.

    Args:
        ctx: the worker's context.
        ledger: where requests are written down.
        forward: what proxies may say.

    Attributes:
        idle: how many connections wait for their client.
        sweep_at: when the first connection may be late, in monotonic seconds.
    """

    def __init__(self, ctx: WorkerContext, ledger: Ledger, forward: ForwardPolicy) -> None:
        self._ctx = ctx
        self.ledger = ledger
        self.forward = forward
        self.keepalive = ctx.settings.keepalive
        self.header_timeout = ctx.settings.header_timeout or inf
        self._first_byte_timeout = self.keepalive or self.header_timeout
        self._poller = Poller()
        self._acceptor = Acceptor(ctx, self._poller, Connected)
        self._poller.watch(ctx.stop_fd, READ)
        self._open: dict[Arrival, None] = {}
        self.idle = 0
        self._ending = Ending(
            ctx, self._acceptor, self._poller, self._open, wind_down=self._wind_down, drop=_drop
        )
        self._stopping = False
        self._look_at = 0.0
        self.sweep_at = inf
        self.fd = self._poller.fileno()
        self.within = _LOOK
        self.keeps = self.keepalive > 0
        self.ended = False

    def begin(self) -> None:
        """See `prefork.worker.Reception`."""
        if not self._stopping:
            self._acceptor.take()
            self._ctx.ready()

    def turn(self) -> Sequence[Arrival]:
        """See `prefork.worker.Reception`."""
        ready = [fd for fd, _ in self._poller.wait(0.0)]
        now = monotonic()
        if self._ctx.stop_fd in ready or (self._ctx.is_told and not self._stopping):
            self._stopping = self._ending.begin()
        arrivals = [] if self._stopping and self._is_over() else self._take(ready, now)
        if now >= self._acceptor.resume_at:
            self._acceptor.take()
        if now >= self._look_at:
            self._look(now)
        if now >= self.sweep_at:
            self._sweep(now)
        if self._acceptor.state is DRAINING:
            self._acceptor.leave_drained(empty=not arrivals)
        self._report(now)
        return arrivals

    def _report(self, now: float) -> None:
        slot = self._ctx.slot
        slot.connections = len(self._open)
        slot.idle = self.idle
        self.ended = self._is_over()
        self.within = self._patience(now)
        slot.due = 0.0 if self.ended else now + self.within

    def _take(self, ready: list[int], now: float) -> list[Arrival]:
        """Take connections from the listeners that have some."""
        arrivals: list[Arrival] = []
        acceptor = self._acceptor
        # Now and then from all: the kernel may have told another worker, which is dead.
        for fd in ready if now < self._look_at else list(acceptor.fds):
            for _ in range(acceptor.at_once(len(self._open)) if fd in acceptor.fds else 0):
                accepted = acceptor.accept(fd)
                if accepted is None:
                    break
                arrivals.append(self._opened(*accepted, now))
                acceptor.opened(len(self._open))
        if arrivals:
            acceptor.step_back()
        return arrivals

    def _opened(self, sock: socket.SocketType, address: Any, now: float) -> Arrival:
        assert isinstance(sock, Connected)  # as the acceptor was told
        sock.peer = address
        peer, port = address[:2] if isinstance(address, tuple) else ("", 0)
        deadline = now + self._first_byte_timeout
        arrival = Arrival(self, sock, peer, port, now, deadline)
        self._open[arrival] = None
        self.idle += 1
        self.sweep_at = min(self.sweep_at, deadline)
        return arrival

    def closed(self, arrival: Arrival) -> None:
        """Note that a connection was closed."""
        if self._open.pop(arrival, self) is None:
            self.idle -= arrival.is_idle
            self._acceptor.closed()

    def _patience(self, now: float) -> float:
        """Return how long there is nothing to do unless something arrives, in seconds."""
        if self._acceptor.state is DRAINING:
            return QUEUE_GRACE
        longest = min(_ATTENTION, self._ctx.time_left()) if self._stopping else _LOOK
        return max(min(longest, self.sweep_at - now, self._acceptor.resume_at - now), 0.0)

    # What is due

    def _look(self, now: float) -> None:
        """Do what is to be done once in a while."""
        self._look_at = now + _LOOK
        self._ctx.slot.backlog = self._acceptor.waiting()
        self._acceptor.look_around()
        if self._ctx.slot.is_parting:
            self.keeps = False
        if self._acceptor.is_full and self._acceptor.has_queue():
            self._make_room()

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest, for new ones that wait at the limit."""
        idle = sorted((each for each in self._open if each.is_idle), key=lambda each: each.since)
        for arrival in idle[: max(len(self._open) // _ROOM, 1)]:
            arrival.dismiss()

    def _sweep(self, now: float) -> None:
        """Close the connections whose time is up."""
        for arrival in [each for each in self._open if each.deadline <= now]:
            arrival.dismiss()
        # A client may have sent something just now, and a worker class may take its time to close.
        later = (max(each.deadline, now + _ATTENTION) for each in self._open)
        self.sweep_at = min(later, default=inf)

    # Stopping

    def _wind_down(self) -> None:
        """Announce the end on every response, and have idle clients ask soon or not at all."""
        self.keeps = False
        self._first_byte_timeout = min(self._first_byte_timeout, LAST_CALL)
        for arrival in self._open:
            if arrival.is_idle:
                arrival.deadline = min(arrival.deadline, arrival.since + LAST_CALL)
        self.sweep_at = 0.0

    def _is_over(self) -> bool:
        return self._stopping and self._ending.is_over()

    def close(self) -> None:
        """See `prefork.worker.Reception`."""
        self._ctx.slot.due = 0.0
        self._ending.close_all()

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for arrival in self._open:
            arrival.killed()


def _drop(arrival: Arrival) -> bool:
    arrival.sock.close()
    return not arrival.is_idle


class Arrival:
    """A connection that was accepted, and its requests; see `prefork.worker.Arrival` and `Record`.

    Requests come one after the other, and most are over within the time that a few objects take. So there
    is none for a request, but this one for all of a connection.

    Args:
        reception: whose it is.
        sock: the socket.
        address: of the peer, "" on a Unix socket.
        port: of the peer, 0 on a Unix socket.
        now: in monotonic seconds.
        deadline: until when it may be idle, in monotonic seconds.

    Attributes:
        deadline: until when something must happen; infinity while a request is in hand.
        since: since when it has been idle, in monotonic seconds.
    """

    __slots__ = (
        "_began",
        "_client",
        "_close",
        "_reception",
        "_record",
        "_said",
        "_waits_since",
        "address",
        "deadline",
        "is_idle",
        "port",
        "since",
        "sock",
    )

    def __init__(
        self, reception: Reception, sock: socket.socket, address: str, port: int, now: float, deadline: float
    ) -> None:
        self._reception = reception
        self.sock = sock
        self.address = address
        self.port = port
        self.deadline = deadline
        self.since = now
        self.is_idle = True
        self._client = address.encode("ascii", "replace")
        self._close: Callable[[], object] | None = None
        self._said: Said | None = None
        self._record: ThreadRecord | None = None
        self._waits_since = 0.0

    def when_late(self, close: Callable[[], object]) -> None:
        """See `prefork.worker.Arrival`."""
        self._close = close

    def began(self) -> None:
        """See `prefork.worker.Arrival`."""
        if self.is_idle:
            reception = self._reception
            self.is_idle = False
            reception.idle -= 1
            self.deadline = deadline = monotonic() + reception.header_timeout
            if deadline < reception.sweep_at:  # noqa: PLR1730 (twice as quick as `min`)
                reception.sweep_at = deadline

    def forwarded(self, fields: Iterable[tuple[str, str]]) -> Forwarded:
        """See `prefork.worker.Arrival`."""
        return self._reception.forward.apply(Fields(fields), self.address)

    def closed(self) -> None:
        """See `prefork.worker.Arrival`."""
        self._reception.closed(self)
        self.deadline = 0.0
        self._close = None  # it may be a method of what has this, and nobody should have to look for circles

    def dismiss(self) -> None:
        """Close it, unless its client has sent something that the worker class has not read."""
        if not self.is_idle or not self._has_more():
            (self._close or self._shut)()

    def _has_more(self) -> bool:
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False  # nothing there, or broken, or closed just now

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_RD)  # the worker class finds the end of it
        except OSError:
            return

    # A request

    def request(self, method: str, target: str, version: str, fields: Iterable[tuple[str, str]]) -> Self:
        """See `prefork.worker.Arrival`."""
        reception = self._reception
        if self.is_idle:
            self.is_idle = False
            reception.idle -= 1
        self.deadline = inf
        self._said = (self.address, method, target, version, fields)
        self._began = now = monotonic()
        ledger = reception.ledger
        free = ledger.free
        # The record that was given back last: its page is in use already.
        self._record = record = free.pop() if free else ledger.take()
        if record is not None:
            record.begin(f"{method} {target}".encode("latin-1", "replace"), now, 0.0, self._client)
        return self

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
        said = self._said
        if said is None:
            return
        self._said = None
        reception = self._reception
        ledger = reception.ledger
        record = self._record
        if ledger.access is not None:
            ledger.write(said, self._began, Answer(status, sent, fields, outcome))
        if record is None or outcome == "error":
            ledger.count(record, failed=outcome == "error")
        if record is not None:
            self._record = None
            self._waits_since = 0.0
            record.end()
            ledger.free.append(record)
        if ledger.milestones:
            ledger.reached()
        if self.deadline == inf:  # else it was closed meanwhile
            self.is_idle = True
            reception.idle += 1
            self.since = now = monotonic()
            self.deadline = deadline = now + (reception.keepalive if reception.keeps else LAST_CALL)
            if deadline < reception.sweep_at:  # noqa: PLR1730 (twice as quick as `min`)
                reception.sweep_at = deadline

    def killed(self) -> None:
        """Leave an access line for the request in hand: the worker is about to be killed."""
        if self._said is not None:
            self._reception.ledger.write(self._said, self._began, Answer(0, 0, (), "timeout"))
