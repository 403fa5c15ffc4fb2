# SPDX-License-Identifier: MIT
"""The stop descriptor: one socket pair between the arbiter and each worker.

It decides how a word travels. What the words mean is `prefork.supervisor.messages`.

The worker's end becomes readable on an order, on the arbiter's death (end of file), and on
the worker's own SIGTERM, whose handler calls `hang_up`. So a worker of any kind waits on one
descriptor. It only works if no other process holds a copy of the arbiter's end: each child
closes those of its siblings after the fork.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from typing import Final, NamedTuple

from prefork.supervisor.messages import Order, Report

_poll: Final = select.poll
"""Looked up before a library of greenlets takes it out of the module."""

_MOST_WORDS: Final = 64
"""Read at once. A worker says two words in its life; more is a worker gone mad."""
_BORN: Final = b"b"
"""What a worker says first that a template has forked. Its pid travels with it, and is the kernel's word."""
_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""


class Hangup(Exception):
    """The other side has closed its end or is dead."""


class End:
    """The arbiter's end of a socket pair, to a worker or to a template.

    Args:
        end: a connected, non-blocking socket; closed by `close`.
    """

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def send(self, words: bytes, *descriptors: int) -> bool:
        """Send something, without waiting.

        Args:
            words: what to say.
            descriptors: what the other side gets a copy of.

        Returns:
            Whether all of it is on its way.

        Raises:
            OSError: the other side is dead or does not listen any more, or has not read what came before.
        """
        if descriptors:
            return socket.send_fds(self._socket, [words], descriptors) == len(words)
        return self._socket.send(words) == len(words)

    def receive(self, most: int, room: int = 0) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """Return what has come: bytes, and what the kernel or the other side has put beside them.

        Args:
            most: how many bytes at once.
            room: bytes for what is beside them.

        Raises:
            BlockingIOError: nothing has come yet.
            Hangup: there is nothing more to come.
        """
        try:
            words, ancillary, _, _ = self._socket.recvmsg(most, room)
        except BlockingIOError:
            raise
        except OSError as error:  # ECONNRESET: it died with something unread
            raise Hangup from error
        if not words:
            raise Hangup
        return words, ancillary

    def close(self) -> None:
        """Close this end, which the other side sees as the arbiter's death."""
        self._socket.close()


class ArbiterEnd:
    """The arbiter's end of the channel to one worker.

    Args:
        end: a connected, non-blocking socket; closed by `close`.
    """

    __slots__ = ("_end",)

    def __init__(self, end: socket.socket) -> None:
        self._end = End(end)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._end.fileno()

    def send(self, order: Order, line: socket.socket | None = None) -> bool:
        """Send an order, without waiting.

        Args:
            order: the word.
            line: a socket that goes with `REFORK`. This process can close its copy afterwards.

        Returns:
            False when the worker is dead or does not listen any more.
        """
        try:
            return self._end.send(order.value, *([] if line is None else [line.fileno()]))
        except OSError:  # EPIPE: dead, or it has hung up after a SIGTERM. EAGAIN: 200 KB unread orders.
            return False

    def receive_pid(self) -> int | None:
        """Return the pid of a worker that has been forked by a template; None when it has not said so yet.

        To be called until there is one, and before `receive`.

        Raises:
            Hangup: there is no such worker, and there will be none.
        """
        try:
            _, ancillary = self._end.receive(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return None
        return next((_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary), None)

    def receive(self) -> list[Report]:
        """Return what the worker has said since the last call; unknown words are left out.

        Raises:
            Hangup: there is nothing more to come.
        """
        try:
            words, _ = self._end.receive(_MOST_WORDS)
        except BlockingIOError:
            return []
        return [_REPORTS[word] for word in words if word in _REPORTS]

    def close(self) -> None:
        """Close this end, which the worker sees as the arbiter's death."""
        self._end.close()


_REPORTS: Final = {report.value[0]: report for report in Report}
_ORDERS: Final = {order.value[0]: order for order in Order}


def make(*, by_template: bool = False) -> tuple[ArbiterEnd, socket.socket]:
    """Make a channel before a fork.

    Args:
        by_template: whether a template is to fork the worker, so that its pid will come over the channel.

    Returns:
        The arbiter's end and the worker's, both non-blocking.

    Raises:
        OSError: no descriptors are left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if by_template and sys.platform == "linux":
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ArbiterEnd(ours), theirs


def say_pid(end: socket.socket) -> None:
    """Let the arbiter know this process, which a template has forked for it.

    Args:
        end: the worker's end.
    """
    try:
        end.send(_BORN)
    except OSError:
        return  # the arbiter is dead, which `end` shows


def report(end: socket.socket, word: Report) -> bool:
    """Send the arbiter a word, from the worker.

    Args:
        end: the worker's end.
        word: what to say.

    Returns:
        False when the arbiter is dead.
    """
    try:
        return end.send(word.value) == 1
    except OSError:
        return False


class Told(NamedTuple):
    """What a worker has been told."""

    order: Order
    line: socket.socket | None = None
    """What came with `REFORK`: the line over which the worker, as a template, will be ordered to fork."""


def read_order(end: socket.socket) -> Told | None:
    """Return the newest order for this worker, or None when there is none.

    End of file is `Order.DRAIN`: the arbiter is dead, or the worker has hung up.

    Args:
        end: the worker's end.
    """
    try:
        words, descriptors, _, _ = socket.recv_fds(end, _MOST_WORDS, 1)
    except BlockingIOError:
        return None
    except OSError:
        return Told(Order.DRAIN)
    line = _received(descriptors)
    orders = [_ORDERS[word] for word in words if word in _ORDERS]
    order = orders[-1] if orders else Order.DRAIN
    if order is Order.REFORK:
        return Told(order, line)
    if line is not None:
        line.close()  # another order has followed at once
    return Told(order)


def _received(descriptors: list[int]) -> socket.socket | None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # as Python makes all but those that it is sent
    return socket.socket(fileno=descriptors[0]) if descriptors else None


def arbiter_is_gone(end: socket.socket) -> bool:
    """Return whether the arbiter's end is closed, which is so when it is dead.

    A dying process loses its descriptors before its children get another parent, so for a moment after the
    end of file `getppid` still names it.

    Args:
        end: the worker's end.
    """
    poll = _poll()
    # POLLHUP comes unasked, and not after `hang_up` alone. On macOS it only comes to who asks for something,
    # and for who asks to read it would come after `hang_up` too.
    poll.register(end, select.POLLOUT)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def hang_up(end: socket.socket) -> None:
    """Make the worker's end readable (end of file) for good; safe in a signal handler.

    Args:
        end: the worker's end.
    """
    try:
        end.shutdown(socket.SHUT_RD)
    except OSError:
        return  # the arbiter is dead: it is readable already
