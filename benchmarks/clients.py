# SPDX-License-Identifier: MIT
"""Clients that wrk cannot play: idle crowds, slow ones, requests at a rate that no answer changes.

A program of its own, so that it can be pinned to its own core: `clients.py '{"mode": "paced", …}'`. Each
request carries a token that its answer must return. It prints `ready` when a crowd is in place, holds
it until standard input ends, and prints what it saw as one line of JSON. It knows no server.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import os
import random
import re
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fields import BROWSER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

BROWSER_LINES: Final = "".join(f"{name}: {value}\r\n" for name, value in BROWSER.items())
DICE: Final = random.Random()  # noqa: S311 - for tokens and whims
LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CLOSES: Final = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
PIECE: Final = 16_384
UPLOAD: Final = 1_048_576


class LostError(Exception):
    """The connection ended before the whole answer was there."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to play, as given on the command line.

    Args:
        mode: a name of `MODES`.
        host: where the server listens.
        port: the same.
        path: what is asked for; the token follows as the query.
        persistent: whether connections are kept open.
        rate: requests per second (paced), connections per second (spread; 0 for all at once).
        seconds: for how long requests are started (paced, closed).
        patience: seconds that answers are waited for after that; what is missing then is lost.
        settle: seconds at the begin whose answers do not count for the rate (paced, closed).
        connections: how many clients (closed, burst, idle, spread).
        repeats: how many bursts.
        aborts: share of requests whose client leaves before the answer (closed).
        crowd: kind → how many (slow).
    """

    mode: str
    host: str
    port: int
    path: str = "/echo"
    persistent: bool = True
    rate: float = 0.0
    seconds: float = 0.0
    patience: float = 2.0
    settle: float = 0.0
    connections: int = 1
    repeats: int = 1
    aborts: float = 0.0
    crowd: dict[str, int] = field(default_factory=dict)

    def request(self, token: str) -> bytes:
        """Return one request with a token."""
        connection = "keep-alive" if self.persistent else "close"
        return (
            f"GET {self.path}?{token} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"{BROWSER_LINES}Connection: {connection}\r\n\r\n"
        ).encode()


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile of values, NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Exchange(asyncio.Protocol):
    """One connection: a request at a time, and the whole answer to it."""

    def __init__(self) -> None:
        self.buffer = b""
        self.waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self.transport: asyncio.Transport | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Wake the request when its answer is complete."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or self.waiting is None or self.waiting.done():
            return
        found = LENGTH.search(self.buffer, 0, end + 2)
        whole = end + 4 + int(found[1]) if found else end + 4
        if len(self.buffer) < whole:
            return
        if CLOSES.search(self.buffer, 0, end + 2):
            self.open = False
        body, status = self.buffer[end + 4 : whole], int(self.buffer[9:12])
        self.buffer = self.buffer[whole:]
        self.waiting.set_result((status, body))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Fail the request that waits."""
        self.open = False
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(LostError())

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of the answer.

        Raises:
            LostError: the connection ended first.
        """
        assert self.transport is not None
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiting

    def leave(self) -> None:
        """Close the connection, whatever is on its way."""
        self.open = False
        if self.transport is not None:
            self.transport.abort()


async def connect(spec: Spec) -> Exchange:
    """Return a new connection."""
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Exchange, spec.host, spec.port))[1]


@dataclass(slots=True)
class Seen:
    """What the answers were."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds until each 200, and of what never came until it was given up."""
    finished: list[float] = field(default_factory=list)
    """When each 200 came."""

    def count(self, status: int, body: bytes, token: str, begun: float) -> None:
        """Count one answer."""
        self.statuses[status] += 1
        if status != 200:
            return
        if body != token.encode():
            self.wrong += 1
        now = time.perf_counter()
        self.finished.append(now)
        self.latencies.append(now - begun)

    def lose(self, begun: float) -> None:
        """Count a request that was not answered."""
        self.lost += 1
        self.latencies.append(time.perf_counter() - begun)

    def rate(self, spec: Spec, end: float) -> float:
        """Return the rate of the 200s that came in time, when all had settled, and not after the end."""
        span = spec.seconds - spec.settle
        return sum(end - span <= moment < end for moment in self.finished) / span

    def summary(self) -> dict[str, float]:
        """Return the figures; latencies in microseconds."""
        answered = self.statuses[200]
        other = sum(self.statuses.values()) - answered - self.statuses[503]
        named = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99}
        return {
            "answered": answered,
            "shed": self.statuses[503],
            "other": other,
            "wrong": self.wrong,
            "lost": self.lost,
            **{name: percentile(self.latencies, share) * 1e6 for name, share in named.items()},
        }


@dataclass(slots=True)
class Pool:
    """Connections that are free for the next request."""

    spec: Spec
    free: list[Exchange] = field(default_factory=list)

    async def take(self) -> Exchange:
        """Return an open connection, the one that was used last."""
        while self.free:
            exchange = self.free.pop()
            if exchange.open:
                return exchange
        return await connect(self.spec)

    def give(self, exchange: Exchange) -> None:
        """Take a connection back after an answer."""
        if self.spec.persistent and exchange.open:
            self.free.append(exchange)
        else:
            exchange.leave()


async def once(pool: Pool, seen: Seen, token: str) -> None:
    """Make one request and count what came of it, also when it is cancelled."""
    begun = time.perf_counter()
    exchange = None
    try:
        exchange = await pool.take()
        status, body = await exchange.ask(pool.spec.request(token))
    except (LostError, OSError, asyncio.CancelledError):
        seen.lose(begun)
        if exchange is not None:
            exchange.leave()
        return
    seen.count(status, body, token, begun)
    pool.give(exchange)


async def paced(spec: Spec) -> dict[str, float]:
    """Start requests at a rate, whether or not earlier ones were answered."""
    pool, seen, tasks, late = Pool(spec), Seen(), [], 0.0
    begun = time.perf_counter()
    for number in range(round(spec.rate * spec.seconds)):
        due = begun + number / spec.rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        late = max(late, time.perf_counter() - due)
        tasks.append(asyncio.create_task(once(pool, seen, f"{number:08d}-{DICE.getrandbits(64):016x}")))
    end = begun + spec.seconds
    left = max(0.0, end - time.perf_counter())
    _, missing = await asyncio.wait(tasks, timeout=left + spec.patience)
    for task in missing:
        task.cancel()
    await asyncio.gather(*missing)
    summary = seen.summary()
    return {
        **summary,
        "rate": seen.rate(spec, end),
        "offered": spec.rate,
        "late_us": late * 1e6,
    }


async def closed(spec: Spec) -> dict[str, float]:
    """Let a number of clients ask again and again; some leave before their answer."""
    pool, seen = Pool(spec), Seen()
    aborted = 0
    end = time.perf_counter() + spec.seconds

    async def client(name: int) -> None:
        nonlocal aborted
        number = 0
        while time.perf_counter() < end:
            number += 1
            token = f"{name:04d}-{number:08d}-{DICE.getrandbits(64):016x}"
            if DICE.random() >= spec.aborts:
                await once(pool, seen, token)
                continue
            aborted += 1
            request = spec.request(token)
            with contextlib.suppress(OSError):
                exchange = await pool.take()
                assert exchange.transport is not None
                exchange.transport.write(request[: DICE.randint(1, len(request))])
                await asyncio.sleep(DICE.choice((0, 0, 0.001)))
                exchange.leave()

    clients = [asyncio.create_task(client(name)) for name in range(spec.connections)]
    _, missing = await asyncio.wait(clients, timeout=spec.seconds + spec.patience)
    for task in missing:
        task.cancel()
    await asyncio.gather(*missing, return_exceptions=True)
    return {**seen.summary(), "rate": seen.rate(spec, end), "aborted": aborted}


async def burst(spec: Spec) -> dict[str, float]:
    """Send a number of requests at once on new connections; say how long until the last answer."""
    seconds = []
    seen = Seen()
    for repeat in range(spec.repeats):
        pool = Pool(spec)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(spec.connections):
                group.create_task(once(pool, seen, f"{repeat}-{number}"))
        seconds.append(time.perf_counter() - begun)
        for exchange in pool.free:
            exchange.leave()
        await asyncio.sleep(0.1)
    return {**seen.summary(), "seconds": sorted(seconds)[len(seconds) // 2]}


async def spread(spec: Spec) -> dict[str, float]:
    """Hold connections that have had one answer each, and say how the workers that gave it share them."""
    begun = time.perf_counter()

    async def client(number: int) -> tuple[Exchange, bytes]:
        if spec.rate:
            await asyncio.sleep(begun + number / spec.rate - time.perf_counter())
        exchange = await connect(spec)
        return exchange, (await exchange.ask(spec.request(str(number))))[1]

    held = await asyncio.gather(*map(client, range(spec.connections)))
    shares = Counter(worker for _, worker in held)
    ready()
    await ended()
    still = sum(exchange.open for exchange, _ in held)
    for exchange, _ in held:
        exchange.leave()
    return {"held": still, "workers": len(shares), "most": max(shares.values())}


async def ended() -> None:
    """Wait until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def ready() -> None:
    """Say that the crowd is in place."""
    print("ready", flush=True)


async def heard(sock: socket.socket, seconds: float) -> bytes | None:
    """Return what the server sends within some seconds, None for nothing."""
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65_536), seconds)
    except TimeoutError:
        return None


async def drip(sock: socket.socket, _spec: Spec, started: Callable[[], None]) -> str:
    """Send a head that never ends, one byte a second."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"GET /echo?drip HTTP/1.1\r\nHost: x\r\nX-Drip: ")
    started()
    while await heard(sock, 1.0) is None:
        await loop.sock_sendall(sock, b"a")
    return "refused"


async def send_slowly(sock: socket.socket, _spec: Spec, started: Callable[[], None]) -> str:
    """Upload 1 MB in pieces of 16 KiB, two a second."""
    loop = asyncio.get_running_loop()
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {UPLOAD}\r\nConnection: close\r\n\r\n"
    await loop.sock_sendall(sock, head.encode())
    started()
    for _ in range(UPLOAD // PIECE):
        await loop.sock_sendall(sock, b"u" * PIECE)
        if await heard(sock, 0.5) is not None:
            return "refused"
    answer = await heard(sock, 30)
    return "answered" if answer and answer.endswith(str(UPLOAD).encode()) else "refused"


async def read_slowly(sock: socket.socket, _spec: Spec, started: Callable[[], None]) -> str:
    """Ask for 1 MB and take 1 kB of it a second."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"GET /megabyte HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    started()
    while await loop.sock_recv(sock, 1_000):  # noqa: ASYNC110 - its slowness is the point
        await asyncio.sleep(1.0)
    return "refused"


SLOW: Final[dict[str, Callable[[socket.socket, Spec, Callable[[], None]], Awaitable[str]]]] = {
    "drip": drip,
    "send": send_slowly,
    "read": read_slowly,
}


def nothing() -> None:
    """Do nothing."""


async def slow(spec: Spec) -> dict[str, float]:
    """Hold a crowd of slow clients; who is sent away comes again."""
    # Normal clients share the core, and what this one takes of it must not count as the server's latency.
    os.nice(19)
    loop = asyncio.get_running_loop()
    seen: Counter[str] = Counter()
    starting = sum(spec.crowd.values())
    in_place = asyncio.Event()

    def started() -> None:
        nonlocal starting
        starting -= 1
        if starting == 0:
            in_place.set()

    async def member(kind: str) -> None:
        report: Callable[[], None] = started
        while True:
            with socket.socket() as sock:
                sock.setblocking(False)
                # Before the connection, so that it is the window: else the kernel takes the whole answer.
                if kind == "read":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                try:
                    await loop.sock_connect(sock, (spec.host, spec.port))
                    outcome = await SLOW[kind](sock, spec, report)
                except OSError:
                    outcome = "refused"
                seen[f"{kind}_{outcome}"] += 1
                report = nothing  # each is counted once
            await asyncio.sleep(0.05)

    members = [asyncio.create_task(member(kind)) for kind, count in spec.crowd.items() for _ in range(count)]
    await asyncio.wait_for(in_place.wait(), 30)
    await asyncio.sleep(1.0)  # the server has looked at all of them, and the readers' windows are full
    ready()
    await ended()
    for task in members:
        task.cancel()
    await asyncio.gather(*members, return_exceptions=True)
    return dict(seen)


def whole_answer(sock: socket.socket) -> bytes:
    """Return head and body of one answer, or what there was of it."""
    data = b""
    while piece := sock.recv(65_536):
        data += piece
        end = data.find(b"\r\n\r\n")
        found = LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if found and len(data) >= end + 4 + int(found[1]):
            break
    return data


async def idle(spec: Spec) -> dict[str, float]:
    """Hold connections that have had one answer each and ask for nothing more."""
    held, wrong = [], 0
    for number in range(spec.connections):
        sock = socket.create_connection((spec.host, spec.port), timeout=10)
        held.append(sock)
        sock.sendall(spec.request(str(number)))
        wrong += not whole_answer(sock).endswith(b"\r\n\r\n" + str(number).encode())
    ready()
    await ended()
    still = 0
    for sock in held:
        sock.setblocking(False)
        with contextlib.suppress(ConnectionError):
            try:
                sock.recv(1)  # nothing can be there but its end
            except BlockingIOError:
                still += 1
    return {"connections": len(held), "held": still, "wrong": wrong}


MODES: Final[dict[str, Callable[[Spec], Coroutine[Any, Any, dict[str, float]]]]] = {
    "paced": paced,
    "closed": closed,
    "burst": burst,
    "slow": slow,
    "idle": idle,
    "spread": spread,
}


def main(text: str) -> None:
    """Play what a line of JSON says."""
    spec = Spec(**json.loads(text))
    gc.disable()  # a pause of the client would be read as one of the server
    print(json.dumps(asyncio.run(MODES[spec.mode](spec))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
