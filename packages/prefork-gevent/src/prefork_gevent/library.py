# SPDX-License-Identifier: MIT
"""gevent, as prefork knows it. Imported in the worker process only."""

from __future__ import annotations

import socket
from math import inf
from typing import TYPE_CHECKING, Any, Final

import gevent
import gevent.hub
import gevent.monkey
import gevent.socket

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

_READ: Final = 1
_WRITE: Final = 2
"""Events of the event loop, as `hub.loop.io` takes them."""

_TICK: Final = 0.25
"""Seconds after which who waits again and again comes back: a timer of its own for each wait costs 2 µs."""


def patch() -> None:
    """Make the standard library cooperative."""
    if socket.socket is not gevent.socket.socket:
        # What a configuration file has patched is undone in the arbiter, and gevent does nothing twice.
        gevent.monkey.saved.clear()
    gevent.monkey.patch_all()


class Gevent:
    """The greenlets of this thread; see `prefork.worker.Greenlets`.

    Args:
        log: the error log, which gets what greenlets of the application raise.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._hub = gevent.get_hub()
        self._run_callback = self._hub.loop.run_callback
        self._log = log
        self._hub.handle_error = self._failed

    def defer(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call a function in a greenlet of its own, as soon as the calling greenlet waits for something."""
        stop: Callable[[], object] = self._run_callback(gevent.spawn, call).stop
        return stop

    def pause(self) -> None:
        """Let the other greenlets run that can."""
        gevent.sleep(0)

    def wait(self, fd: int, timeout: float, *, to_write: bool) -> bool:
        """Let other greenlets run until a descriptor is ready."""
        waiter = gevent.hub.Waiter(self._hub)
        io = self._hub.loop.io(fd, _WRITE if to_write else _READ)
        timer = self._hub.loop.timer(timeout) if timeout != inf else None
        io.start(waiter.switch, True)
        if timer is not None:
            timer.start(waiter.switch, False)
        try:
            return bool(waiter.get())
        finally:
            io.stop()
            io.close()
            if timer is not None:
                timer.stop()
                timer.close()

    def waits_for(self, fd: int) -> Callable[[float], object]:
        """Return a quick way to wait for the same descriptor again and again."""
        return _Waits(self._hub, fd).wait

    def current(self) -> Any:
        """Return the calling greenlet."""
        return gevent.getcurrent()

    def offered(self, sock: socket.socket) -> Mapping[str, object]:  # noqa: ARG002
        """Return nothing more: libraries for gevent know `gunicorn.socket`."""
        return {}

    def _failed(self, context: Any, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Log what a greenlet of the application has raised, where nobody waits for it."""
        if not issubclass(kind, gevent.GreenletExit):
            self._log.error("error in a greenlet: %s", context, exc_info=(kind, error, trace))


class _Waits:
    """Waits for one descriptor, of whichever greenlet.

    Args:
        hub: of this thread.
        fd: the descriptor.
    """

    def __init__(self, hub: Any, fd: int) -> None:
        self._hub = hub
        self._io = hub.loop.io(fd, _READ)
        self._tick = hub.loop.timer(_TICK, _TICK)
        self._tick.start(self._ticked)
        self._waiting: Any = None

    def _ticked(self) -> None:
        if self._waiting is not None:
            self._waiting.switch()

    def wait(self, timeout: float) -> None:
        """Wait until the descriptor can be read, or time is up, or a little earlier."""
        switch = gevent.getcurrent().switch
        timer = callback = None
        if not timeout:
            callback = self._hub.loop.run_callback(switch)
        elif timeout < _TICK:
            timer = self._hub.loop.timer(timeout)
            timer.start(switch)
        self._io.start(switch)
        self._waiting = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiting = None
            self._io.stop()
            if callback is not None:
                callback.stop()  # the descriptor may have been first
            if timer is not None:
                timer.stop()
                timer.close()
