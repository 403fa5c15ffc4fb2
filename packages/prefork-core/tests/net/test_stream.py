# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
import threading
import time
from math import inf
from typing import TYPE_CHECKING

import pytest
from deadlines import eventually
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ClientDisconnected
from prefork.net.stream import FilePart, Stream, block

if TYPE_CHECKING:
    from pathlib import Path

LARGE = os.urandom(1 << 20)


def pair(buffer: int = 0) -> tuple[Stream, socket.socket]:
    """Return a stream and its peer.

    Args:
        buffer: bytes that the kernel keeps in between, about; 0 for its default.
    """
    ours, theirs = socket.socketpair()
    if buffer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    theirs.settimeout(20.0)
    return Stream(ours), theirs


def tcp_pair() -> tuple[Stream, socket.socket]:
    """Return the same over TCP, where a reset can be seen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=20.0)
        ours, _ = listener.accept()
    return Stream(ours), theirs


def take(peer: socket.socket, count: int) -> bytes:
    """Receive so many bytes, fewer only at the end."""
    pieces = []
    while count and (piece := peer.recv(min(count, 65536))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def pump(stream: Stream, peer: socket.socket, count: int) -> bytes:
    """Let a peer take so many bytes while the stream is flushed when it can be."""
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(take(peer, count)))
    thread.start()
    while not stream.flush():
        assert block(stream.fd, time.monotonic() + 20.0, to_write=True)
    thread.join(20.0)
    return got[0]


# Receiving


def test_receiving_never_waits() -> None:
    stream, peer = pair()
    assert stream.receive() is None
    peer.send(b"abc")
    assert stream.receive() == b"abc"
    peer.close()
    assert stream.receive() == b""


def test_a_reset_is_a_client_that_went_away() -> None:
    stream, peer = tcp_pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ClientDisconnected):
        eventually(stream.receive)


# Sending


def test_what_fits_is_sent_at_once() -> None:
    stream, peer = pair()
    stream.send(b"abc")
    assert not stream.out
    assert (stream.pending, stream.taken) == (0, 3)
    assert take(peer, 3) == b"abc"


def test_what_does_not_fit_is_kept_and_sent_later() -> None:
    stream, peer = pair(4096)
    stream.send(LARGE)
    assert 0 < stream.pending == len(LARGE) - stream.taken
    assert pump(stream, peer, len(LARGE)) == LARGE
    assert not stream.out
    assert (stream.pending, stream.taken) == (0, len(LARGE))


def test_sending_nothing_is_nothing() -> None:
    stream, peer = pair()
    stream.send(b"")
    stream.send(b"x")
    assert take(peer, 1) == b"x"


def test_what_is_kept_goes_out_as_soon_as_the_peer_takes_more() -> None:
    """PEP 3333: a block may not wait for the next ones.

    Else an event stream to a client that was slow for a moment would be silent until a quarter of a megabyte
    has piled up.
    """
    stream, peer = pair(4096)
    stream.send(LARGE[:100_000])
    kept = stream.pending
    assert kept
    take(peer, 100_000 - kept)
    stream.send(b"event")
    assert stream.pending < kept


def test_sending_to_nobody_raises() -> None:
    stream, peer = pair()
    peer.close()
    with pytest.raises(ClientDisconnected):
        stream.send(b"x")


def test_flushing_to_nobody_raises() -> None:
    stream, peer = pair(4096)
    stream.send(LARGE)
    peer.close()
    with pytest.raises(ClientDisconnected):
        stream.flush()


def test_what_is_dropped_is_forgotten() -> None:
    stream, _peer = pair(4096)
    stream.send(LARGE)
    stream.drop()
    assert not stream.out
    assert stream.pending == 0


# Files


def file_of(folder: Path, content: bytes) -> int:
    path = folder / "file"
    path.write_bytes(content)
    return os.open(path, os.O_RDONLY)


def test_a_part_of_a_file_is_sent(tmp_path: Path) -> None:
    fd = file_of(tmp_path, b"0123456789")
    stream, peer = pair()
    stream.send_file(FilePart(fd, 3, 4))
    assert not stream.out
    assert take(peer, 4) == b"3456"
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    os.close(fd)


def test_bytes_and_files_keep_their_order(tmp_path: Path) -> None:
    fd = file_of(tmp_path, LARGE)
    stream, peer = pair(4096)
    stream.send(b"head")
    stream.send_file(FilePart(fd, 0, len(LARGE)))
    stream.send(b"between")
    stream.send_file(FilePart(fd, 10, 10))
    stream.send(b"end")
    expected = b"head" + LARGE + b"between" + LARGE[10:20] + b"end"
    assert pump(stream, peer, len(expected)) == expected
    assert stream.taken == len(expected)
    os.close(fd)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30_000), st.integers(0, 30_000)), max_size=12))
def test_whatever_is_sent_arrives_once_and_in_order(steps: list[tuple[bool, int, int]]) -> None:
    fd = os.memfd_create("content")
    os.write(fd, LARGE[:65536])
    stream, peer = pair(4096)
    expected = b""
    for is_file, start, count in steps:
        expected += LARGE[start : start + count]
        if is_file:
            stream.send_file(FilePart(fd, start, count))
        else:
            stream.send(LARGE[start : start + count])
    assert pump(stream, peer, len(expected)) == expected
    stream.close()
    peer.close()
    os.close(fd)


def test_a_file_costs_no_memory(tmp_path: Path) -> None:
    fd = file_of(tmp_path, LARGE)
    stream, _peer = pair(4096)
    stream.send_file(FilePart(fd, 0, len(LARGE)))
    assert stream.out
    assert stream.pending == 0
    os.close(fd)


def test_what_was_not_sent_can_be_told(tmp_path: Path) -> None:
    fd = file_of(tmp_path, LARGE)
    stream, _peer = pair(4096)
    assert stream.left == 0
    stream.send_file(FilePart(fd, 0, len(LARGE)))
    stream.send(b"end")
    assert stream.taken + stream.left == len(LARGE) + 3
    os.close(fd)


def test_a_file_that_became_shorter_is_an_error_but_not_the_clients(tmp_path: Path) -> None:
    fd = file_of(tmp_path, b"0123456789")
    stream, peer = pair()
    with pytest.raises(OSError, match="shorter") as caught:
        stream.send_file(FilePart(fd, 0, 20))
    assert not isinstance(caught.value, ClientDisconnected)
    assert take(peer, 10) == b"0123456789"
    os.close(fd)


def test_a_file_for_nobody_is_a_client_that_went_away(tmp_path: Path) -> None:
    fd = file_of(tmp_path, LARGE)
    stream, peer = pair()
    peer.close()
    with pytest.raises(ClientDisconnected):
        stream.send_file(FilePart(fd, 0, 100))
    os.close(fd)


def test_a_file_for_a_socket_that_is_not_connected_any_more_is_one_too(tmp_path: Path) -> None:
    """MacOS says ENOTCONN then, which is no ConnectionError; Linux of a Unix socket that never was."""
    fd = file_of(tmp_path, LARGE)
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ClientDisconnected, match="not connected"):
        Stream(sock).send_file(FilePart(fd, 0, 100))
    os.close(fd)


def test_a_large_file_lets_others_have_their_turn() -> None:
    """A client that reads as fast as we send would keep all others waiting."""
    fd = os.memfd_create("large")
    os.truncate(fd, 64 << 20)
    stream, peer = tcp_pair()
    stop = threading.Event()

    def swallow() -> None:
        while not stop.is_set() and peer.recv(1 << 20):
            pass

    thread = threading.Thread(target=swallow)
    thread.start()
    stream.send_file(FilePart(fd, 0, 64 << 20))
    assert stream.out
    assert stream.taken <= 16 << 20
    stop.set()
    stream.close()
    thread.join(20.0)
    os.close(fd)


# Waiting


def test_waiting_ends_when_something_has_arrived() -> None:
    stream, peer = pair()
    peer.send(b"x")
    assert block(stream.fd, inf, to_write=False)


def test_waiting_ends_at_the_deadline() -> None:
    stream, _peer = pair()
    deadline = time.monotonic() + 0.01
    assert not block(stream.fd, deadline, to_write=False)
    assert time.monotonic() >= deadline


def test_waiting_ends_when_the_peer_is_gone() -> None:
    stream, peer = pair()
    peer.close()
    assert block(stream.fd, time.monotonic() + 20.0, to_write=False)


# Closing


def test_after_a_half_close_the_peer_may_still_send() -> None:
    stream, peer = pair()
    stream.send(b"last")
    stream.half_close()
    assert take(peer, 10) == b"last"
    peer.send(b"late")
    assert stream.receive() == b"late"


def test_half_closing_what_is_gone_is_nothing() -> None:
    stream, peer = tcp_pair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(ClientDisconnected):
        eventually(stream.receive)
    stream.half_close()


def test_a_reset_stream_does_not_look_complete() -> None:
    stream, peer = tcp_pair()
    stream.send(b"part")
    assert take(peer, 4) == b"part"
    stream.reset()
    stream.close()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
