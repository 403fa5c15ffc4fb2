# SPDX-License-Identifier: MIT
"""Stacks that no thread has: those of greenlets and asyncio tasks that wait for something.

Decides how they are found and how they look, which is as `faulthandler` shows those of threads. What waits is
for who runs it to say. Knows no library of greenlets and no event loop.
"""

from __future__ import annotations

from itertools import islice
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST: Final = 50
"""How many are shown: the first, which a worker names in the order of their age."""

_DEEPEST: Final = 100
"""How many calls of each, the innermost."""

_LONGEST: Final = 200
"""Characters of a name, which may be a request line."""

_INNER: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
"""What coroutines, generators and asynchronous generators call their frame, and what they wait for."""


def shown(waiting: Iterable[tuple[str, object]]) -> str:
    """Return the stacks of what waits, as text.

    Args:
        waiting: a name for each, and its frame, its coroutine or its asyncio task.
    """
    parts = []
    waits = iter(waiting)
    for name, what in islice(waits, MOST):
        calls = [
            f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'
            for frame in islice(_innermost_first(what), _DEEPEST)
        ]
        parts.append(f"\n{name[:_LONGEST]}, waiting (most recent call first):\n{''.join(calls)}")
    more = sum(1 for _ in waits)
    if more:
        parts.append(f"\n... and {more} more that wait\n")
    return "".join(parts)


def _innermost_first(what: object) -> Iterator[FrameType]:
    if isinstance(what, FrameType):
        frame: FrameType | None = what
        while frame is not None:
            yield frame
            frame = frame.f_back
    else:
        yield from reversed(list(islice(_outermost_first(what), 10 * _DEEPEST)))


def _outermost_first(what: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine or a task, and of what it waits for as far as that can be seen."""
    while what is not None:
        if hasattr(what, "get_coro"):
            yield from _outermost_first(what.get_coro())
            # What a task waits for is a future; it may be another task. Only this attribute has it.
            future = getattr(what, "_fut_waiter", None)
            what = future if hasattr(future, "get_coro") else None
            continue
        for frame, inner in _INNER:
            if hasattr(what, frame):
                found = getattr(what, frame)
                if found is not None:
                    yield found
                what = getattr(what, inner)
                break
        else:
            what = None
