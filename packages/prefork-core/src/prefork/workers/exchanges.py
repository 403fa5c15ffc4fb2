# SPDX-License-Identifier: MIT
"""Requests that are answered by an event loop: prefork's HTTP for a worker class that has such a loop.

The poll set of `workers.loop` is one descriptor of the event loop, and takes its turn when that is readable.
A request is handed over when its head is there; from then on its connection is watched for what the
application waits for. For one thread.
"""

from __future__ import annotations

import socket
import threading
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NoReturn

from prefork.errors import ClientDisconnected
from prefork.http.states import WRITING_DONE, WRITING_HEAD
from prefork.net.poller import Poller
from prefork.net.stream import RECEIVE_SIZE, rest_of
from prefork.process.scoreboard import ThreadRecord
from prefork.workers.loop import Loop, Lost
from prefork.wsgi.application import send_part
from prefork.wsgi.connection import PENDING_LIMIT
from prefork.wsgi.response import Response
from prefork.wsgi.serve import WANTS_CALL, WANTS_CLOSE, WANTS_NOTHING, WANTS_READ, WANTS_TURN, WANTS_WRITE
from prefork.wsgi.takeover import SWITCHED
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from prefork.http import Request
    from prefork.http.forwarded import Forwarded
    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Wants

_RECORD_SIZE: Final = 256

_SOON: Final = 0.01
"""Seconds in which there is another turn for requests that were not answered at once: what their clients do
is not heard of before it."""


class Exchanges:
    """The connections of a worker; see `prefork.worker.Exchanges`.

    Args:
        ctx: the worker's context.
        answer: told of each request.
        soon: asked for an earlier turn than was said, in so many seconds.

    Attributes:
        log: the error log.
        service: what becomes of connections.
        forward: what proxies may say.
        loop: where they are watched.
    """

    def __init__(
        self, ctx: WorkerContext, answer: Callable[[Exchange], object], soon: Callable[[float], object]
    ) -> None:
        self._ctx = ctx
        self.log = ctx.log
        self._answer = answer
        self._soon = soon
        self._hooks = ctx.request_hooks
        self.service = ctx.service(keepalive=ctx.settings.keepalive)
        # No thread waits for it, and who sends it may want to be answered in between.
        self.service.holds_chunked = False
        self._poller = Poller()
        self.forward = ctx.forward
        self.loop: Loop[Exchanges] = Loop(
            ctx, self.service, self, concurrent=True, later=True, poller=self._poller
        )
        self._aways = threading.Lock()
        self._made = 0
        self._free: list[Watch] = []
        self._spare: dict[Watch, ThreadRecord] = {}
        self._answering: dict[Exchange, None] = {}
        self._unsettled: list[Exchange] = []
        self._in_turn = False
        self._due = 0.0
        self.fd = self._poller.fileno()
        self.within = 0.0
        self.stops = False
        self.ended = False

    def begin(self) -> None:
        """See `prefork.worker.Exchanges`."""
        self.loop.begin()

    def turn(self) -> None:
        """See `prefork.worker.Exchanges`."""
        events = self._poller.wait(0.0)
        if not events and not self.loop.turns and monotonic() < self._due:
            return
        loop = self.loop
        self._in_turn = True
        if self._unsettled:
            self._settle()
        self.ended = loop.handle(events, self) is Lost.ALL
        self._in_turn = False
        self.stops = loop.stopping
        slot = self._ctx.slot
        if self._answering:
            slot.idle = max(slot.idle - len(self._answering) + len(self._unsettled), 0)
        self.within = min(loop.patience(), _SOON) if self._unsettled else loop.patience()
        self._due = monotonic() + self.within
        slot.due = 0.0 if self.ended else self._due

    def close(self) -> None:
        """See `prefork.worker.Exchanges`."""
        self._ctx.slot.due = 0.0
        self.loop.close_all()

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for conn in self.in_hand():
            self.service.killed(conn)

    # Requests

    def call(self, conn: Connection, leader: Exchanges) -> bool:
        """Hand a request over; see `prefork.workers.loop.Calls`."""
        watch = conn.watch = self._free.pop() if self._free else self._make_watch()
        if self.service.queueing.measures and self.service.is_late(conn, watch):
            self._give_back(watch)
            self.loop.place(conn, self.service.turn_away(conn))
            return True
        exchange = Exchange(self, conn, watch)
        self._answering[exchange] = None
        try:
            if self._hooks is not None:
                conn.environ = {}  # which a WSGI application would have been called with
                self._hooks.before(exchange.request)
            self._answer(exchange)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            exchange.fail(error)
        if not exchange.is_over:
            if "HTTP_UPGRADE" in exchange.request.fields:
                exchange.settle()  # who leaves before it has another protocol is not to be given it
            else:
                self._unsettled.append(exchange)
        return leader is self

    def _settle(self) -> None:
        """Watch the connections of requests that one turn was not enough for.

        Most are answered before the next one, and those of closing connections are never watched so.
        """
        for exchange in self._unsettled:
            if not exchange.is_over and not exchange.is_settled:
                exchange.settle()
        self._unsettled.clear()

    def in_hand(self) -> Iterable[Connection]:
        """Return the connections whose requests are with the application."""
        return [exchange.conn for exchange in self._answering]

    def over(self, exchange: Exchange, wants: Wants) -> None:
        """Go on with a connection whose request was answered."""
        del self._answering[exchange]
        if self._spare:
            self._give_back(exchange.watch)
        else:
            self._free.append(exchange.watch)
        if exchange.is_settled:
            self.loop.unpark(exchange.conn)
        self.place(exchange.conn, wants)

    def place(self, conn: Connection, wants: Wants) -> None:
        """Watch a connection for what it wants, and see that there is a turn in time."""
        self.loop.place(conn, wants)
        if not self._in_turn and (conn.deadline < self._due or wants is WANTS_TURN or wants is WANTS_CALL):
            at = conn.deadline if wants is WANTS_READ or wants is WANTS_WRITE else 0.0
            if at < self._due:
                self._due = at
                self._soon(max(at - monotonic(), 0.0))

    # The scoreboard

    def _make_watch(self) -> Watch:
        """Return a record for one request more: on the scoreboard while there is room, which is for 1,024."""
        slot = self._ctx.slot
        spare = self._made >= slot.threads
        record = ThreadRecord(memoryview(bytearray(_RECORD_SIZE))) if spare else slot.thread(self._made)
        # No timeout: one request that takes its time keeps no other waiting. It is the loop that has to turn.
        watch = Watch(record, 0.0, slot, self._aways)
        if spare:
            self._spare[watch] = record
        else:
            self._made += 1
        watch.belongs_here()
        return watch

    def _give_back(self, watch: Watch) -> None:
        record = self._spare.pop(watch, None)
        if record is None:
            self._free.append(watch)
        else:
            self._ctx.slot.thread(0).add(record)


def _again(error: ClientDisconnected) -> ClientDisconnected:
    """Return an error anew, without the frames that it was raised through.

    What is kept of it would keep those frames, and in them what the application has opened, until somebody
    looks for garbage.
    """
    return type(error)(str(error), error.status)


def _nothing() -> None:
    """Nobody is to be woken."""


class _Over(Response):
    """Stands for a response that has ended. Its connection may have the next one already."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def start(self, *_: object) -> NoReturn:
        """Raise."""
        raise ClientDisconnected("the response has ended")

    def write(self, data: bytes) -> NoReturn:
        """Raise."""
        self.start(data)

    def begin_raw(self, length: int | None) -> NoReturn:
        """Raise."""
        self.start(length)


_OVER: Final = _Over()


class Exchange:
    """A request and its response; see `prefork.worker.Exchange`.

    Args:
        owner: whose it is.
        conn: its connection.
        watch: what the arbiter sees of it.

    Attributes:
        request: the head of the request.
        conn, watch: as given.
        start: begins the response; see `prefork.worker.Exchange`.
        wake: called when the client has done something, or is gone.
        is_gone: whether the client sends no more, or has gone away.
        is_over: whether the request is answered, or was given up.
        is_settled: whether its connection is watched meanwhile.
    """

    __slots__ = (
        "_error",
        "_owner",
        "_reads",
        "_response",
        "_writes",
        "conn",
        "is_gone",
        "is_over",
        "is_settled",
        "request",
        "start",
        "wake",
        "watch",
    )

    def __init__(self, owner: Exchanges, conn: Connection, watch: Watch) -> None:
        request = conn.http.request
        assert request is not None
        self._owner = owner
        self.conn = conn
        self.watch = watch
        self.request: Request = request
        self.wake: Callable[[], object] = _nothing
        self.is_gone = False
        self.is_over = False
        self.is_settled = False
        self._reads = False
        self._writes = False
        self._error: ClientDisconnected | None = None
        conn.answers = self
        conn.deadline = inf
        self._response: Response = owner.service.begin(conn, watch, self)
        self.start: Callable[[str, list[tuple[str, str]]], object] = self._response.start

    @property
    def peer(self) -> tuple[str, int]:
        """See `prefork.worker.Exchange`."""
        address, port = self.conn.peer
        return address, int(port or 0)

    @property
    def server(self) -> tuple[str, int] | None:
        """See `prefork.worker.Exchange`."""
        base = self.conn.base
        name = base.get("SERVER_NAME")
        return None if name is None else (name.strip("[]"), int(base["SERVER_PORT"]))

    def forwarded(self) -> Forwarded:
        """See `prefork.worker.Exchange`."""
        return self._owner.forward.apply(self.request, self.conn.peer.address)

    def client(self) -> str:
        """See `prefork.worker.Exchange`."""
        return self._owner.forward.client(self.request, self.conn.peer.address)

    def extend_deadline(self, seconds: float) -> None:
        """See `prefork.worker.Exchange`."""
        if not self.is_over:  # else the watch is another one's
            self.watch.extend_deadline(seconds)

    # The request's body

    def read(self, limit: int = RECEIVE_SIZE) -> bytes | None:
        """See `prefork.worker.Exchange`."""
        if self.is_over:
            return b""
        if self._error is not None:
            raise _again(self._error)
        try:
            piece = self.conn.take_body(limit)
            if piece is None and self.conn.pull_body():
                piece = self.conn.take_body(limit)
                self.conn.deadline = inf
        except ClientDisconnected:
            self.is_gone = True
            raise
        if piece is None:
            self._wait_for_body()
        return piece

    def _wait_for_body(self) -> None:
        if not self._reads:
            self._reads = True
            self.watch.waiting(self.conn.deadline, to_write=False)
        self.settle()

    # The response

    @property
    def is_behind(self) -> bool:
        """See `prefork.worker.Exchange`."""
        return self._writes

    def write(self, data: bytes) -> None:
        """See `prefork.worker.Exchange`."""
        if data:
            self._response.write(data)
        elif self._error is not None or self.conn.http.writing is WRITING_HEAD:
            self.send(self._response.begin_raw(None))

    def close_afterwards(self) -> None:
        """See `prefork.worker.Exchange`."""
        self.conn.http.persistent = False

    def finish(self, data: bytes = b"") -> None:
        """See `prefork.worker.Exchange`."""
        if self.is_over:
            return
        try:
            if self._error is not None:
                raise _again(self._error)
            if type(data) is bytes:
                out = self._response.last(data)
                if out:
                    self.conn.send_last(out)
            else:
                self._response.send_list((data,))
        except ClientDisconnected as error:
            self._is_lost(error)
            self.fail(error)
            raise
        self._end()

    def finish_with_file(self, file: BinaryIO) -> None:
        """See `prefork.worker.Exchange`."""
        part = None if self.is_over else rest_of(file)
        if part is None:
            with file:
                self.finish(file.read())
            return
        self.conn.close_body = file.close
        try:
            send_part(self.conn, self._response, part)
        except OSError as error:  # of the file, or the client is gone
            if isinstance(error, ClientDisconnected):
                self._is_lost(error)
            self.fail(error)
            raise
        self._end()

    def fail(self, error: BaseException) -> None:
        """See `prefork.worker.Exchange`."""
        if not self.is_over:
            self._has_failed(error)
            self._end()
        elif not isinstance(error, ClientDisconnected):
            # Frameworks answer an error first, and raise it then.
            text = "error in the application, behind its response: %s %s"
            self._owner.log.error(text, self.request.method, self.request.target, exc_info=error)

    def _has_failed(self, error: BaseException) -> None:
        before = error.__traceback__
        try:
            raise error
        except BaseException:  # noqa: BLE001 (what is logged is the error that is handled)
            self._owner.service.failed(self.conn, error)
        finally:
            # A cycle through this frame, and those that have called it, would keep what the application has
            # opened, until somebody looks for garbage.
            error.__traceback__ = before

    def send(self, data: bytes) -> None:
        """Send response bytes; see `prefork.wsgi.response.Out`."""
        if self._error is not None:
            raise _again(self._error)
        try:
            self.conn.stream.send(data)
        except ClientDisconnected as error:
            self._is_lost(error)
            raise
        if not self._writes and self.conn.stream.pending > PENDING_LIMIT:
            self._writes = True
            self.conn.await_flush()
            self.watch.waiting(self.conn.deadline, to_write=True)
            self.settle()

    def send_last(self, data: bytes) -> None:
        """Send the last ones; see there."""
        if self._error is not None:
            raise _again(self._error)
        self.conn.send_last(data)

    def _end(self) -> None:
        response = self._part()
        self._owner.over(self, self._owner.service.ended(self.conn, response, self.watch))

    def _part(self) -> Response:
        """Part from who answers: each knows the other, and would wait for who looks for garbage."""
        self.is_over = True
        self.conn.answers = None
        self.wake = _nothing
        response, self._response = self._response, _OVER
        self.start = _OVER.start
        return response

    # Another protocol

    def take_over(self) -> tuple[socket.socket, bytes]:
        """See `prefork.worker.Exchange`."""
        conn = self.conn
        early = conn.http.take_over()
        self._response.begun = SWITCHED
        self.watch.taken()
        self._owner.loop.unpark(conn)
        self._owner.loop.place(conn, WANTS_NOTHING)
        raw = conn.stream.sock
        sock = socket.socket(raw.family, raw.type, raw.proto, raw.detach())
        sock.setblocking(False)
        return sock, early

    def left(self, error: BaseException | None = None) -> None:
        """See `prefork.worker.Exchange`."""
        if self.is_over:
            return
        if error is not None:
            self._has_failed(error)
        self._owner.service.left(self.conn, self._part(), self.watch)
        self._owner.over(self, WANTS_CLOSE)

    # The client

    def settle(self) -> None:
        """Watch the connection for what the application waits for, and for the client's end."""
        if not self.is_over and self.conn.http.writing is not WRITING_DONE:
            self.is_settled = True
            self._owner.place(self.conn, self._wants())

    def _wants(self) -> Wants:
        if self._writes:
            return WANTS_WRITE
        if self.is_gone or (not self._reads and self.conn.http.buffered >= RECEIVE_SIZE):
            return WANTS_NOTHING
        return WANTS_READ

    def readable(self) -> Wants:
        """Take what has arrived; see `prefork.wsgi.connection.Answers`."""
        try:
            data = self.conn.stream.receive()
        except ClientDisconnected as error:
            return self._is_lost(error)
        if data is not None:
            self.conn.http.feed(data)
            self.is_gone = not data
            self._go_on(len(data))
        return WANTS_NOTHING if self.is_over else self._wants()

    def writable(self) -> Wants:
        """Go on sending what the client did not take before; see `prefork.wsgi.connection.Answers`."""
        stream = self.conn.stream
        before = stream.taken
        try:
            stream.flush()
        except ClientDisconnected as error:
            return self._is_lost(error)
        self.conn.moved(stream.taken - before)
        if stream.pending <= PENDING_LIMIT // 2:
            self._go_on(0)
        return WANTS_NOTHING if self.is_over else self._wants()

    def expired(self) -> Wants:
        """End the wait for the client; see `prefork.wsgi.connection.Answers`."""
        return self._is_lost(self.conn.stalled(to_write=self._writes))

    def _go_on(self, count: int) -> None:
        """Let the application go on, which has waited."""
        if self._reads:
            self.conn.moved(count)
        if self._reads or self._writes:
            self.watch.progress()
            self._reads = self._writes = False
        self.conn.deadline = inf
        self.wake()

    def _is_lost(self, error: ClientDisconnected) -> Wants:
        """Note that nothing more is to be had of the client."""
        self._error = _again(error)
        self.is_gone = True
        self._go_on(0)
        return WANTS_NOTHING
