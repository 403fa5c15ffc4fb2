# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
import sys

import pytest

from prefork.net.peer import peer_uid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names the peer of a Unix socket this way")
def test_the_peer_s_user_is_the_one_it_had_when_it_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


def test_what_is_no_unix_socket_has_no_such_peer() -> None:
    with socket.socket() as sock:
        assert peer_uid(sock) != os.geteuid()
