# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import socket

from tornado.iostream import StreamClosedError

from prefork_tornado.stream import Stream


def test_what_came_early_is_read_first() -> None:
    async def reads() -> bytes:
        near, far = socket.socketpair()
        far.sendall(b" and late\n")
        stream = Stream(near, b"early", closed=lambda: None)
        found = await stream.read_until(b"\n")
        stream.close()
        far.close()
        return found

    assert asyncio.run(reads()) == b"early and late\n"


def test_its_end_is_told_once_whoever_closes() -> None:
    async def ends() -> list[str]:
        told: list[str] = []
        near, far = socket.socketpair()
        stream = Stream(near, b"", closed=lambda: told.append("closed"))
        far.close()
        try:
            await stream.read_bytes(1)
        except StreamClosedError:
            told.append("end")
        stream.close()
        return told

    assert asyncio.run(ends()) == ["closed", "end"]
