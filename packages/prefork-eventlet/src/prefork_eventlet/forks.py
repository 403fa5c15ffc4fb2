# SPDX-License-Identifier: MIT
# ruff: noqa: SLF001 (asyncio knows of no forks, and a loop that runs cannot be exchanged)
"""A hub whose process was forked, as all workers of a template are. Imported in the worker process only.

Decides what the new process must not share with the old one: what the kernel is asked for descriptors with.
With that shared, each process takes events that are another's. Greenlets and timers are copies, and stay.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from eventlet import hubs
from eventlet.hubs import asyncio as on_asyncio
from eventlet.hubs import epolls


def follow() -> None:
    """Have the hub of this thread, in each process that is forked from now on, wait for itself alone."""
    hubs.get_hub()  # the one on asyncio wants to be told of forks, too, and must be before this one
    os.register_at_fork(after_in_child=_part)


def _part() -> None:
    """Part the hub of this process from that of its parent."""
    hub = hubs.get_hub()
    if isinstance(hub, epolls.Hub):
        _part_epoll(hub)
    elif isinstance(hub, on_asyncio.Hub):
        _part_loop(hub)


def _part_epoll(hub: Any) -> None:
    hub.poll.close()  # first: there may be no descriptor left
    hub.poll = type(hub.poll)()
    for fd in {*hub.listeners[hub.READ], *hub.listeners[hub.WRITE]}:
        with contextlib.suppress(OSError):  # nobody has told the hub that it was closed
            hub.register(fd, new=True)


def _part_loop(hub: Any) -> None:
    import asyncio.events

    if not hub.running:
        # eventlet says that it runs in every new process, and then nobody can start it.
        asyncio.events._set_running_loop(None)
    if isinstance(hub.loop, asyncio.SelectorEventLoop):  # others are the business of who has chosen them
        _part_selector(hub.loop)


def _part_selector(loop: Any) -> None:
    selector = type(loop._selector)()
    for key in loop._selector.get_map().values():
        with contextlib.suppress(OSError):
            selector.register(key.fileobj, key.events, key.data)
    loop._selector.close()
    loop._selector = selector
    loop._close_self_pipe()
    loop._make_self_pipe()
