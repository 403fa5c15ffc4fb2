# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import io
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.net.handed import Claim, hand_over

if TYPE_CHECKING:
    from collections.abc import Callable


class Handed:
    """A handed socket, its peer, and how often it was taken; for a `with` statement.

    Args:
        early: what was received before.
    """

    def __init__(self, early: bytes = b"") -> None:
        self.peer, self.own = socket.socketpair()
        self.early = early
        self.taken = 0
        self.sock = hand_over(self.own, Claim(self._take))

    def _take(self) -> bytes:
        self.taken += 1
        return self.early

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.peer, self.own):
            sock.close()
        socket.socket.close(self.sock)


LOOKS: dict[str, Callable[[socket.socket], Any]] = {
    "repr": repr,
    "str": str,
    "getpeername": lambda sock: sock.getpeername(),
    "getsockname": lambda sock: sock.getsockname(),
    "getsockopt": lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
    "gettimeout": lambda sock: sock.gettimeout(),
    "family": lambda sock: (sock.family, sock.type, sock.proto),
    "hasattr": lambda sock: hasattr(sock, "settimeout"),
    "isinstance": lambda sock: isinstance(sock, socket.socket),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_to_look_at_it_does_not_take_it(look: Callable[[socket.socket], Any]) -> None:
    with Handed() as handed:
        look(handed.sock)
        assert not handed.taken
        assert handed.sock.withdraw()


USES: dict[str, Callable[[socket.socket], Any]] = {
    "close": lambda sock: sock.close(),
    "detach": lambda sock: socket.socket(fileno=sock.detach()).close(),
    "dup": lambda sock: sock.dup().close(),
    "fileno": lambda sock: sock.fileno(),
    "makefile": lambda sock: sock.makefile("rb").close(),
    "recv": lambda sock: sock.recv(1),
    "recv_into": lambda sock: sock.recv_into(bytearray(1)),
    "recvfrom": lambda sock: sock.recvfrom(1),
    "recvfrom_into": lambda sock: sock.recvfrom_into(bytearray(1)),
    "recvmsg": lambda sock: sock.recvmsg(1),
    "recvmsg_into": lambda sock: sock.recvmsg_into([bytearray(1)]),
    "select": lambda sock: select.select([sock], [], [], 0),
    "send": lambda sock: sock.send(b"x"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "sendfile": lambda sock: sock.sendfile(io.BytesIO(b"x")),
    "sendmsg": lambda sock: sock.sendmsg([b"x"]),
    "setblocking": lambda sock: sock.setblocking(False),
    "setsockopt": lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    "settimeout": lambda sock: sock.settimeout(1),
    "shutdown": lambda sock: sock.shutdown(socket.SHUT_RDWR),
    "with": lambda sock: sock.__exit__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_to_use_it_takes_it_once(use: Callable[[socket.socket], Any]) -> None:
    with Handed() as handed:
        handed.peer.sendall(b"arrived")
        use(handed.sock)
        assert handed.taken == 1
        assert handed.sock.taken
        assert not handed.sock.withdraw()


RECEIVES: dict[str, Callable[[socket.socket, int], bytes]] = {
    "recv": lambda sock, size: sock.recv(size),
    "recv_into": lambda sock, size: _into(sock.recv_into, size),
    "recv_into a part": lambda sock, size: _into(lambda room: sock.recv_into(room, size), size + 3),
    "recvfrom": lambda sock, size: sock.recvfrom(size)[0],
    "recvfrom_into": lambda sock, size: _into(lambda room: sock.recvfrom_into(room)[0], size),
    "recvmsg": lambda sock, size: sock.recvmsg(size)[0],
    "recvmsg_into": lambda sock, size: _into(lambda room: sock.recvmsg_into([bytearray(), room])[0], size),
    "dup": lambda sock, size: sock.dup().recv(size),
    "makefile": lambda sock, size: sock.makefile("rb", buffering=0).read(size),
}


def _into(receive: Callable[[bytearray], int], size: int) -> bytes:
    room = bytearray(size)
    return bytes(room[: receive(room)])


@given(
    early=st.binary(max_size=9),
    later=st.binary(min_size=1, max_size=9),
    calls=st.lists(st.tuples(st.sampled_from(sorted(RECEIVES)), st.integers(1, 9)), min_size=18, max_size=18),
)
def test_whatever_receives_gets_each_byte_once_and_in_order(
    early: bytes, later: bytes, calls: list[tuple[str, int]]
) -> None:
    with Handed(early) as handed:
        handed.peer.sendall(later)
        handed.peer.shutdown(socket.SHUT_WR)
        pieces = [RECEIVES[name](handed.sock, size) for name, size in calls]
        assert b"".join(pieces) == early + later


def test_what_is_only_peeked_at_stays() -> None:
    with Handed(b"early") as handed:
        assert handed.sock.recv(2, socket.MSG_PEEK) == b"ea"
        assert handed.sock.recv(9) == b"early"


def test_a_descriptor_is_not_given_away_while_bytes_would_stay_behind() -> None:
    with Handed(b"early") as handed:
        with pytest.raises(RuntimeError, match="receive them before"):
            handed.sock.detach()
        handed.sock.recv(5)
        socket.socket(fileno=handed.sock.detach()).close()


def test_a_negative_size_is_refused_as_by_any_socket() -> None:
    with Handed(b"early") as handed, pytest.raises(ValueError, match="negative"):
        handed.sock.recv(-1)


def test_it_is_taken_in_blocking_mode() -> None:
    """The mode is one of all copies of a descriptor, and sendfile() needs the other one."""
    with Handed() as handed:
        handed.own.setblocking(False)
        late = threading.Timer(0.02, handed.peer.sendall, (b"late",))
        late.start()
        assert handed.sock.recv(4) == b"late"  # and no BlockingIOError


def test_a_copy_keeps_the_timeout() -> None:
    with Handed() as handed:
        handed.sock.settimeout(7)
        with handed.sock.dup() as copy:
            assert copy.gettimeout() == 7


def test_once_withdrawn_nobody_can_use_it_and_its_descriptor_is_closed() -> None:
    with Handed() as handed:
        assert handed.sock.withdraw()
        with pytest.raises(OSError, match="over") as caught:
            handed.sock.send(b"x")
        assert caught.value.errno == errno.EBADF
        assert (handed.taken, socket.socket.fileno(handed.sock)) == (0, -1)
        handed.sock.close()  # to clean up is no use


def test_who_may_not_take_it_is_told_why() -> None:
    def refuse() -> bytes:
        raise RuntimeError("too late")

    peer, own = socket.socketpair()
    with peer, own:
        sock = hand_over(own, Claim(refuse))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="too late"):
                sock.send(b"x")
        assert sock.withdraw()


def test_of_many_threads_one_takes_it() -> None:
    with Handed() as handed:
        together = threading.Barrier(8)

        def use() -> None:
            together.wait()
            handed.sock.send(b"x")

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handed.taken == 1
        assert handed.peer.recv(8, socket.MSG_WAITALL) == b"x" * 8


def test_to_close_it_leaves_the_connection_to_who_has_the_other_copy() -> None:
    with Handed() as handed:
        handed.sock.close()
        handed.own.sendall(b"still")
        assert handed.peer.recv(9) == b"still"
