# SPDX-License-Identifier: MIT
"""Which tasks of an event loop are shown when somebody asks what a worker does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Container, Mapping


def waiting(
    loop: asyncio.AbstractEventLoop, requests: Mapping[asyncio.Task[Any], str], idle: Container[object] = ()
) -> list[tuple[str, object]]:
    """Return the tasks that wait: those of requests, then those that they may wait for.

    Args:
        loop: the event loop.
        requests: the request line of each task that answers one, the oldest first.
        idle: tasks of which there is nothing to say.
    """
    running = asyncio.current_task(loop)  # the main thread's stack shows it
    shown = {running, *requests}
    named: list[tuple[str, object]] = [(line, task) for task, line in requests.items() if task is not running]
    others = [task for task in asyncio.all_tasks(loop) if task not in shown and task not in idle]
    others.sort(key=lambda task: (len(task.get_name()), task.get_name()))  # they are numbered as they begin
    return named + [(f"task {task.get_name()}", task) for task in others]
