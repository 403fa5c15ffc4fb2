# SPDX-License-Identifier: MIT
"""The line between the arbiter and a template: one socket pair for each template.

It decides how the order to fork travels: the worker's serial number and slot in a packet, its
ends of the channel and of the pipe for stacks beside it (SCM_RIGHTS, unix(7)). The template says
one word, that it is ready. The arbiter's end closes when the template is to end, or the arbiter has.

There is no word for a fork that has failed: then nobody has the worker's end of its channel any
more, which the arbiter sees there. So it cannot wait for a worker that will never be.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Final, NamedTuple

from prefork.process.channel import End

_poll: Final = select.poll
"""Looked up before a library of greenlets takes it out of the module."""
_close: Final = os.close
"""Looked up before gevent puts in its place what closes at the next turn of its loop: after another fork."""

_READY: Final = b"r"
_ORDER: Final = struct.Struct("qi")
_SENT: Final = 2
"""Descriptors with each order."""


class Fork(NamedTuple):
    """An order to fork a worker."""

    serial: int
    slot: int
    channel: socket.socket
    """The worker's end of its channel to the arbiter."""
    stacks: int
    """The descriptor where the worker shows its stacks."""

    def close(self) -> None:
        """Close this process's copies of what is the worker's."""
        self.channel.close()
        _close(self.stacks)

    @property
    def is_late(self) -> bool:
        """Whether the worker has been told to stop already, so that nobody needs it."""
        poll = _poll()
        poll.register(self.channel, select.POLLIN)
        return bool(poll.poll(0))


def order(end: End, serial: int, slot: int, channel: socket.socket, stacks: int) -> None:
    """Order a fork, without waiting.

    Args:
        end: the arbiter's end of the line.
        serial: of the worker.
        slot: of the worker.
        channel: its end of the channel to the arbiter.
        stacks: the descriptor where it shows its stacks. This process can close both afterwards.

    Raises:
        OSError: the template is dead, or has too many orders that it has not read.
    """
    end.send(_ORDER.pack(serial, slot), channel.fileno(), stacks)


def has_said_ready(end: End) -> bool:
    """Return whether the template has said since the last call that it is ready.

    Args:
        end: the arbiter's end of the line. Closed, it is the template's order to end.

    Raises:
        Hangup: there is nothing more to come.
    """
    try:
        word, _ = end.receive(16)
    except BlockingIOError:
        return False
    return word == _READY


def make() -> tuple[End, socket.socket]:
    """Make a line before a template is forked.

    Returns:
        The arbiter's end, non-blocking, and the template's, which is not.

    Raises:
        OSError: no descriptors are left.
    """
    # Packets, so that an order and its descriptors come in one piece.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return End(ours), theirs


def say_ready(end: socket.socket) -> None:
    """Tell the arbiter that forks can be ordered.

    Args:
        end: the template's end.
    """
    try:
        end.send(_READY)
    except OSError:
        return  # the arbiter is dead, which the next read shows


def next_order(end: socket.socket) -> Fork | None:
    """Wait for an order, and return it; None when the template is to end.

    Args:
        end: the template's end.
    """
    try:
        packet, descriptors, _, _ = socket.recv_fds(end, _ORDER.size, _SENT)
    except OSError:
        return None
    if len(packet) != _ORDER.size or len(descriptors) != _SENT:
        return None  # end of file; or no descriptor was left for this process, and it can do no more
    serial, slot = _ORDER.unpack(packet)
    channel = socket.socket(fileno=descriptors[0])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # as Python makes all but those that it is sent
    channel.setblocking(False)
    return Fork(serial, slot, channel, descriptors[1])
