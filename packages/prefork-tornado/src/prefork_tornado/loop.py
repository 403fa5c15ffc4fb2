# SPDX-License-Identifier: MIT
"""The event loop of a worker: when it is made, and what of Tornado must not have it.

An application may make things of its event loop while it is imported, so there is one already. But a loop
must not be shared by processes: one that was made in a template is replaced in each worker.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from tornado import autoreload
from tornado.log import gen_log

if TYPE_CHECKING:
    import logging


_made: Final[list[asyncio.AbstractEventLoop]] = []
"""Kept, because a loop that is forgotten closes what it shares with the process that it was forked from."""


class UnforkedLoop(asyncio.SelectorEventLoop):
    """The loop of a process that may be a template: it notes whether something is left to it.

    Attributes:
        process: where it was made.
        used: whether something waits to be run by it.
    """

    def __init__(self) -> None:
        self.process = 0
        self.used = False
        super().__init__()
        self.process = os.getpid()
        self.used = False

    def call_soon(self, *args: Any, **named: Any) -> asyncio.Handle:  # type: ignore[override]
        """See asyncio; tasks come here, too."""
        self.used = True
        return super().call_soon(*args, **named)

    def call_at(self, *args: Any, **named: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """See asyncio; `call_later` comes here, too."""
        self.used = True
        return super().call_at(*args, **named)

    def call_soon_threadsafe(self, *args: Any, **named: Any) -> asyncio.Handle:  # type: ignore[override]
        """See asyncio; callbacks of an IOLoop come here."""
        self.used = True
        return super().call_soon_threadsafe(*args, **named)


def prepare(*, forks_later: bool) -> None:
    """Make the loop that the application finds while it is imported, and keep Tornado's reloader from it.

    Args:
        forks_later: whether this process may be a template, of which workers are forked.
    """
    _made.append(UnforkedLoop() if forks_later else asyncio.new_event_loop())
    asyncio.set_event_loop(_made[-1])
    # It would replace the program of a worker process, in the middle of its requests.
    autoreload.start = _decline


def _decline(check_time: int = 500) -> None:  # noqa: ARG001 (as Tornado calls it)
    gen_log.warning("Tornado's autoreload does not run in a worker; use prefork --reload")


def own(log: logging.Logger) -> asyncio.AbstractEventLoop:
    """Return the loop of this process, which is the current one from now on.

    Args:
        log: is told when the application has left something to the loop of the template.
    """
    made = _made[-1]
    if isinstance(made, UnforkedLoop) and made.process != os.getpid():
        if made.used:
            log.warning(
                "what the application has started on its event loop while it was imported is lost, because"
                " workers are forked from a template: start it in the first request, or do without --preload"
            )
        _made.append(asyncio.new_event_loop())
        asyncio.set_event_loop(_made[-1])
    return asyncio.get_event_loop()  # the application may have put another in its place
