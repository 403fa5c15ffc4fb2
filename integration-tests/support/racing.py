# SPDX-License-Identifier: MIT
"""Clients that ask for different things in every way they may, leave when they like, and believe no answer.

Each request has a token that no other has, and a response must be the one for its token, to the last byte.
Knows which end of a connection HTTP allows: a server may close one that is idle, so a request that was sent
on it may have to be sent again (RFC 9112 section 9.3.1). Any other request without its answer is lost.
"""

from __future__ import annotations

import random
import secrets
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from prefork.testing.client import Kept, RequestFailed
from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from prefork.testing.client import Address, Answer

APPLICATION: Final = '''\
import os
import sys
import time
import zlib

# The less, the sooner a thread is stopped between two steps that belong together.
sys.setswitchinterval(float(os.environ["SWITCH_INTERVAL"]))


def app(environ, start_response):
    """Work as the path says, and answer with its token and what was in the body, as often as it says."""
    _, token, work, millis, how, lines = environ["PATH_INFO"].split("/")
    data = environ["wsgi.input"].read()
    end = time.perf_counter() + int(millis) / 1000
    if work == "sleep":
        time.sleep(int(millis) / 1000)
    while time.perf_counter() < end:
        pass
    line = b"%s %d %d\\n" % (token.encode(), len(data), zlib.crc32(data))
    if how == "chunks":
        start_response("200 OK", [])
        return (line * min(100, int(lines) - done) for done in range(0, int(lines), 100))
    body = line * int(lines)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
'''

CLIENTS: Final = 24
MILLIS: Final = (0,) * 14 + (1,) * 3 + (5,) * 2 + (30,)
"""How long the application may work, each as likely as it is often."""

LINES: Final = (1,) * 15 + (40,) * 3 + (2000, 20_000)
"""How long an answer may be; the longest is more than a socket takes at once."""

BODIES: Final = (0,) * 12 + (10, 300, 2000, 2000) + (70_000, 150_000)
"""Bytes of a request's body; the longest are read by the application, not before it is called."""

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for 0 seconds. Closing resets."""

_ATTEMPTS: Final = 10
_SHOWN: Final = 20


class Order(NamedTuple):
    """A request, and what is to be answered."""

    token: str
    work: str
    millis: int
    how: str
    lines: int
    body: bytes = b""
    chunked: bool = False
    last: bool = False
    """Whether it says that the connection is to be closed after it."""

    def rendered(self) -> bytes:
        """Return it as it goes over the wire."""
        path = f"/{self.token}/{self.work}/{self.millis}/{self.how}/{self.lines}"
        fields = [f"{'POST' if self.body else 'GET'} {path} HTTP/1.1", "Host: test"]
        if self.last:
            fields.append("Connection: close")
        if self.chunked:
            fields.append("Transfer-Encoding: chunked")
        elif self.body:
            fields.append(f"Content-Length: {len(self.body)}")
        body = self.body
        if self.chunked:
            middle = len(body) // 3
            body = b"".join(
                b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]) if part
            )
            body += b"0\r\n\r\n"
        return "\r\n".join([*fields, "", ""]).encode() + body

    def is_answer(self, answer: Answer) -> bool:
        """Return whether it is the right one."""
        line = f"{self.token} {len(self.body)} {zlib.crc32(self.body)}\n".encode()
        return answer.status == 200 and answer.body == line * self.lines


class Race:
    """Clients in threads, for a `with` statement; leaving it ends them.

    Args:
        address: where they ask.
        keepalive: seconds after which the server closes an idle connection.

    Attributes:
        counts: how often what has happened: "answered", "retried", "left", "half closed", "wrong", "lost".
        slowest: the longest time from the first byte of a request to the last of its answer, in seconds.
        ending: set when no client is to ask again.
        stopping: to be set before the server is stopped, which closes idle connections.
    """

    def __init__(self, address: Address, keepalive: float) -> None:
        self.address = address
        self.keepalive = keepalive
        self.counts: Counter[str] = Counter()
        self.stopping = False
        self.slowest = 0.0
        self.ending = threading.Event()
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=_Racer(self).run, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
        print(f"--- race: {dict(sorted(self.counts.items()))}, slowest {self.slowest:.3f} s")
        for fault in self._faults[:_SHOWN]:
            print(f"    {fault}")

    def wait_end(self) -> None:
        """Wait until nobody listens for any client."""
        until(lambda: not any(thread.is_alive() for thread in self._threads), "all clients were refused", 40)

    def check(self) -> None:
        """Check that no answer was wrong and none is missing.

        Raises:
            AssertionError: there was such a one.
        """
        assert not self._faults, self._faults[:_SHOWN]
        assert self.counts["answered"]

    def note(self, what: str) -> None:
        """Count something."""
        with self._lock:
            self.counts[what] += 1

    def note_answer(self, seconds: float) -> None:
        """Count a right answer."""
        with self._lock:
            self.counts["answered"] += 1
            self.slowest = max(self.slowest, seconds)

    def note_fault(self, what: str, text: str) -> None:
        """Count what must not be."""
        with self._lock:
            self.counts[what] += 1
            self._faults.append(f"{what} at {time.monotonic():.3f}: {text}")


class _Racer:
    """One client."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self._dice = random.Random()
        self._kept: Kept | None = None
        self._asked = 0.0  # when the last request on that was sent, in monotonic seconds

    def run(self) -> None:
        """Ask until it is over, or nobody listens."""
        ways = [way for often, way in self._ways() for _ in range(often)]
        while not self._race.ending.is_set():
            if self._dice.random() < 0.03:
                # The server is about to close the connection when the next request comes.
                time.sleep(self._race.keepalive * self._dice.uniform(0.98, 1.02))
            try:
                self._dice.choice(ways)()
            except RequestFailed as error:
                if error.kind == "refused":
                    break
                self._race.note_fault("lost", str(error))
        if self._kept is not None:
            self._kept.close()

    def _ways(self) -> tuple[tuple[int, Callable[[], None]], ...]:
        return (
            (60, lambda: self._ask([self._order()])),
            (15, lambda: self._ask([self._small() for _ in range(self._dice.choice((2, 2, 3, 8)))])),
            (6, lambda: self._ask([self._order()._replace(last=True)])),
            (5, lambda: self._ask([self._order()], half_close=True)),
            (4, self._leave_early),
            (4, self._leave_late),
            (3, self._half_close_early),
        )

    def _order(self) -> Order:
        dice = self._dice
        body = dice.randbytes(dice.choice(BODIES))
        return self._small()._replace(
            lines=dice.choice(LINES), body=body, chunked=bool(body) and dice.random() < 0.5
        )

    def _small(self) -> Order:
        """Return an order that can be sent with others before an answer is read."""
        dice = self._dice
        return Order(
            secrets.token_hex(8),
            dice.choice(("sleep", "sleep", "spin")),
            dice.choice(MILLIS),
            dice.choice(("length", "chunks")),
            1,
        )

    # What is answered

    def _ask(self, orders: list[Order], *, half_close: bool = False) -> None:
        """Send requests, and again what the server need not have answered; check all answers."""
        for _ in range(_ATTEMPTS):
            orders = self._attempt(orders, half_close)
            if not orders:
                return
            self._race.note("retried")
        self._race.note_fault("lost", f"not answered in {_ATTEMPTS} attempts: {orders}")

    def _attempt(self, orders: list[Order], half_close: bool) -> list[Order]:
        """Return the orders that must be sent again."""
        fresh, idle_since = self._kept is None, self._asked
        conn = self._connection()
        left, closing = list(orders), False
        try:
            began = time.monotonic()
            self._send(conn, b"".join(order.rendered() for order in orders))
            if half_close:
                conn.sock.shutdown(socket.SHUT_WR)
            while left and not closing:
                answer = conn.read()
                self._judge(left.pop(0), answer, time.monotonic() - began)
                closing = answer.closing
            self._after(conn, closing=closing or half_close)
        except (RequestFailed, OSError) as error:
            conn.close()
            unanswered = isinstance(error, OSError) or error.kind in {"reset", "empty"}
            if unanswered and len(left) == len(orders) and not fresh and self._may_close(idle_since):
                return left
            what = f"{error!r}; {len(left)} of {len(orders)} left, {'fresh' if fresh else 'kept'}"
            self._race.note_fault(
                "lost", f"{what}, {time.monotonic() - idle_since:.3f} s idle, {orders[0]!r:.200}"
            )
            return []
        return left

    def _connection(self) -> Kept:
        conn, self._kept = self._kept or Kept(self._race.address), None
        self._asked = time.monotonic()
        return conn

    def _may_close(self, idle_since: float) -> bool:
        """Return whether the server may have closed a connection that was used last at a time."""
        return self._race.stopping or time.monotonic() - idle_since >= self._race.keepalive

    def _judge(self, order: Order, answer: Answer, seconds: float) -> None:
        if not order.is_answer(answer):
            self._race.note_fault("wrong", f"{answer.head!r} {answer.body[:200]!r} for {order!r:.200}")
        elif order.last and not answer.closing:
            self._race.note_fault("wrong", f"{answer.head!r} does not say that the connection ends")
        else:
            self._race.note_answer(seconds)

    def _after(self, conn: Kept, *, closing: bool) -> None:
        """Look at what comes after the answers: the end, or nothing."""
        if conn.rest:
            self._race.note_fault("wrong", f"more than was asked for: {conn.rest!r}")
        if not closing:
            self._kept = conn
            return
        if not conn.ended():
            self._race.note_fault("wrong", "something instead of the end")
        conn.close()

    def _send(self, conn: Kept, data: bytes) -> None:
        """Send all at once, or in pieces with pauses in between."""
        cuts = sorted(self._dice.randrange(len(data)) for _ in range(self._dice.choice((0, 0, 0, 1, 2))))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if begin:
                time.sleep(self._dice.choice((0, 0.0005, 0.003)))
            conn.send(data[begin:end])

    # What is not waited for

    def _leave_early(self) -> None:
        """Reset the connection before a whole request was sent."""
        data = self._order().rendered()
        self._leave(data[: self._dice.randrange(len(data))])

    def _leave_late(self) -> None:
        """Reset it when one or more were sent, at any time until they are answered."""
        orders = [self._small() for _ in range(self._dice.choice((0, 0, 1)))]
        self._leave(b"".join(order.rendered() for order in [*orders, self._order()]))

    def _leave(self, data: bytes) -> None:
        conn = self._connection()
        try:
            conn.send(data)
            time.sleep(self._dice.choice((0, 0, 0.001, 0.004, 0.02)))
        except RequestFailed:
            pass  # the server was the first to leave, as it may where the connection was idle
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        conn.close()
        self._race.note("left")

    def _half_close_early(self) -> None:
        """Say that nothing more comes before the request is whole: it must not be answered as if it was."""
        order = self._order()
        data = order.rendered()
        conn = self._connection()
        try:
            conn.send(data[: self._dice.randrange(len(data))])
            conn.sock.shutdown(socket.SHUT_WR)
            answer = conn.read()
        except (RequestFailed, OSError):
            pass  # no answer is the usual one
        else:
            if answer.status == 200:
                self._race.note_fault("wrong", f"{answer.head!r} for half of {order!r:.200}")
        conn.close()
        self._race.note("half closed")
