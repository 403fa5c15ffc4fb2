# SPDX-License-Identifier: MIT
"""eventlet, as prefork knows it. Imported in the worker process only."""

from __future__ import annotations

import signal
import socket
import warnings
from math import inf
from typing import TYPE_CHECKING, Any, Final

with warnings.catch_warnings():
    # Its own word on its end is for whoever starts a server, who gets it from prefork, once.
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.green.socket
    import eventlet.patcher
    from eventlet import hubs

    from prefork_eventlet import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals that end a boot by what their handlers raise."""


class _TimeIsUp(Exception):
    """Ends a wait."""


def patch() -> None:
    """Make the standard library cooperative."""
    if socket.socket is not eventlet.green.socket.socket:
        # What a configuration file has patched is undone in the arbiter, and eventlet does nothing twice.
        eventlet.patcher.already_patched.clear()
    # It looks at every object there is, and would print whatever a handler raises meanwhile, and go on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        eventlet.monkey_patch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    forks.follow()


class Eventlet:
    """The greenlets of this thread; see `prefork.worker.Greenlets`."""

    def __init__(self) -> None:
        self._hub = hubs.get_hub()
        # Else sys.exit() in a greenlet of the application ends the worker; a signal raises nothing here.
        self._hub.SYSTEM_EXCEPTIONS = ()

    def defer(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call a function in a greenlet of its own, as soon as the calling greenlet waits for something."""
        cancel: Callable[[], object] = self._hub.schedule_call_global(0, eventlet.spawn_n, call).cancel
        return cancel

    def pause(self) -> None:
        """Let the other greenlets run that can."""
        eventlet.sleep(0)

    def wait(self, fd: int, timeout: float, *, to_write: bool) -> bool:
        """Let other greenlets run until a descriptor is ready."""
        try:
            hubs.trampoline(
                fd,
                read=not to_write,
                write=to_write,
                timeout=None if timeout == inf else timeout,
                timeout_exc=_TimeIsUp,
            )
        except _TimeIsUp:
            return False
        return True

    def waits_for(self, fd: int) -> Callable[[float], object]:
        """Return a quick way to wait for the same descriptor again and again."""

        def wait(timeout: float) -> None:
            if timeout > 0:
                self.wait(fd, timeout, to_write=False)
            else:
                self.pause()

        return wait

    def current(self) -> Any:
        """Return the calling greenlet."""
        return eventlet.getcurrent()

    def offered(self, sock: socket.socket) -> Mapping[str, object]:
        """Return how eventlet.websocket, and so Socket.IO, finds a socket that it may take over."""
        return {"eventlet.input": _Input(sock)}


class _Input:
    """Has the socket of a connection, as the input of eventlet's own server has it.

    Args:
        sock: the socket.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def get_socket(self) -> Any:
        """Return the socket."""
        return self._sock
