# SPDX-License-Identifier: MIT
"""What clients cost that are slow, idle, too many or gone: no worker, and nothing after their deadline."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from prefork.testing import control, processes
from prefork.testing.client import Address, Kept, Replies, RequestFailed, connect, render, send
from prefork.testing.load import Load
from prefork.testing.subject import Held, Subject, needs
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.testing.server import Server

_MANY: Final = 20
_ABORTS: Final = 1000
_LOOKS: Final = 10
_LIMIT: Final = 5
_BIG: Final = 8 << 20
_RESET: Final = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""A `struct linger` with which closing a socket resets its connection."""


class Clients(Subject):
    """Clients that are not as one would like them to be."""

    # Deadlines

    def test_half_a_head_is_dropped(self, impatient: Server) -> None:
        """Who begins a request and does not go on is disconnected after header_timeout; others are served."""
        with ExitStack() as stack:
            slow = [stack.enter_context(connect(impatient.address)) for _ in range(_MANY)]
            for sock in slow:
                send(sock, b"GET /half HTTP/1.1\r\nHost: te")
            assert impatient.ask("/whole").status == 200
            for sock in slow:
                check_dropped(sock)

    def test_a_head_that_trickles_is_dropped(self, impatient: Server) -> None:
        """header_timeout is for all of a head: a byte now and then does not prolong it."""
        with connect(impatient.address) as sock:
            sock.settimeout(0.1)
            head = iter(render("/trickle" + "x" * 1000))
            while not _comes(sock):
                _trickle(sock, next(head))
            check_dropped(sock)

    def test_who_says_nothing_is_dropped(self, impatient: Server) -> None:
        """A connection without a byte is closed after keepalive."""
        with ExitStack() as stack:
            silent = [stack.enter_context(connect(impatient.address)) for _ in range(_MANY)]
            assert impatient.ask("/other").status == 200
            for sock in silent:
                check_dropped(sock)

    @needs("keeps_alive")
    def test_an_idle_connection_is_closed(self, impatient: Server) -> None:
        """Who is silent after an answer is disconnected after keepalive, without a byte or a reset."""
        kept = [Kept(impatient.address) for _ in range(_MANY)]
        for each in kept:
            assert not each.ask("/first").closing
        for each in kept:
            assert each.ended()
            each.close()

    # Many and slow ones

    def test_who_reads_slowly_costs_others_nothing(self, server: Server) -> None:
        """Responses that are not taken wait for their clients, and others are served meanwhile."""
        with ExitStack() as stack:
            slow = [stack.enter_context(_slow_reader(server.address)) for _ in range(_MANY)]
            for sock in slow:
                send(sock, render(f"/big/{_BIG}", "GET", b"", "Connection: close"))
                sock.recv(1, socket.MSG_PEEK)
            with Load(server.address, clients=2) as load:
                load.wait(20)
            load.check()
            slow[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            assert len(Replies(slow[0]).next().body) == _BIG

    def test_no_more_connections_than_allowed_are_taken(self, tmp_path: Path) -> None:
        """A worker has worker_connections of them; others wait, and are served when some have gone."""
        flags = ("-w", "1", "--worker-connections", str(_LIMIT))
        with self.start(tmp_path, *flags, ready=False) as server, ExitStack() as stack:
            server.wait_log("ready after")
            [pid] = server.workers()
            before = _sockets(pid)  # no client has been there yet
            clients = [stack.enter_context(connect(server.address)) for _ in range(2 * _LIMIT)]
            for sock in clients:
                send(sock, b"GET /later HTTP/1.1\r\nHost: test\r\nConnection: close\r\n")
            until(lambda: _sockets(pid) >= before + _LIMIT, f"{_LIMIT} connections accepted")
            for _ in range(_LOOKS):
                assert _sockets(pid) <= before + _LIMIT
                assert control.ask(server.folder, "status")["workers"]["ready"] == 1
            for sock in clients:
                send(sock, b"\r\n")
            for sock in clients:
                with sock:
                    assert Replies(sock).next().status == 200

    # Those that go away

    def test_who_goes_away_leaves_nothing_behind(self, server: Server) -> None:
        """1,000 connections are reset, each at another point of its request: no descriptor stays open."""
        [pid] = server.wait_workers(1)
        request = render("/echo", "POST", b"x" * 1000)
        cuts = (0, 10, len(request) - 500, len(request))
        self._abort(server, request, cuts, _MANY)
        server.ask("/before")
        before = len(processes.descriptors(pid))
        self._abort(server, request, cuts, _ABORTS)
        assert server.ask("/after").status == 200
        until(lambda: len(processes.descriptors(pid)) <= before, f"no more than {before} descriptors")
        assert server.workers() == [pid]

    @staticmethod
    def _abort(server: Server, request: bytes, cuts: tuple[int, ...], count: int) -> None:
        for number in range(count):
            with connect(server.address) as sock:
                send(sock, request[: cuts[number % len(cuts)]])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def test_who_goes_away_while_it_is_answered_costs_no_worker(self, server: Server) -> None:
        """A client may reset its connection while the application has its request, or sends a response."""
        [pid] = server.wait_workers(1)
        for does in ("hold", "stream"):
            with Held(server, does) as held:
                held.kept.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                held.kept.close()
            assert server.ask("/after").status == 200
        assert server.workers() == [pid]


def check_dropped(sock: socket.socket) -> None:
    """Check that a connection ends, before or after an answer that says that the client is to blame."""
    replies = Replies(sock)
    sock.settimeout(20)
    try:
        answer = replies.next()
    except RequestFailed as error:
        if error.kind not in {"empty", "reset"}:
            raise
        return
    assert 400 <= answer.status < 500
    assert answer.closing


def _comes(sock: socket.socket) -> bool:
    """Return whether an answer comes, or the end, within the socket's timeout."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _trickle(sock: socket.socket, byte: int) -> None:
    try:
        sock.send(bytes([byte]))
    except OSError:
        pass


def _slow_reader(address: Address) -> socket.socket:
    """Return a connection whose kernel takes little of what comes."""
    assert not isinstance(address, str)
    sock = socket.socket()
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(address)
    return sock


def _sockets(pid: int) -> int:
    return sum(name.startswith("socket:") for name in processes.descriptors(pid))
