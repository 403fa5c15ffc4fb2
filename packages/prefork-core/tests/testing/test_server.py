# SPDX-License-Identifier: MIT
from __future__ import annotations

import socket

import pytest

from prefork.testing.server import clean_environ, free_port, reserve


def test_a_reserved_port_is_for_who_shares_it() -> None:
    """A server binds as the second does; what looks for a free port, as the first."""
    with reserve() as reserved, socket.socket() as other, socket.socket() as server:
        address = reserved.getsockname()
        with pytest.raises(OSError, match="in use"):
            other.bind(address)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen()


def test_nobody_has_a_free_port() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free_port()))


def test_a_server_does_not_read_what_the_developers_shell_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFORK_WORKERS", "7")
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("KEPT", "7")
    found = clean_environ(MORE="8")
    assert not {"PREFORK_WORKERS", "WEB_CONCURRENCY"} & found.keys()
    assert (found["KEPT"], found["MORE"]) == ("7", "8")
