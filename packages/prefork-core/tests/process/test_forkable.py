# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
import sqlite3
import threading
from pathlib import Path

from prefork.process import forkable
from prefork.process.forkable import Shared


def described(sock: socket.socket) -> str:
    return forkable.describe(Shared(sock.fileno(), (0, 1)))


def numbers(before: frozenset[Shared]) -> list[int]:
    return [found.number for found in forkable.shared_since(before)]


def test_a_number_that_is_used_again_is_another_socket() -> None:
    with socket.socket() as sock:
        number, before = sock.fileno(), forkable.shared()
    with socket.socket() as sock:
        assert sock.fileno() == number
        assert numbers(before) == [number]


def test_an_open_socket_is_found_and_a_closed_one_is_not() -> None:
    before = forkable.shared()
    with socket.socket() as sock:
        assert numbers(before) == [sock.fileno()]
    assert forkable.shared() == before


def test_a_copy_of_what_was_open_is_nothing_new() -> None:
    with socket.socket() as sock:
        before = forkable.shared()
        with sock.dup():
            assert numbers(before) == []


def test_both_ends_of_a_pipe_are_shared() -> None:
    before = forkable.shared()
    ends = os.pipe()
    assert numbers(before) == sorted(ends)
    for end in ends:
        os.close(end)


def test_a_database_is_shared_and_a_log_is_not(tmp_path: Path) -> None:
    """What is only appended to, or only read, has no state that two could confuse."""
    before = forkable.shared()
    with (tmp_path / "log").open("a"), (tmp_path / "log").open("r"):
        assert numbers(before) == []
    database = sqlite3.connect(tmp_path / "db")
    database.execute("create table t (c)")
    (found,) = forkable.shared_since(before)
    assert forkable.describe(found) == f"{tmp_path}/db (descriptor {found.number})"
    database.close()
    assert numbers(before) == []


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
    assert forkable.describe(Shared(number, (0, 1))) == f"descriptor {number}"


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
