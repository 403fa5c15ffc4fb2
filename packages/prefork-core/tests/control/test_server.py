# SPDX-License-Identifier: MIT
"""Real Unix sockets; the clock moves by hand."""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
from math import inf
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefork.control.protocol import MOST_REQUEST, Command, Refused, Request, Trouble
from prefork.control.server import MOST_CLIENTS, PATIENCE, PAUSE, ControlServer, Conversation
from prefork.net.listener import Address, Family, open_listener

if TYPE_CHECKING:
    from pathlib import Path

STATUS = b'{"command": "status"}\n'


class Server:
    """A control server that answers each request at once, unless it holds them back."""

    def __init__(self, folder: Path, result: dict[str, Any] | None = None) -> None:
        self.path = str(folder / "control.sock")
        self.door = open_listener(Address(Family.UNIX, self.path), 64, 0o600)
        self.allowed = True
        self.result = {"done": True} if result is None else result
        self.holds = False
        self.held: list[Conversation] = []
        self.served: list[Request] = []
        self.now = 100.0
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(self.door, lambda _sock: self.allowed)
        self.server.attach(self.selector)

    def client(self, data: bytes = b"") -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        sock.sendall(data)
        return sock

    def turn(self) -> None:
        ready = self.selector.select(0)
        for client, request in self.server.receive(ready, self.now):
            self.served.append(request)
            if self.holds:
                client.wait()
                self.held.append(client)
            else:
                client.answer(self.result, self.now)
        self.server.settle(self.now)

    def run(self) -> None:
        """Take turns until nothing is left to do now."""
        for _ in range(1000):
            due = self.server.next_deadline(self.now) <= self.now
            if not due and not self.selector.select(0):
                return
            self.turn()
        raise AssertionError("it never comes to rest")

    @property
    def clients(self) -> int:
        return len(self.server._clients)


def received(sock: socket.socket) -> bytes | None:
    """Return what has come; None for the end."""
    found = b""
    while True:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return found
        except ConnectionResetError:  # the end, with something unread
            data = b""
        if not data:
            return found or None
        found += data


def test_one_line_is_answered_with_one_line(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(STATUS) as client:
        server.run()
        assert received(client) == b'{"ok":true,"result":{"done":true}}\n'
        assert server.served == [Request(Command.STATUS)]
        client.sendall(STATUS)
        server.run()
        assert received(client) == b'{"ok":true,"result":{"done":true}}\n'


def test_requests_that_come_together_are_answered_one_on_each_turn(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(STATUS * 5) as client:
        server.turn()  # the connection
        server.turn()
        assert len(server.served) == 1
        assert server.server.next_deadline(server.now) == server.now
        server.run()
        assert (received(client) or b"").count(b"\n") == 5


def test_what_is_no_request_is_told_so_and_the_next_one_is_served(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(b"hello\n" + STATUS) as client:
        server.run()
        first, second = (received(client) or b"").splitlines()
        assert json.loads(first)["trouble"] == "bad-request"
        assert json.loads(second)["ok"]


def test_a_request_that_is_too_long_ends_the_conversation(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(b" " * (MOST_REQUEST + 10)) as client:
        server.run()
        answer = received(client)
        assert answer is not None
        assert json.loads(answer)["why"] == f"a request has {MOST_REQUEST} bytes at most"
        assert server.clients == 0


def test_one_of_exactly_the_limit_is_served(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(STATUS.rjust(MOST_REQUEST)):
        server.run()
        assert server.served == [Request(Command.STATUS)]


def test_a_client_that_has_closed_its_side_gets_its_answer_and_the_end(tmp_path: Path) -> None:
    """As `echo … | nc -N` does it."""
    server = Server(tmp_path)
    with server.client(STATUS) as client:
        client.shutdown(socket.SHUT_WR)
        server.run()
        assert (received(client) or b"").endswith(b"}\n")
        assert received(client) is None
        assert server.clients == 0


def test_it_gets_it_later_too_without_keeping_the_selector_busy(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.holds = True
    with server.client(STATUS) as client:
        client.shutdown(socket.SHUT_WR)
        server.run()
        assert received(client) == b""
        server.held[0].answer({"late": 1}, server.now)
        server.run()
        assert received(client) == b'{"ok":true,"result":{"late":1}}\n'


def test_who_waits_for_an_answer_is_not_dropped(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.holds = True
    with server.client(STATUS) as client:
        server.run()
        server.now += 10_000.0
        server.turn()
        assert server.server.next_deadline(server.now) == inf
        server.held[0].refuse(Refused(Trouble.REFUSED, "no"), server.now)
        server.run()
        assert json.loads(received(client) or b"") == {"ok": False, "trouble": "refused", "why": "no"}


def test_who_goes_on_talking_while_waiting_is_dropped(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.holds = True
    with server.client(STATUS) as client:
        server.run()
        client.sendall(b"x" * (MOST_REQUEST + 1))
        server.run()
        assert server.clients == 0


def test_a_silent_client_is_dropped_after_a_while(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client(b'{"comm') as client:
        server.run()
        assert server.server.next_deadline(server.now) == server.now + PATIENCE
        server.now += PATIENCE - 0.1
        server.turn()
        assert server.clients == 1
        server.now += 0.1
        server.turn()
        assert received(client) is None
        assert server.clients == 0


def test_a_client_that_does_not_take_its_answer_is_dropped_after_a_while(tmp_path: Path) -> None:
    server = Server(tmp_path, {"long": "x" * 5_000_000})
    with server.client(STATUS) as client:
        server.run()
        assert server.clients == 1
        server.now += PATIENCE
        server.turn()
        assert server.clients == 0
        assert len(received(client) or b"") < 5_000_000


def test_a_long_answer_is_sent_piece_by_piece(tmp_path: Path) -> None:
    server = Server(tmp_path, {"long": "x" * 1_000_000})
    with server.client(STATUS) as client:
        found = b""
        for _ in range(1000):
            server.run()
            found += received(client) or b""
            if found.endswith(b"\n"):
                break
        assert len(json.loads(found)["result"]["long"]) == 1_000_000


def test_a_client_that_vanishes_is_forgotten(tmp_path: Path) -> None:
    server = Server(tmp_path, {"long": "x" * 5_000_000})
    for data in (b"", STATUS, b'{"comm'):
        client = server.client(data)
        server.run()
        client.close()
        server.run()
        assert server.clients == 0


def test_who_may_not_ask_is_told_so_and_heard_no_more(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.allowed = False
    with server.client(STATUS) as client:
        server.run()
        answer = received(client)
        assert answer is not None
        assert json.loads(answer)["trouble"] == "denied"
        assert server.clients == 0
        assert server.served == []


def test_only_so_many_clients_are_let_in_and_the_others_follow(tmp_path: Path) -> None:
    server = Server(tmp_path)
    silent = [server.client() for _ in range(MOST_CLIENTS)]
    last = server.client(STATUS)
    server.run()
    assert server.clients == MOST_CLIENTS
    assert received(last) == b""
    silent[0].close()
    server.run()
    assert (received(last) or b"").endswith(b"}\n")
    for sock in (*silent, last):
        sock.close()


class Exhausted:
    """A listening socket of a process without descriptors."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def accept(self) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_without_descriptors_it_pauses_and_tries_again(tmp_path: Path) -> None:
    server = Server(tmp_path)
    real = server.door.sock
    server.door.sock = Exhausted(real)  # type: ignore[assignment]
    with server.client(STATUS) as client:
        server.run()
        assert server.server.next_deadline(server.now) == server.now + PAUSE
        server.door.sock = real
        server.now += PAUSE
        server.turn()
        server.run()
        assert (received(client) or b"").endswith(b"}\n")


def test_a_child_closes_its_copies_and_leaves_the_path(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.client() as client:
        server.run()
        fds = [server.door.sock.fileno(), *(key.fd for key in server.selector.get_map().values())]
        server.selector.close()
        server.server.close_in_child()
        assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds)
        assert received(client) is None
    assert os.path.exists(server.path)


def test_when_it_is_shut_the_path_is_gone_and_who_is_here_can_be_answered(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.holds = True
    with server.client(STATUS) as client:
        server.run()
        server.selector.close()
        server.server.shut()
        assert not os.path.exists(server.path)
        server.held[0].answer({"end": 1}, server.now)
        assert received(client) == b'{"ok":true,"result":{"end":1}}\n'


@given(
    pieces=st.lists(
        st.binary(max_size=60) | st.sampled_from([STATUS, b'{"command":', b'"workers"}\n', b"\n"]),
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_sent_there_is_an_answer_for_each_line(
    pieces: list[bytes], tmp_path_factory: Any
) -> None:
    server = Server(tmp_path_factory.mktemp("control"))
    with server.client() as client:
        for piece in (b"", *pieces):
            client.sendall(piece)
            server.run()
        assert (received(client) or b"").count(b"\n") == b"".join(pieces).count(b"\n")
        assert server.clients == 1
    server.server.close_in_child()
    server.selector.close()
