# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import sys
import types
from typing import TYPE_CHECKING, Any

from prefork.process.suspended import MOST, shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Generator


@types.coroutine
def pause() -> Generator[None]:
    yield


async def inner() -> None:
    await pause()


async def outer() -> None:
    await inner()


async def pieces() -> AsyncIterator[int]:
    await inner()
    yield 1


async def reader() -> None:
    async for _ in pieces():
        pass


def names(text: str) -> list[str]:
    """Return the functions in what is shown."""
    return [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File ")]


def begun(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    coroutine.send(None)
    return coroutine


def test_a_coroutine_is_shown_with_what_it_waits_for() -> None:
    waits = begun(outer())
    text = shown([("GET /a", waits)])
    assert text.startswith("\nGET /a, waiting (most recent call first):\n  File ")
    assert names(text) == ["pause", "inner", "outer"]
    assert f'File "{__file__}", line {inner.__code__.co_firstlineno + 1} in inner\n' in text
    waits.close()


def test_one_that_has_not_begun_or_has_ended_is_no_error() -> None:
    waits = outer()
    assert names(shown([("early", waits)])) == ["outer"]
    waits.close()
    assert names(shown([("late", waits)])) == []


def test_what_cannot_be_looked_into_is_only_named() -> None:
    assert shown([("a future", object())]) == "\na future, waiting (most recent call first):\n"


def test_an_asynchronous_generator_is_shown_as_far_as_python_lets_see() -> None:
    waits = begun(reader())
    assert names(shown([("stream", waits)]))[-1] == "reader"
    waits.close()


def test_a_task_is_shown_with_the_task_that_it_waits_for() -> None:
    async def answer() -> str:
        async def child() -> None:
            await asyncio.sleep(60)

        async def parent() -> None:
            await asyncio.create_task(child())

        task = asyncio.create_task(parent())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        text = shown([("GET /", task)])
        task.cancel()
        return text

    assert names(asyncio.run(answer())) == ["sleep", "child", "parent"]


def test_a_frame_is_shown_with_its_callers() -> None:
    def called() -> str:
        return shown([("GET /", sys._getframe())])

    found = names(called())
    assert found[0] == "called"
    assert found[1] == "test_a_frame_is_shown_with_its_callers"


def test_of_many_the_first_are_shown_and_the_others_counted() -> None:
    waits = begun(inner())
    text = shown([(f"GET /{number}", waits) for number in range(MOST + 3)])
    assert f"GET /{MOST - 1}, waiting" in text
    assert f"GET /{MOST}, waiting" not in text
    assert text.endswith("\n... and 3 more that wait\n")
    waits.close()


def test_what_is_deep_is_shown_from_the_inside() -> None:
    async def deep(left: int) -> None:
        await (deep(left - 1) if left else inner())

    waits = begun(deep(150))
    found = names(shown([("GET /", waits)]))
    assert found[:3] == ["pause", "inner", "deep"]
    assert len(found) == 100
    waits.close()


def test_a_name_is_not_longer_than_a_line() -> None:
    assert max(map(len, shown([("GET /" + "a" * 9000, object())]).splitlines())) < 300
