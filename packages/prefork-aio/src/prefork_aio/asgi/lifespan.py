# SPDX-License-Identifier: MIT
"""The lifespan of an ASGI application: its start and end, once in each worker (ASGI, "Lifespan Protocol").

With "auto" an application that knows no lifespan is served without; with "on" that is an error.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_REASON: Final = "it does not say why"

_LAST: Final = 0.2
"""Seconds that an application has after it has said that it has ended."""


class Lifespan:
    """The lifespan of an application.

    Args:
        app: the application.
        log: the error log.
        required: whether it must have one.

    Attributes:
        state: what the application wants each scope to have a copy of.
        is_on: whether the application has one.
    """

    def __init__(self, app: Callable[..., Any], log: logging.Logger, *, required: bool) -> None:
        self._app = app
        self._log = log
        self._required = required
        self._orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self._has_asked = False
        self._failure: str | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        self.is_on = False

    async def start(self) -> None:
        """Start the application; return when it is ready.

        Raises:
            BootError: it cannot be started.
        """
        self._task = asyncio.create_task(self._live(), name="lifespan")
        self._orders.put_nowait({"type": "lifespan.startup"})
        await self._started.wait()
        if self._failure is not None:
            raise BootError(f"the application could not start: {self._failure}") from self._error
        if not self.is_on and self._required:
            raise BootError("the application has no lifespan, and --aio-lifespan is on") from self._error

    async def stop(self, within: float) -> None:
        """Let the application end.

        Args:
            within: seconds that it has for that.
        """
        task = self._task
        if task is None:
            return
        if self.is_on and not task.done():
            self._orders.put_nowait({"type": "lifespan.shutdown"})
            try:
                await asyncio.wait_for(self._ended.wait(), within)
            except TimeoutError:
                self._log.error("the application did not end its lifespan in time")
            else:
                # It may clean up after its last message, or wait for one more that never comes.
                await asyncio.wait([task], timeout=_LAST)
        task.cancel()
        await asyncio.wait([task], timeout=within)

    async def _live(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:  # noqa: BLE001 (the application call)
            self._note(error)
        self._started.set()
        self._ended.set()

    def _note(self, error: BaseException) -> None:
        self._error = error
        if not self._started.is_set():
            # The specification wants it to be served in both cases: one that knows no lifespan raises when it
            # is called, and one that has asked for its messages was about to start something.
            level = logging.WARNING if self._has_asked else logging.DEBUG
            shown = error if self._has_asked and not self._required else None
            self._log.log(
                level, "served without a lifespan: the application has raised %r", error, exc_info=shown
            )
        elif self.is_on and not isinstance(error, asyncio.CancelledError):
            self._log.error("error in the lifespan of the application", exc_info=error)

    async def _receive(self) -> dict[str, Any]:
        self._has_asked = True
        return await self._orders.get()

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self.is_on = True
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._failure = message.get("message") or _NO_REASON
            self._started.set()
        elif kind == "lifespan.shutdown.complete":
            self._ended.set()
        elif kind == "lifespan.shutdown.failed":
            self._log.error("the application could not end: %s", message.get("message") or _NO_REASON)
            self._ended.set()
        else:
            raise RuntimeError(f"unexpected message {kind!r} in a lifespan")
