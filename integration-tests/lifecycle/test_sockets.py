# SPDX-License-Identifier: MIT
"""Every kind of address is listened on, inherited and left as it should be."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy
from support.server import Server

from prefork.testing import client
from prefork.testing.load import Load
from prefork.testing.server import free_port
from prefork.testing.waiting import until

AS_SYSTEMD: Final = (
    sys.executable,
    "-c",
    "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a command as systemd starts a service with a socket."""


def put_at_three(sock: socket.socket) -> None:
    """Make a socket descriptor 3 in a child, where systemd has its first one."""
    if sock.fileno() == 3:
        os.set_inheritable(3, True)
    else:
        os.dup2(sock.fileno(), 3)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp(tmp_path: Path, host: str) -> None:
    deploy(tmp_path)
    address = (host, free_port(host))
    with Server(tmp_path, "-w 2 app:app", address=address), Load(address) as load:
        load.wait()
        load.check()


def test_unix_socket(tmp_path: Path) -> None:
    """Its mode is right from the first moment, and it is removed at the end."""
    deploy(tmp_path)
    path = tmp_path / "s"
    with Server(tmp_path, "-w 2 --unix-socket-mode 600 app:app", address=str(path)) as server:
        assert mode(path) == 0o600
        with Load(server.address) as load:
            load.wait()
            load.check()
    assert not path.exists()


def test_abstract_unix_socket(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 app:app", address=f"@{tmp_path}") as server, Load(server.address) as load:
        load.wait()
        load.check()


def test_several_addresses(tmp_path: Path) -> None:
    """All are served by the same workers; one that is flooded does not starve the others."""
    deploy(tmp_path)
    port = free_port("::")
    unix = str(tmp_path / "s")
    arguments = f"-w 2 -b [::]:{port} -b unix:{unix} app:app"
    with (
        Server(tmp_path, arguments, address=("127.0.0.1", port)) as server,
        Load(("127.0.0.1", port), interval=0) as flood,
        Load(("::1", port), clients=1) as second,
        Load(unix, clients=1) as third,
    ):
        for load in (flood, second, third):
            load.wait()
            load.check()
        assert server.log().count("listening on") == 3


def test_an_address_in_use_is_said_so(tmp_path: Path) -> None:
    deploy(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Server(tmp_path, address=("127.0.0.1", port), ready=False, expect=1) as server:
            assert server.wait_exit() == 1
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in server.log()
            assert "Traceback" not in server.log()


def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    deploy(tmp_path)
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with Server(tmp_path, address=str(path), ready=False, expect=1) as server:
            assert server.wait_exit() == 1
            assert "Address already in use" in server.log()
        client.connect(str(path)).close()


def test_a_file_at_the_path_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    deploy(tmp_path)
    path = tmp_path / "s"
    path.write_text("precious")
    with Server(tmp_path, address=str(path), ready=False, expect=1) as server:
        assert server.wait_exit() == 1
        assert "the path exists and is not a socket" in server.log()
    assert path.read_text() == "precious"


def test_an_inherited_descriptor(tmp_path: Path) -> None:
    deploy(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        with (
            Server(
                tmp_path,
                f"-w 2 --bind fd://{fd} app:app",
                address=sock.getsockname()[:2],
                bind=False,
                pass_fds=(fd,),
            ) as server,
            Load(server.address) as load,
        ):
            load.wait()
            server.signal(signal.SIGHUP)
            server.wait_log("2 of 2 replaced")
            load.wait()
            load.check()


def test_socket_activation_loses_nothing_over_a_restart(tmp_path: Path) -> None:
    """The queue is systemd's: who connects while no server runs is answered by the next one."""
    deploy(tmp_path, "one")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock, Load(sock.getsockname()[:2]) as load:

        def service(expect: int = 0) -> Server:
            return Server(
                tmp_path,
                "-w 2 app:app",
                address=sock.getsockname()[:2],
                bind=False,
                expect=expect,
                environ={"LISTEN_FDS": "1"},
                wrapper=AS_SYSTEMD,
                pass_fds=(3, sock.fileno()),
                preexec_fn=lambda: put_at_three(sock),
            )

        with service() as server:
            load.wait()
            assert "inherited" in server.log()
            server.signal(signal.SIGHUP)
            server.wait_log("2 of 2 replaced")
            load.wait()
            # The next arbiter of an upgrade has it from the one before, not from systemd.
            server.signal(signal.SIGUSR2)
            server.wait_log("stop this one to finish")
            new = int(server.log().partition("upgrade: arbiter ")[2].split()[0])
            server.signal(signal.SIGTERM)
            server.wait_exit()
            server.follow(new)
            load.wait()
            server.stop()
        deploy(tmp_path, "two")
        with service(-signal.SIGKILL) as server:
            load.wait_version("two")
            # And after an arbiter that could not say goodbye.
            os.kill(server.pid, signal.SIGKILL)
            server.wait_exit()
            until(lambda: not server.belonging(), "the end of the workers")
        deploy(tmp_path, "three")
        with service():
            load.wait_version("three")
            load.finish()
        load.check()
