# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import threading
from pathlib import Path

from prefork.process import forkable
from prefork.process.forkable import Socket


def described(sock: socket.socket) -> str:
    return forkable.describe(Socket(sock.fileno(), 1))


def test_a_number_that_is_used_again_is_another_socket() -> None:
    with socket.socket() as sock:
        number, before = sock.fileno(), forkable.sockets()
    with socket.socket() as sock:
        assert sock.fileno() == number
        assert [found.number for found in forkable.sockets() - before] == [number]


def test_an_open_socket_is_found_and_a_closed_one_is_not() -> None:
    before = forkable.sockets()
    with socket.socket() as sock:
        assert [found.number for found in forkable.sockets() - before] == [sock.fileno()]
    assert forkable.sockets() == before


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    before = forkable.sockets()
    with (tmp_path / "file").open("w"):
        assert forkable.sockets() == before


def test_a_connection_is_described_by_its_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert described(client) == f"127.0.0.1:{port} (descriptor {client.fileno()})"
        assert described(server) == f"127.0.0.1:{port} (descriptor {server.fileno()})"


def test_an_ipv6_address_has_its_brackets() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert described(server).startswith(f"[::1]:{server.getsockname()[1]} ")


def test_a_unix_socket_is_described_by_its_path_or_not_at_all(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert described(sock).startswith(f"{tmp_path}/s ")
    left, _right = socket.socketpair()
    assert described(left).startswith("a socket without a name ")


def test_describing_a_socket_leaves_it_open() -> None:
    left, right = socket.socketpair()
    described(left)
    left.send(b"x")
    assert right.recv(1) == b"x"


def test_one_that_was_closed_meanwhile_is_a_number() -> None:
    left, _right = socket.socketpair()
    number = left.detach()
    socket.close(number)
    assert forkable.describe(Socket(number, 1)) == f"descriptor {number}"


def test_threads_are_named_but_not_the_calling_one() -> None:
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, name="exporter")
    thread.start()
    try:
        assert "exporter" in forkable.threads()
        assert threading.current_thread().name not in forkable.threads()
    finally:
        leave.set()
        thread.join()
