# SPDX-License-Identifier: MIT
"""A connection's socket, in the hands of the application.

It is offered, and taken with the first use; who only looks at it changes nothing. It is a copy of the
connection's descriptor, so that it can be closed by whoever has it, in any thread, without a number that
becomes somebody else's. Bytes that were received before it was taken come first out of it. Decides what a
use is. Knows nothing of HTTP, and not what follows when it is taken.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from enum import Enum
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Possession(Enum):
    """Whose the connection is."""

    OFFERED = "offered"
    TAKEN = "taken"
    """The application's, for the rest of its life."""
    WITHDRAWN = "withdrawn"
    """The server's again: nobody has taken it in time."""


_TAKEN: Final = Possession.TAKEN


class Claim:
    """What all copies of one handed socket share.

    Args:
        taken: called once, with the first use and from any thread; returns what was received already. What it
            raises is raised to who wanted to use the socket, and does not get it.

    Attributes:
        early: what is left of those bytes.
    """

    __slots__ = ("_lock", "_on_take", "early", "state")

    def __init__(self, taken: Callable[[], bytes]) -> None:
        self._on_take: Callable[[], bytes] | None = taken
        self._lock = threading.Lock()
        self.state = Possession.OFFERED
        self.early = b""

    def take(self, set_blocking: Callable[[bool], None]) -> None:
        """Take the connection, unless that was done before.

        Args:
            set_blocking: of the copy that is used. The mode is one of all copies, and sending a file may
                have changed it for an earlier response.

        Raises:
            OSError: it was withdrawn.
        """
        with self._lock:
            if self._on_take is not None:
                self.early = self._on_take()
                set_blocking(True)
                self.state = _TAKEN
                self._on_take = None  # whoever is told knows us: no descriptor waits for the collector
        if self.state is not _TAKEN:
            raise OSError(errno.EBADF, "the request of this socket is over, and nobody had used it")

    def withdraw(self) -> bool:
        """Take the offer back; return False when it was taken."""
        with self._lock:
            if self._on_take is not None:
                self.state = Possession.WITHDRAWN
                self._on_take = None
            return self.state is Possession.WITHDRAWN

    def read_early(self, size: int, *, peek: bool) -> bytes:
        """Return up to so many of the bytes that were received already, b"" when there are none."""
        if not self.early or size < 0:
            return b""
        with self._lock:
            piece = self.early[:size]
            if not peek:
                self.early = self.early[size:]
        return piece


if TYPE_CHECKING:
    _Socket = socket.socket
else:
    _Socket = object


class HandedSocket(_Socket):
    """A connected socket that is the application's from its first use on, in blocking mode.

    It is a mixture with whatever `socket.socket` is when it is made (`hand_over`): libraries of greenlets put
    a class of their own there, which lets others run while one waits.

    To ask for addresses, options or the timeout is no use; `close` is one. What was received early comes
    out of the methods that receive, of every copy made by `dup` and of files made by `makefile`. The bare
    descriptor does not have it: neither does `select` report it, nor can `detach` pass it on.

    Args:
        sock: the connection's own, or one that it was handed to.
        claim: who is told of the first use; shared by all copies.
    """

    __slots__ = ()

    _claim: Claim

    def __init__(self, sock: socket.SocketType, claim: Claim) -> None:
        self._claim = claim
        super().__init__(sock.family, sock.type, sock.proto, os.dup(sock.fileno()))

    def __repr__(self) -> str:
        # The one of socket.socket asks for the descriptor: to print an environ is no use of it.
        return f"<HandedSocket, {self._claim.state.value}>"

    @property
    def taken(self) -> bool:
        """Whether the application has used it."""
        return self._claim.state is _TAKEN

    def withdraw(self) -> bool:
        """Take it back if nobody has used it; whoever tries now gets an OSError.

        Returns:
            False when the application has it.
        """
        withdrawn = self._claim.withdraw()
        if withdrawn:
            super().close()
        return withdrawn

    def _use(self) -> None:
        if self._claim.state is not _TAKEN:
            self._claim.take(super().setblocking)

    def close(self) -> None:
        """Close this copy. Who closes the connection without a word has used it too."""
        if self._claim.state is not Possession.WITHDRAWN:
            self._use()
        super().close()

    def dup(self) -> HandedSocket:
        """Return a copy, as `socket.dup` does."""
        self._use()
        copy = hand_over(self, self._claim)
        copy.settimeout(self.gettimeout())
        return copy

    def detach(self) -> int:
        """Give the descriptor away, as `socket.detach` does.

        Raises:
            RuntimeError: it would leave behind bytes that were received early.
        """
        self._use()
        if self._claim.early:
            raise RuntimeError("the client has sent bytes already: receive them before you detach")
        return super().detach()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive, as `socket.recv` does."""
        return self._early(bufsize, flags) or super().recv(bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a buffer, as `socket.recv_into` does."""
        self._use()
        if not self._claim.early:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer).cast("B") as room:
            piece = self._early(nbytes or len(room), flags)
            room[: len(piece)] = piece
        return len(piece) or super().recv_into(buffer, nbytes, flags)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive, as `socket.recvfrom` does of a connected socket."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive into a buffer, as `socket.recvfrom_into` does of a connected socket."""
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive, as `socket.recvmsg` does."""
        early = self._early(bufsize, flags)
        return (early, [], 0, None) if early else super().recvmsg(bufsize, ancbufsize, flags)

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        """Receive into buffers, as `socket.recvmsg_into` does; early bytes into the first with room."""
        self._use()
        rooms = list(buffers)
        if not self._claim.early:
            return super().recvmsg_into(rooms, ancbufsize, flags)
        first = next((room for room in rooms if memoryview(room).nbytes), b"")
        return (self.recv_into(first, 0, flags) if first else 0, [], 0, None)

    def _early(self, size: int, flags: int) -> bytes:
        self._use()
        return self._claim.read_early(size, peek=bool(flags & socket.MSG_PEEK))


def _using(name: str) -> Any:
    @wraps(getattr(socket.socket, name))
    def use(self: HandedSocket, *args: Any, **kwargs: Any) -> Any:
        self._use()
        return getattr(super(HandedSocket, self), name)(*args, **kwargs)

    return use


_USES: Final = (
    "fileno",
    "makefile",
    "send",
    "sendall",
    "sendfile",
    "sendmsg",
    "sendto",
    "setblocking",
    "setsockopt",
    "settimeout",
    "shutdown",
)
"""The other methods that are a use."""

for _name in _USES:
    setattr(HandedSocket, _name, _using(_name))


@cache
def _mixed_with(kind: type) -> type[HandedSocket]:
    return type("HandedSocket", (HandedSocket, kind), {"__slots__": ("_claim",)})


def hand_over(sock: socket.SocketType, claim: Claim) -> HandedSocket:
    """Return a socket for the application; see `HandedSocket` for the arguments."""
    return _mixed_with(socket.socket)(sock, claim)
