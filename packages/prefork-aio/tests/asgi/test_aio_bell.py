# SPDX-License-Identifier: MIT
"""Several tasks wait for one thing."""

from __future__ import annotations

import asyncio

from prefork_aio.asgi.bell import Bell


def test_all_go_on_but_the_one_that_was_cancelled() -> None:
    async def main() -> None:
        bell = Bell(asyncio.get_running_loop())
        first, second, third = waiting = [asyncio.create_task(bell.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert [task.done() for task in waiting] == [False, True, False]
        bell.ring()
        await asyncio.gather(first, third)
        late = asyncio.create_task(bell.wait())
        await asyncio.sleep(0)
        assert not late.done(), "a ring is for those who wait already"
        bell.ring()
        await late

    asyncio.run(main())
