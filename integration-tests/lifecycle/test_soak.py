# SPDX-License-Identifier: MIT
"""A worker that has served very many requests, and lost very many clients, is as large as it was."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from support.application import deploy
from support.server import Server

from prefork.testing import client, processes
from prefork.testing.waiting import until
from prefork.trial.answers import REPEAT

KEPT: Final = 16
"""Connections on which the requests come."""

PARTS: Final = 10
"""In how many parts the load comes; after each the worker is looked at, and the first is for warming up."""

GROWTH: Final = 1024
"""KiB by which it may grow in all others. The allocator spreads what it has; objects are counted exactly."""

BLOCKS: Final = 200
"""Pieces of memory more that Python may have: some connections that have come and are not closed yet."""

COUNT: Final = """if path == '/blocks':
        import gc
        gc.collect()  # of what the worker shares with the arbiter, much becomes its own by this
        start_response('200 OK', [])
        return [str(sys.getallocatedblocks()).encode()]"""

BROKEN: Final = client.render("/broken", "POST", b"x" * 1000)
CUTS: Final = (0, 10, len(BROKEN) - 500, len(BROKEN))
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for 0 seconds. Closing resets."""


class Size(NamedTuple):
    """What a process takes of the machine."""

    descriptors: tuple[str, ...]
    blocks: int
    """Pieces of memory that its Python objects have."""
    rss: int
    pss: int
    uss: int
    """KiB, as the two before: memory that no other process shares."""

    def __str__(self) -> str:
        memory = f"RSS {self.rss}, PSS {self.pss}, USS {self.uss} KiB"
        return f"{len(self.descriptors)} descriptors, {self.blocks} blocks, {memory}"


def measure(server: Server, pid: int) -> Size:
    # Over a connection of its own: those that were in the queue before it have been accepted by then.
    blocks = int(server.ask("/blocks").text)
    until(lambda: server.connections() == KEPT, "no connections but those that are kept")
    fields = processes.memory(pid)
    kinds = [name.partition(":")[0] for name in processes.descriptors(pid)]
    own = fields["Private_Clean"] + fields["Private_Dirty"]
    return Size(tuple(kinds), blocks, fields["Rss"], fields["Pss"], own)


def ask(kept: list[client.Kept], pid: int, numbers: range) -> None:
    """Ask on all connections at once, again and again, and check each answer."""
    for start in numbers[:: len(kept)]:
        for place, conn in enumerate(kept):
            conn.send(client.render(f"/{start + place}"))
        for place, conn in enumerate(kept):
            answer = conn.read()
            assert answer.body == f"one {pid} /{start + place}\n".encode() * REPEAT
            assert not answer.closing


def break_off(address: client.Address, numbers: range) -> None:
    """Connect, and leave before a request, in its head, in its body, or when it is answered."""
    for number in numbers:
        with client.connect(address) as sock:
            client.send(sock, BROKEN[: CUTS[number % len(CUTS)]])
            if number % 5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def test_a_worker_does_not_grow(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Neither its memory nor the number of its descriptors, whether clients stay or leave in the middle."""
    deploy(tmp_path, request=COUNT)
    requests = pytestconfig.getoption("--requests") // PARTS
    aborts = pytestconfig.getoption("--aborts") // PARTS
    sizes = []
    with (
        Server(tmp_path, "-w 1 -k gthread --threads 4 --log-level warning app:app") as server,
        ExitStack() as stack,
    ):
        (pid,) = server.workers()
        kept = [client.Kept(server.address) for _ in range(KEPT)]
        for conn in kept:
            stack.callback(conn.close)
        for part in range(PARTS):
            breaker = threading.Thread(target=break_off, args=(server.address, range(aborts)))
            breaker.start()
            ask(kept, pid, range(part * requests, (part + 1) * requests))
            breaker.join()
            sizes.append(measure(server, pid))
            print(f"{(part + 1) * requests} requests, {(part + 1) * aborts} broken off: {sizes[-1]}")
        assert server.workers() == [pid]
        assert "Traceback" not in server.log()
    first, last = sizes[0], sizes[-1]
    assert {size.descriptors for size in sizes} == {first.descriptors}
    assert last.blocks - first.blocks < BLOCKS, sizes
    assert last.uss - first.uss < GROWTH, sizes
    assert last.pss - first.pss < GROWTH, sizes
