# SPDX-License-Identifier: MIT

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from prefork.net.connected import Connected
from prefork.net.listener import open_listener, parse_bind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "unix:{folder}/socket"])
def test_it_says_the_same_as_a_socket_that_asks(tmp_path: Path, bind: str) -> None:
    listener = open_listener(parse_bind(bind.format(folder=tmp_path)), 8, 0o600)
    listener.sock.setblocking(True)
    kind = listener.sock.family
    with socket.socket(kind) as client:
        client.connect(listener.sock.getsockname())
        client.sendall(b"x")  # it is accepted with its first bytes
        connected, address = listener.accept(Connected)
        assert isinstance(connected, Connected)
        connected.peer = address
        with connected, socket.socket(fileno=connected.fileno()) as asking:
            assert (connected.family, connected.type) == (asking.family, asking.type)
            assert isinstance(connected.family, socket.AddressFamily)
            assert isinstance(connected.type, socket.SocketKind)
            assert connected.getpeername() == asking.getpeername()
            assert connected.getsockname() == asking.getsockname()
            asking.detach()
    listener.close(unlink=True)
