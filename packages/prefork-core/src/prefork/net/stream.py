# SPDX-License-Identifier: MIT
"""One connected socket: taking what is there, sending what goes, keeping the rest.

Nothing here blocks but `block`. What the kernel does not take at once is kept in order, files
included, and sent when the socket is writable; so a slow reader costs memory up to a bound that
the sender chooses, and no thread. Knows nothing of HTTP.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import stat
import struct
import sys
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from prefork.errors import ClientDisconnected
from prefork.net.handed import Claim, hand_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.net.handed import HandedSocket

_poll: Final = select.poll
"""Looked up before a library of greenlets takes it out of the module."""

RECEIVE_SIZE: Final = 64 * 1024
_SENDFILE_SIZE: Final = 1 << 20
"""Bytes for one call: the kernel stops earlier when the socket is full."""
_SENDFILE_TURN: Final = 8 << 20
"""Bytes after which a file has to wait for its next turn: a client that reads as fast as we send would keep
all others waiting until the end of the file."""

# The socket is left in the mode that accept() gives it, and each call says that it must not wait: that
# saves a system call for every connection, and an application that takes the socket over gets a normal one.
# But send() of macOS looks at the mode only.
_SETS_MODE: Final = sys.platform != "linux"
_NO_WAIT: Final = socket.MSG_DONTWAIT
# Without MSG_NOSIGNAL, on macOS, an application must leave SIGPIPE ignored, as Python has it.
_SEND_FLAGS: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
_FINAL_FLAGS: Final = _SEND_FLAGS | getattr(socket, "MSG_MORE", 0)


class FilePart:
    """A part of a file on its way out.

    Args:
        fd: descriptor of the file; it stays open, and in nobody else's hands, until the part is sent.
        offset: where the part begins.
        count: how many bytes it has.
    """

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count


_FILES: Final = frozenset({io.FileIO, io.BufferedReader, io.BufferedRandom})


def rest_of(file: object) -> FilePart | None:
    """Return what is left of a file, as something to send.

    Args:
        file: an open file, at the place from which on it is wanted.

    Returns:
        None when its descriptor may hold other bytes than its `read` would return. That is so for a
        compressed file, and for an object that decrypts what it reads; so it counts whose `read` it is.
    """
    if type(file).__module__ == "tempfile":
        file = getattr(file, "file", file)
    reader: Any = getattr(getattr(file, "read", None), "__self__", None)
    if type(reader) not in _FILES or type(getattr(reader, "raw", reader)) is not io.FileIO:
        return None
    try:
        fd = reader.fileno()
        status = os.fstat(fd)
        offset = reader.tell()
    except (OSError, ValueError):
        return None
    # Files of /proc say that they have 0 bytes, but can be read.
    size = status.st_size - offset
    return FilePart(fd, offset, size) if stat.S_ISREG(status.st_mode) and size > 0 else None


class Wait(Protocol):
    """A way to wait until the peer of a connection has sent, or taken, something."""

    def __call__(self, fd: int, deadline: float, *, to_write: bool) -> bool:
        """Wait; return False when the deadline passed before.

        Args:
            fd: of the connection.
            deadline: monotonic seconds; infinity for none.
            to_write: wait until the peer takes bytes; else until it sends some.
        """


def block(fd: int, deadline: float, *, to_write: bool) -> bool:
    """Wait as a thread does, which has nothing else to do; see `Wait`."""
    poll = _poll()
    poll.register(fd, select.POLLOUT if to_write else select.POLLIN)
    while True:
        left = deadline - monotonic()
        if left <= 0:
            return False
        if poll.poll(None if left == inf else left * 1000):
            return True


class Stream:
    """A connected stream socket.

    Args:
        sock: the socket; closed by `close`.

    Attributes:
        out: what waits to be sent; None or empty when all was taken by the kernel.
        pending: bytes of memory that wait to be sent (files count nothing).
        taken: bytes that the kernel took so far.
    """

    __slots__ = ("_handed", "fd", "out", "pending", "sock", "taken")

    def __init__(self, sock: socket.SocketType) -> None:
        self.sock = sock
        if _SETS_MODE:
            sock.setblocking(False)
        self.fd = sock.fileno()
        self.out: deque[memoryview | FilePart] | None = None
        self._handed: HandedSocket | None = None
        self.pending = 0
        self.taken = 0

    def receive(self) -> bytes | None:
        """Return what has arrived, b"" when the peer sends no more, None when nothing has arrived.

        Raises:
            ClientDisconnected: the connection is broken.
        """
        try:
            return self.sock.recv(RECEIVE_SIZE, _NO_WAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ClientDisconnected(f"the client went away: {error.strerror}") from error

    @property
    def left(self) -> int:
        """Bytes that wait to be sent, those of files included."""
        return self.pending + sum(part.count for part in self.out or () if isinstance(part, FilePart))

    def send(self, data: bytes, *, final: bool = False) -> None:
        """Send bytes, after all that wait already; keep what the kernel does not take.

        Args:
            data: the bytes.
            final: the connection is closed, for both or for this direction, right after this. So the kernel
                may hold the bytes back for the FIN: one segment in place of two, and one wake-up of the peer.

        Raises:
            ClientDisconnected: the connection is broken.
            OSError: as `send_file`, if a file waits.
        """
        if self.out:
            self._keep(memoryview(data))
            # PEP 3333: a block may not wait for the ones that follow, and the client may take more by now.
            self.flush()
            return
        try:
            count = self.sock.send(data, _FINAL_FLAGS if final else _SEND_FLAGS)
        except BlockingIOError:
            count = 0
        except OSError as error:
            raise ClientDisconnected(f"the client went away: {error.strerror}") from error
        self.taken += count
        if count < len(data):
            self._keep(memoryview(data)[count:])

    def send_file(self, part: FilePart) -> None:
        """Send a part of a file, after all that waits already.

        Raises:
            ClientDisconnected: the connection is broken.
            OSError: the file cannot be read, or has become shorter.
        """
        self.sock.setblocking(False)  # sendfile() has no flag for it
        if self.out is None:
            self.out = deque()
        self.out.append(part)
        self.flush()

    def _keep(self, rest: memoryview) -> None:
        if self.out is None:
            self.out = deque()
        self.out.append(rest)
        self.pending += len(rest)

    def flush(self) -> bool:
        """Send what waits, as far as it goes.

        Returns:
            Whether all of it was taken.

        Raises:
            ClientDisconnected: the connection is broken.
            OSError: as `send_file`.
        """
        out = self.out
        while out:
            first = out[0]
            if isinstance(first, FilePart):
                if not self._flush_file(first):
                    return False
            elif not self._flush_bytes(first, out):
                return False
            out.popleft()
        return True

    def _flush_bytes(self, data: memoryview, out: deque[memoryview | FilePart]) -> bool:
        while data:
            try:
                count = self.sock.send(data, _SEND_FLAGS)
            except BlockingIOError:
                return False
            except OSError as error:
                raise ClientDisconnected(f"the client went away: {error.strerror}") from error
            self.taken += count
            self.pending -= count
            data = data[count:]
            out[0] = data
        return True

    def _flush_file(self, part: FilePart) -> bool:
        stop = part.offset + _SENDFILE_TURN
        while part.count:
            if part.offset >= stop:
                return False
            try:
                count = os.sendfile(self.fd, part.fd, part.offset, min(part.count, _SENDFILE_SIZE))
            except BlockingIOError:
                return False
            except OSError as error:
                if isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN:  # the latter of macOS
                    raise ClientDisconnected(f"the client went away: {error.strerror}") from error
                raise
            if not count:
                raise OSError("the file became shorter while it was sent")
            self.taken += count
            part.offset += count
            part.count -= count
        return True

    def drop(self) -> None:
        """Forget what waits to be sent: nobody will take it."""
        self.out = None
        self.pending = 0

    def half_close(self) -> None:
        """Send FIN but go on receiving (RFC 9112 §9.6): a reset would destroy what the client has unread."""
        self._shut(socket.SHUT_WR)

    def reset(self) -> None:
        """Make `close` send RST: where closing means "complete", an incomplete response must not look so."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def hand_out(self, taken: Callable[[], bytes]) -> HandedSocket:
        """Return the socket for the application to take it, until `take_back`.

        Args:
            taken: as of `prefork.net.handed.Claim`.
        """
        self._handed = hand_over(self.sock, Claim(taken))
        return self._handed

    def take_back(self) -> bool:
        """Take the socket back that was handed out; return False when the application has taken it."""
        if self._handed is not None and self._handed.withdraw():
            self._handed = None
        return self._handed is None

    def end_receiving(self) -> None:
        """Let whoever receives get the end of file, behind what has arrived already."""
        self._shut(socket.SHUT_RD)

    def _shut(self, how: int) -> None:
        try:
            self.sock.shutdown(how)
        except OSError:
            return  # it is gone already; whoever uses it next is told

    def close(self) -> None:
        """Close the socket, whoever has a copy of it."""
        if self._handed is not None:
            self._shut(socket.SHUT_RDWR)  # a thread of the application may be receiving still
            self._handed = None
        self.sock.close()
