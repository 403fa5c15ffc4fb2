# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest
from deadlines import eventually

from prefork.net.tcpinfo import since_data, waiting_connections

if TYPE_CHECKING:
    from pathlib import Path

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has struct tcp_info")


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener


@linux
def test_the_time_since_the_last_data_grows_and_begins_anew_with_data() -> None:
    with (
        listening() as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        client.sendall(b"a")
        eventually(lambda: (since_data(server) or 0.0) > 0.05)
        client.sendall(b"b")
        eventually(lambda: (since_data(server) or 0.0) < 0.05)


@linux
def test_time_before_the_accept_counts() -> None:
    with listening() as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"a")
        sent = client.getsockname()
        eventually(lambda: (since_data(client) or 0.0) > 0.05)  # the handshake was as long ago
        accepted, peer = listener.accept()
        with accepted:
            assert peer == sent
            assert (since_data(accepted) or 0.0) >= 0.04


@linux
def test_connections_that_nobody_has_accepted_are_counted() -> None:
    with listening() as listener:
        assert waiting_connections(listener) == 0
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        eventually(lambda: waiting_connections(listener) == 3)
        listener.accept()[0].close()
        assert waiting_connections(listener) == 2
        for client in clients:
            client.close()


def test_of_a_unix_socket_nothing_is_known(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert (since_data(listener), waiting_connections(listener)) == (None, None)


def test_of_a_socket_that_is_not_tcp_nothing_is_known() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert since_data(sock) is None
