# SPDX-License-Identifier: MIT
from __future__ import annotations

import errno
import os
import select
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from folders import public_folder
from serving import Forked

from prefork.errors import ConfigError
from prefork.net.listener import (
    Address,
    Family,
    Listener,
    adopt,
    move,
    open_listener,
    parse_bind,
    stop_queueing,
    take_over,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_PORT = Address(Family.IPV4, "127.0.0.1", 0)


def listen(address: Address = ANY_PORT, *, backlog: int = 16, mode: int = 0o660) -> Listener:
    return open_listener(address, backlog, mode)


def unix(path: Path) -> Address:
    return Address(Family.UNIX, str(path))


def connect(listener: Listener, seconds: float = 20.0) -> socket.socket:
    client = socket.socket(listener.sock.family, socket.SOCK_STREAM)
    client.settimeout(seconds)
    client.connect(listener.sock.getsockname())
    return client


def accept(listener: Listener, seconds: float = 20.0) -> socket.socket:
    assert select.select([listener.sock], [], [], seconds)[0], "nobody is queued"
    return socket.socket(fileno=listener.accept()[0].detach())


# What `bind` may say


@pytest.mark.parametrize(
    ("text", "family", "host", "port"),
    [
        ("127.0.0.1:8000", Family.IPV4, "127.0.0.1", 8000),
        ("127.0.0.1", Family.IPV4, "127.0.0.1", 8000),
        ("localhost", Family.IPV4, "localhost", 8000),
        ("example.org:80", Family.IPV4, "example.org", 80),
        (":80", Family.IPV4, "0.0.0.0", 80),
        ("80", Family.IPV4, "127.0.0.1", 80),
        ("0", Family.IPV4, "127.0.0.1", 0),
        ("65535", Family.IPV4, "127.0.0.1", 65535),
        ("tcp://127.0.0.1:80", Family.IPV4, "127.0.0.1", 80),
        ("[::1]:80", Family.IPV6, "::1", 80),
        ("[::1]", Family.IPV6, "::1", 8000),
        ("[fe80::1%eth0]:80", Family.IPV6, "fe80::1%eth0", 80),
        ("tcp://[::]:80", Family.IPV6, "::", 80),
        ("unix:/run/app.sock", Family.UNIX, "/run/app.sock", 0),
        ("unix:///run/app.sock", Family.UNIX, "/run/app.sock", 0),
        ("unix:app.sock", Family.UNIX, "app.sock", 0),
        ("unix:@app", Family.UNIX, "\0app", 0),
        ("fd://3", Family.FD, "3", 0),
    ],
)
def test_a_bind_is_an_address(text: str, family: Family, host: str, port: int) -> None:
    assert parse_bind(text) == Address(family, host, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an address"),
        ("tcp://", "not an address"),
        ("127.0.0.1:", "port is a number"),
        ("127.0.0.1:http", "port is a number"),
        ("127.0.0.1:65536", "port is a number"),
        ("127.0.0.1:-1", "port is a number"),
        ("127.0.0.1:" + "9" * 5000, "port is a number"),
        ("70000", "port is a number"),
        ("127.0.0.1:٣", "port is a number"),
        ("::1:80", "brackets"),
        ("http://localhost:80", "brackets"),
        ("[::1]80", "not an address"),
        ("[::1:80", "not an address"),
        ("[]:80", "not an address"),
        ("[127.0.0.1]:80", "not an address"),
        ("unix:", "no path"),
        ("unix://", "no path"),
        ("fd://", "a descriptor is a number"),
        ("fd://x", "a descriptor is a number"),
        ("fd://-1", "a descriptor is a number"),
        ("fd://" + "9" * 30, "a descriptor is a number"),
    ],
)
def test_a_bind_that_is_none_is_an_error_with_an_example(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_bind(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80", "unix:/run/app.sock", "unix:@app", "fd://3"])
def test_an_address_is_shown_as_it_is_written(text: str) -> None:
    assert str(parse_bind(text)) == text


# TCP


def test_it_listens_without_blocking_and_knows_its_url() -> None:
    listener = listen()
    port = listener.sock.getsockname()[1]
    assert listener.url == f"http://127.0.0.1:{port}"
    with pytest.raises(BlockingIOError):
        listener.sock.accept()
    with connect(listener) as client:
        client.send(b"x")
        with accept(listener) as accepted:
            assert accepted.recv(1) == b"x"
    listener.close(unlink=True)


def test_accepted_connections_do_not_wait_to_fill_a_packet() -> None:
    listener = listen()
    with connect(listener) as client:
        client.send(b"x")
        with accept(listener) as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listener.close(unlink=True)


def test_it_listens_on_ipv6_alone() -> None:
    """The binds [::]:8000 and 0.0.0.0:8000 are two."""
    six = listen(Address(Family.IPV6, "::", 0))
    port = six.sock.getsockname()[1]
    assert six.url == f"http://[::]:{port}"
    four = listen(Address(Family.IPV4, "0.0.0.0", port))
    six.close(unlink=True)
    four.close(unlink=True)


def test_a_host_name_is_looked_up() -> None:
    listener = listen(Address(Family.IPV4, "localhost", 0))
    assert listener.sock.getsockname()[0] == "127.0.0.1"
    listener.close(unlink=True)


def test_a_port_in_use_is_named() -> None:
    first = listen()
    port = first.sock.getsockname()[1]
    with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: Address already in use") as caught:
        listen(Address(Family.IPV4, "127.0.0.1", port))
    assert "another process" in caught.value.hint
    first.close(unlink=True)


def test_a_port_can_be_had_again_at_once() -> None:
    first = listen()
    port = first.sock.getsockname()[1]
    with connect(first) as client:
        client.send(b"x")
        accept(first).close()
        first.close(unlink=True)
    listen(Address(Family.IPV4, "127.0.0.1", port)).close(unlink=True)


def test_an_address_that_the_machine_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:80") as caught:
        listen(Address(Family.IPV4, "192.0.2.1", 80))
    assert "does not have that address" in caught.value.hint


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".example", "a..b", "x\0y"])
def test_a_host_that_cannot_be_found_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        listen(Address(Family.IPV4, host, 80))


def test_nothing_stays_open_when_it_fails() -> None:
    first = listen()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(ConfigError):
            listen(Address(Family.IPV4, "127.0.0.1", first.sock.getsockname()[1]))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    first.close(unlink=True)


# Unix sockets


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_unix_socket_has_the_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o027)
    try:
        listener = listen(unix(tmp_path / "s"), mode=mode)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == mode
    assert listener.url == f"unix:{tmp_path}/s"
    listener.close(unlink=True)


def test_a_unix_socket_has_its_owner(tmp_path: Path) -> None:
    # Without root there is only one that can be given.
    owner = (os.geteuid(), os.getegid()) if os.geteuid() else (65534, 65534)
    listener = open_listener(unix(tmp_path / "s"), 1, 0o600, owner)
    status = os.stat(tmp_path / "s")
    assert (status.st_uid, status.st_gid) == owner
    listener.close(unlink=True)


def test_closing_removes_the_path(tmp_path: Path) -> None:
    listen(unix(tmp_path / "s")).close(unlink=True)
    assert not (tmp_path / "s").exists()


def test_a_process_that_only_closes_its_copy_leaves_the_path(tmp_path: Path) -> None:
    listen(unix(tmp_path / "s")).close(unlink=False)
    assert (tmp_path / "s").exists()


def test_the_path_is_left_when_somebody_else_has_taken_it(tmp_path: Path) -> None:
    """The next server started before this one has ended: its socket must not be removed."""
    first = listen(unix(tmp_path / "s"))
    (tmp_path / "s").unlink()
    second = listen(unix(tmp_path / "s"))
    first.close(unlink=True)
    connect(second).close()
    second.close(unlink=True)
    assert not (tmp_path / "s").exists()


def test_a_path_that_is_gone_already_is_fine(tmp_path: Path) -> None:
    listener = listen(unix(tmp_path / "s"))
    (tmp_path / "s").unlink()
    listener.close(unlink=True)


def test_a_path_that_may_not_be_removed_stops_nobody() -> None:
    """Workers without root that outlive their arbiter cannot remove /run/app.sock."""
    with public_folder() as folder:
        listener = listen(unix(folder / "s"))
        folder.chmod(0o555)

        def close_as_nobody() -> int:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            listener.close(unlink=True)
            return 0

        with Forked(close_as_nobody) as child:
            assert child.status() == 0
        assert (folder / "s").exists()
        folder.chmod(0o755)
        listener.close(unlink=True)


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    listen(unix(tmp_path / "s")).close(unlink=False)
    second = listen(unix(tmp_path / "s"))
    connect(second).close()
    second.close(unlink=True)


def test_the_socket_of_a_living_server_is_left(tmp_path: Path) -> None:
    first = listen(unix(tmp_path / "s"))
    with pytest.raises(ConfigError, match="Address already in use") as caught:
        listen(unix(tmp_path / "s"))
    assert "another process" in caught.value.hint
    connect(first).close()
    first.close(unlink=True)


def test_a_living_server_whose_queue_is_full_is_left_too(tmp_path: Path) -> None:
    first = listen(unix(tmp_path / "s"), backlog=0)
    queued = [connect(first)]
    probe = socket.socket(socket.AF_UNIX)
    probe.setblocking(False)
    while probe.connect_ex(str(tmp_path / "s")) == 0:
        queued.append(probe)
        probe = socket.socket(socket.AF_UNIX)
        probe.setblocking(False)
    with pytest.raises(ConfigError, match="Address already in use"):
        listen(unix(tmp_path / "s"))
    for client in [*queued, probe]:
        client.close()
    first.close(unlink=True)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_a_path_that_is_something_else_is_left(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "s")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        listen(unix(tmp_path / "s"))
    assert (tmp_path / "s").exists()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        listen(unix(tmp_path / "missing" / "s"))


def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        listen(unix(tmp_path / ("s" * 200)))


def test_a_path_with_a_nul_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        listen(Address(Family.UNIX, "/tmp/a\0b"))


def test_an_abstract_socket_has_no_path() -> None:
    name = f"prefork-test-{os.getpid()}"
    listener = listen(Address(Family.UNIX, "\0" + name))
    assert listener.url == f"unix:@{name}"
    connect(listener).close()
    listener.close(unlink=True)


# Sockets that another process has made


def test_a_listening_socket_is_adopted() -> None:
    theirs = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(theirs.fileno(), True)
    listener = open_listener(parse_bind(f"fd://{os.dup(theirs.fileno())}"), 16, 0)
    assert not listener.sock.get_inheritable()
    assert not listener.sock.getblocking()
    assert listener.url.startswith("http://127.0.0.1:")
    with connect(listener) as client:
        client.send(b"x")
        accept(listener).close()
    listener.close(unlink=True)
    theirs.close()


def test_the_path_of_an_adopted_unix_socket_is_left(tmp_path: Path) -> None:
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(str(tmp_path / "s"))
    theirs.listen()
    listener = adopt(os.dup(theirs.fileno()), 16)
    stop_queueing(listener)
    listener.close(unlink=True)
    assert (tmp_path / "s").exists()
    theirs.close()


def test_a_file_is_not_adopted(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_CREAT | os.O_RDWR)
    with pytest.raises(ConfigError, match=f"descriptor {fd} is not a socket"):
        adopt(fd, 16)
    os.close(fd)


def test_a_closed_descriptor_is_not_adopted() -> None:
    with pytest.raises(ConfigError, match="is not a socket"):
        adopt(987, 16)


def test_a_datagram_socket_is_not_adopted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
        pytest.raises(ConfigError, match="not a stream socket"),
    ):
        adopt(theirs.fileno(), 16)


def test_a_connected_socket_is_not_adopted() -> None:
    left, right = socket.socketpair()
    with right, pytest.raises(ConfigError, match="cannot listen on descriptor"):
        adopt(left.detach(), 16)


# Letting the queue run dry


def test_a_tcp_socket_that_stops_queueing_drops_new_connections_and_keeps_the_queued() -> None:
    listener = listen()
    queued = [connect(listener) for _ in range(3)]
    stop_queueing(listener)
    with pytest.raises(TimeoutError):
        connect(listener, seconds=0.3)
    for client in queued:
        client.send(b"asked")
        with accept(listener) as accepted:
            accepted.settimeout(20.0)
            assert accepted.recv(5) == b"asked"
            accepted.send(b"answered")
        assert client.recv(8) == b"answered"
    with pytest.raises(BlockingIOError):
        listener.sock.accept()
    listener.close(unlink=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("filters", [True, False], ids=["filter", "no filter"])
def test_a_tcp_socket_stops_queueing_with_and_without_the_right_to_filter(host: str, filters: bool) -> None:
    """Who is queued, or has not sent a byte yet, is served whole; new ones wait."""
    listener = listen(Address(Family.IPV6 if ":" in host else Family.IPV4, host, 0))
    if not filters:
        listener.sock.setsockopt(socket.SOL_SOCKET, 44, 1)  # SO_LOCK_FILTER: not even root may attach one
    asked, silent = connect(listener), connect(listener)
    asked.send(b"asked")
    stop_queueing(listener)
    with pytest.raises(TimeoutError):
        connect(listener, seconds=0.3)
    silent.send(b"asked")
    answer = bytes(1 << 20)
    for client in (asked, silent):
        with accept(listener) as accepted:
            accepted.settimeout(20.0)
            assert accepted.recv(5) == b"asked"
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(answer))
            with Forked(lambda accepted=accepted: accepted.sendall(answer) or 0):  # type: ignore[misc]
                received = 0
                while received < len(answer):
                    received += len(client.recv(1 << 16))
    listener.close(unlink=True)


def test_connections_accepted_before_go_on_after_the_queue_has_stopped() -> None:
    listener = listen()
    with connect(listener) as client:
        client.send(b"x")
        with accept(listener) as accepted:
            stop_queueing(listener)
            client.send(b"y")
            accepted.settimeout(20.0)
            assert accepted.recv(1) + accepted.recv(1) == b"xy"
    listener.close(unlink=True)


def test_it_holds_for_every_process_that_shares_the_socket() -> None:
    listener = listen()
    copy = socket.socket(fileno=os.dup(listener.sock.fileno()))

    def stop() -> int:
        stop_queueing(listener)
        return 0

    with Forked(stop) as child:
        assert child.status() == 0
    client = socket.socket()
    client.settimeout(0.3)
    assert client.connect_ex(copy.getsockname()) in {errno.EAGAIN, errno.EWOULDBLOCK}
    client.close()
    copy.close()
    listener.close(unlink=True)


def test_a_unix_socket_that_stops_queueing_loses_its_path_and_keeps_the_queued(tmp_path: Path) -> None:
    listener = listen(unix(tmp_path / "s"))
    queued = connect(listener)
    stop_queueing(listener)
    with pytest.raises(FileNotFoundError):
        connect(listener)
    with queued, accept(listener) as accepted:
        queued.send(b"x")
        assert accepted.recv(1) == b"x"
    listener.close(unlink=True)


def test_an_adopted_socket_goes_on_queueing() -> None:
    """A service manager holds it on: a filter would shut out the clients of the next start too."""
    theirs = socket.create_server(("127.0.0.1", 0))
    listener = adopt(os.dup(theirs.fileno()), 16)
    stop_queueing(listener)
    connect(listener).close()
    listener.close(unlink=True)
    theirs.close()


# In an upgrade


def test_a_listener_that_another_arbiter_has_too_is_not_ended_for_it(tmp_path: Path) -> None:
    for address in (ANY_PORT, unix(tmp_path / "web.sock")):
        listener = listen(address)
        listener.hold(held=True)
        stop_queueing(listener)
        found = [listener.is_quiet]
        connect(listener).close()
        listener.unlink()
        connect(listener).close()
        listener.hold(held=False)
        stop_queueing(listener)
        assert [*found, listener.is_quiet] == [False, True]
        listener.close(unlink=True)
    assert not (tmp_path / "web.sock").exists()


def test_every_process_of_a_server_sees_that_a_listener_is_held() -> None:
    """So a worker that has lost its arbiter leaves the socket to the other one."""
    listener = listen()

    def stop() -> int:
        while not listener.is_held:
            select.select([], [], [], 0.01)
        stop_queueing(listener)
        return int(listener.is_quiet)

    with Forked(stop) as worker:
        listener.hold(held=True)
        assert worker.status() == 0
    listener.close(unlink=True)


def test_a_listener_is_taken_over_with_its_address_and_path(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    old = listen(unix(path))
    new = take_over(os.dup(old.sock.fileno()), str(old.address), old.inode, 5)
    assert (new.address, new.url, new.inode) == (old.address, f"unix:{path}", old.inode)
    assert not new.sock.getblocking()
    assert not new.sock.get_inheritable()
    old.close(unlink=False)
    connect(new).close()
    new.close(unlink=True)
    assert not path.exists()


def test_a_socket_goes_to_the_place_of_another_one(tmp_path: Path) -> None:
    """Nobody who connects meanwhile finds nothing, and the other one leaves the path alone."""
    path = tmp_path / "control"
    old, new = listen(unix(path)), listen(unix(tmp_path / "control.2"))
    with pytest.raises(OSError, match="Address already in use"):
        move(new, str(path), in_use=False)
    move(new, str(path), in_use=True)
    old.close(unlink=True)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        accept(new).close()
    assert [found.name for found in tmp_path.iterdir()] == ["control"]
    new.close(unlink=True)
    assert list(tmp_path.iterdir()) == []


def test_a_socket_goes_to_the_place_of_one_that_is_dead(tmp_path: Path) -> None:
    old, new = listen(unix(tmp_path / "control")), listen(unix(tmp_path / "control.2"))
    old.close(unlink=False)
    move(new, str(tmp_path / "control"), in_use=False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control"))
    new.close(unlink=True)
