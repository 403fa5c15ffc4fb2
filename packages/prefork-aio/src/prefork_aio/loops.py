# SPDX-License-Identifier: MIT
"""The event loop of a worker: which one, how it is run, and how it ends.

Decides that nothing which a task of the application raises ends the worker, and that whatever refuses to end
does not keep it. Knows nothing of connections. Imported in the worker process only.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

FAREWELL: Final = 0.5
"""Seconds in which tasks that are cancelled at the very end may clean up."""


def make(
    name: str, log: logging.Logger, installed: Callable[[str], object] = find_spec
) -> asyncio.AbstractEventLoop:
    """Return a new event loop, which is the thread's from now on.

    Args:
        name: "asyncio", "uvloop", or "auto" for the latter if it is installed.
        log: the error log, which gets what callbacks and forgotten tasks raise.
        installed: returns None for a module that is not there.
    """
    loop = _new(name, installed)
    loop.set_debug(False)  # whatever PYTHONASYNCIODEBUG says: tracebacks would be sent to clients

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("%s", context.get("message", "error in the event loop"), exc_info=context.get("exception"))

    loop.set_exception_handler(failed)
    asyncio.set_event_loop(loop)
    return loop


def _new(name: str, installed: Callable[[str], object]) -> asyncio.AbstractEventLoop:
    if name == "uvloop" or (name == "auto" and installed("uvloop") is not None):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T], log: logging.Logger) -> T:
    """Run a coroutine to its end.

    A task of the application that calls sys.exit() stops the loop, in asyncio and in uvloop. That is logged,
    and the loop goes on.

    Args:
        loop: the event loop.
        main: the coroutine.
        log: the error log.
    """
    task = loop.create_task(main)
    while True:
        try:
            return loop.run_until_complete(task)
        except SystemExit as error:
            if task.done():
                raise
            log.exception("a task of the application called sys.exit(%r)", error.code)


def close(loop: asyncio.AbstractEventLoop, within: float = FAREWELL) -> None:
    """Cancel all tasks that are left, and close the loop. What refuses to end is left behind.

    Args:
        loop: the event loop, which does not run.
        within: seconds in which they may clean up.
    """
    try:
        loop.run_until_complete(_end_all(within))
    except SystemExit:
        pass  # of a task that was cancelled
    except OSError:
        return  # uvloop needs two descriptors to run. If there are none it cannot be closed after that either
    finally:
        asyncio.set_event_loop(None)
    loop.close()


async def _end_all(within: float) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=within)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_asyncgens(), within)
    except TimeoutError:
        pass
