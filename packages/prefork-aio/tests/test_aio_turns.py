# SPDX-License-Identifier: MIT
"""When prefork has its turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from prefork_aio.turns import Turns


class Pipe:
    """What wants turns."""

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        self.within = 3600.0

    def call(self) -> None:
        """Want one now."""
        os.write(self._other, b".")

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        os.close(self._other)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def count(pipe: Pipe, want: int, *, calls: bool = False, soon: float = 3600.0) -> int:
    """Give turns until there were so many, and for a moment longer; return how many there were."""

    async def run() -> int:
        had = 0
        enough = asyncio.Event()

        def turn() -> None:
            nonlocal had
            had += 1
            if calls and had > 1:
                os.read(pipe.fd, 1)
            if had == want:
                turns.end()
                enough.set()

        turns = Turns(asyncio.get_running_loop(), turn)
        turns.begin(pipe)
        turns.soon(soon)
        if calls:
            pipe.call()
        await asyncio.wait_for(enough.wait(), 20)
        if calls:
            pipe.call()  # nobody is there for it any more
        await asyncio.sleep(0.02)
        return had

    return asyncio.run(run())


def test_there_is_one_at_once_and_one_when_the_descriptor_is_readable(pipe: Pipe) -> None:
    assert count(pipe, 2, calls=True) == 2


def test_there_is_one_in_time_when_nothing_comes(pipe: Pipe) -> None:
    pipe.within = 0.001
    assert count(pipe, 5) == 5


def test_one_can_be_had_sooner(pipe: Pipe) -> None:
    assert count(pipe, 2, soon=0.001) == 2
