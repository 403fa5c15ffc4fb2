# SPDX-License-Identifier: MIT
"""The server's end of the control socket: several clients, none of which is ever waited for.

It decides how requests are collected and answers sent, how much of either is kept, and which client is
dropped. It knows nothing of what a request asks for; that is `arbiter.control`.

Everything is done in `receive` and `settle`, which the arbiter's loop calls on each turn. A client has one
request in work at a time: what it sends besides waits, in our buffer up to the size of a request, then in the
kernel's. So what a client can make us keep is one request and one answer.
"""

from __future__ import annotations

import selectors
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.control.protocol import (
    MOST_REQUEST,
    Refused,
    Trouble,
    parse_request,
    render_refusal,
    render_result,
)
from prefork.net.listener import move

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from prefork.control.protocol import Request
    from prefork.net.listener import Listener

    Ready = Iterable[tuple[selectors.SelectorKey, int]]

PATIENCE: Final = 5.0
"""Seconds that a client has to ask, and to take an answer."""
MOST_CLIENTS: Final = 32
"""Others wait in the queue of the socket."""
BACKLOG: Final = 32
PAUSE: Final = 1.0
"""Seconds without accepting when there are no descriptors left."""


class Turn(Enum):
    """Whose turn it is in a conversation."""

    CLIENT = "the client's, to ask"
    SERVER = "the server's, to answer"
    SENDING = "the client's, to take the answer"


class Conversation:
    """One client.

    Args:
        sock: connected, non-blocking.
        now: monotonic seconds.

    Attributes:
        turn: whose turn it is.
        deadline: when the client is dropped, in monotonic seconds.
        broken: whether the client has gone, or has said more than is heard.
    """

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.turn = Turn.CLIENT
        self.deadline = now + PATIENCE
        self.broken = False
        self._received = bytearray()
        self._unsent = b""
        self._asks_no_more = False
        """It has closed its side, or is not listened to any more."""

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.sock.fileno()

    @property
    def events(self) -> int:
        """What the selector is to look for; 0 for nothing."""
        if self.turn is Turn.SENDING:
            return selectors.EVENT_WRITE
        return 0 if self._asks_no_more else selectors.EVENT_READ

    @property
    def has_asked(self) -> bool:
        """Whether a whole request is here, and it is its turn."""
        return self.turn is Turn.CLIENT and b"\n" in self._received

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        waits_in_vain = self._asks_no_more and self.turn is Turn.CLIENT and not self.has_asked
        return self.broken or waits_in_vain

    def move(self, now: float) -> None:
        """Receive or send what can be, after the selector has said that something can."""
        if self.turn is Turn.SENDING:
            self._send(now)
        else:
            self._receive()

    def _receive(self) -> None:
        room = MOST_REQUEST - len(self._received)
        if room <= 0:  # it goes on talking while it is to be answered
            self.broken = True
            return
        try:
            data = self.sock.recv(room)
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            return
        self._received += data
        self._asks_no_more = not data

    def next(self, now: float) -> Request | None:
        """Return the next request; None while there is no whole one, or when it was refused.

        Args:
            now: monotonic seconds.
        """
        if self.has_asked:
            line, _, self._received = self._received.partition(b"\n")
            self.turn = Turn.SERVER
            try:
                return parse_request(line)
            except Refused as refused:
                self.refuse(refused, now)
        elif self.turn is Turn.CLIENT and len(self._received) >= MOST_REQUEST:
            self.dismiss(Refused(Trouble.BAD_REQUEST, f"a request has {MOST_REQUEST} bytes at most"), now)
        return None

    def wait(self) -> None:
        """Let the client wait for its answer, however long that takes."""
        self.deadline = inf

    def answer(self, result: Mapping[str, Any], now: float) -> None:
        """Bring what was asked for.

        Args:
            result: see `protocol.render_result`.
            now: monotonic seconds.
        """
        self._begin(render_result(result), now)

    def refuse(self, refused: Refused, now: float) -> None:
        """Say what is the trouble.

        Args:
            refused: kind and reason.
            now: monotonic seconds.
        """
        self._begin(render_refusal(refused), now)

    def dismiss(self, refused: Refused, now: float) -> None:
        """Say what is the trouble, and listen no more.

        Args:
            refused: kind and reason.
            now: monotonic seconds.
        """
        self._asks_no_more = True
        self._received.clear()
        self.refuse(refused, now)

    def _begin(self, answer: bytes, now: float) -> None:
        self._unsent = answer
        self.turn = Turn.SENDING
        self.deadline = now + PATIENCE
        self._send(now)

    def _send(self, now: float) -> None:
        try:
            sent = self.sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:  # it has gone
            self.broken = True
            return
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self.turn = Turn.CLIENT
            self.deadline = now + PATIENCE


class ControlServer:
    """The clients of one control socket.

    Args:
        door: the listening socket.
        may_ask: says of a connected socket whether its peer may ask at all.
    """

    def __init__(self, door: Listener, may_ask: Callable[[socket.socket], bool]) -> None:
        self._door = door
        self._may_ask = may_ask
        self._clients: list[Conversation] = []
        self._selector: selectors.BaseSelector | None = None
        self._watched: dict[Conversation | ControlServer, int] = {}
        """What is registered with the selector, for which events."""
        self._resume_at = 0.0

    def fileno(self) -> int:
        """Return the descriptor of the listening socket, for a selector."""
        return self._door.sock.fileno()

    def attach(self, selector: selectors.BaseSelector) -> None:
        """Have a selector look for clients.

        Args:
            selector: whose result is given to `receive`.
        """
        self._selector = selector
        self._watch(self, selectors.EVENT_READ)

    # ------------------------------------------------------------ one turn

    def receive(self, ready: Ready, now: float) -> list[tuple[Conversation, Request]]:
        """Move what can be moved, and return the requests that have arrived: one of each client at most.

        Args:
            ready: what the selector has found; other people's keys are left alone.
            now: monotonic seconds.
        """
        for key, _ in ready:
            if key.data is self:
                self._accept(now)
            elif isinstance(key.data, Conversation):
                key.data.move(now)
        found = [(client, client.next(now)) for client in self._clients]
        return [(client, request) for client, request in found if request is not None]

    def settle(self, now: float) -> None:
        """Drop who is over or too slow, and have the selector look for what is wanted now.

        Args:
            now: monotonic seconds.
        """
        for client in self._clients:
            if client.is_over or client.deadline <= now:
                self._watch(client, 0)
                client.sock.close()
        self._clients = [client for client in self._clients if client.sock.fileno() >= 0]
        for client in self._clients:
            self._watch(client, client.events)
        takes_more = len(self._clients) < MOST_CLIENTS and now >= self._resume_at
        self._watch(self, selectors.EVENT_READ if takes_more else 0)

    def next_deadline(self, now: float) -> float:
        """Return when `receive` and `settle` are to be called though nothing is ready; infinity for never.

        Args:
            now: monotonic seconds.
        """
        if any(client.has_asked for client in self._clients):
            return now
        times = [client.deadline for client in self._clients]
        if self._resume_at > now:
            times.append(self._resume_at)
        return min(times, default=inf)

    def _accept(self, now: float) -> None:
        try:
            sock, _ = self._door.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left: the door would be ready again at once, and again
            self._resume_at = now + PAUSE
            return
        sock.setblocking(False)
        client = Conversation(sock, now)
        self._clients.append(client)
        if not self._may_ask(sock):
            why = "only root and the user who started the server may ask"
            client.dismiss(Refused(Trouble.DENIED, why), now)

    def _watch(self, whom: Conversation | ControlServer, events: int) -> None:
        before = self._watched.get(whom, 0)
        if self._selector is None or events == before:
            return
        if not events:
            self._selector.unregister(whom)
            del self._watched[whom]
            return
        if before:
            self._selector.modify(whom, events, whom)
        else:
            self._selector.register(whom, events, whom)
        self._watched[whom] = events

    # ------------------------------------------------------------ the end

    def shut(self) -> None:
        """Take no more clients, and remove the socket's path. Those who are here can still be answered."""
        self._door.close(unlink=True)

    def move(self, path: str, *, in_use: bool) -> None:
        """Give the socket another path; see `net.listener.move`."""
        move(self._door, path, in_use=in_use)

    def close_in_child(self) -> None:
        """Close every descriptor after a fork; the path stays the parent's."""
        self._door.close(unlink=False)
        for client in self._clients:
            client.sock.close()
