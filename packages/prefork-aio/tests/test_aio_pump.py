# SPDX-License-Identifier: MIT
"""When the reception has its turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from prefork.worker import Arrival
from prefork_aio.pump import Pump


class Reception:
    """Counts its turns; never has a connection."""

    def __init__(self, within: float) -> None:
        self.fd, self._other = os.pipe()
        self.within = within
        self.keeps = True
        self.ended = False
        self.turns = 0

    def call(self) -> None:
        os.write(self._other, b".")

    def begin(self) -> None: ...

    def turn(self) -> Sequence[Arrival]:
        self.turns += 1
        if self.turns > 1 and self.within > 1.0:
            os.read(self.fd, 1)
        return ()

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)


async def turned(reception: Reception, count: int) -> None:
    """Wait until it has had so many turns."""
    reached = asyncio.Event()
    pump = Pump(
        asyncio.get_running_loop(),
        reception,
        lambda _: None,
        lambda: reached.set() if reception.turns >= count else None,
    )
    pump.start()
    if reception.within > 1.0:
        reception.call()
    await asyncio.wait_for(reached.wait(), 20)
    pump.stop()
    had = reception.turns
    await asyncio.sleep(0.02)
    assert reception.turns == had
    reception.close()


def test_it_has_one_at_the_start_and_when_there_is_something() -> None:
    asyncio.run(turned(Reception(within=3600.0), 2))


def test_it_has_one_in_time_when_there_is_nothing() -> None:
    asyncio.run(turned(Reception(within=0.001), 5))
