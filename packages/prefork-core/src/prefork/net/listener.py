# SPDX-License-Identifier: MIT
"""Listening sockets: from the text of `bind` to a socket that workers share.

Decides address syntax, socket options, and how a socket leaves without losing what the kernel has
queued on it. Knows nothing of workers or of HTTP.

Listeners are always non-blocking: O_NONBLOCK lives on the open file description that all processes
share, so if one of them needs it, all have it.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import stat
import struct
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

PlainSocket: Final = socket.SocketType
"""Looked up before a library of greenlets puts a class of its own there, whose methods wait."""


class Family(Enum):
    """Where an address lives."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    UNIX = "unix"
    FD = "fd"


_SOCKET_FAMILY: Final = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Address:
    """One parsed `bind`.

    Args:
        family: where it lives.
        host: IP address or name; for UNIX the path, an abstract one with a leading NUL; for FD its number.
        port: TCP port, 0 for UNIX and FD, and for "any free port".
    """

    family: Family
    host: str
    port: int = 0

    def __str__(self) -> str:
        match self.family:
            case Family.UNIX:
                return "unix:" + self.host.replace("\0", "@", 1)
            case Family.FD:
                return f"fd://{self.host}"
            case Family.IPV6:
                return f"[{self.host}]:{self.port}"
            case Family.IPV4:
                return f"{self.host}:{self.port}"


_QUIET: Final = 1
_SHUT: Final = 2
"""What all processes can see of a listener; 0 while it takes connections."""


@dataclass(slots=True)
class Listener:
    """A listening socket.

    Args:
        sock: bound, listening, non-blocking.
        address: what was asked for.
        url: where clients reach it: "http://127.0.0.1:8000", "unix:/run/app.sock".
        inode: device and inode of the path of a Unix socket that this process has made, None for others.
    """

    sock: socket.socket
    address: Address
    url: str
    inode: tuple[int, int] | None = None
    _shared: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 2), repr=False, compare=False)
    """A page that all processes of this server share, as they share the socket: first whether its queue runs
    dry, then whether another server has it too."""
    _kind: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Ask once what every accepted socket is told: what kind of socket it is."""
        self._kind = int(self.sock.family), int(self.sock.type), self.sock.proto

    @property
    def is_quiet(self) -> bool:
        """Whether some process has called `stop_queueing`, so that the queue will run dry."""
        return self._shared[0] != 0

    @property
    def is_shut(self) -> bool:
        """Whether, on top of that, a queue found empty stays empty: nobody is half connected any more."""
        return self._shared[0] == _SHUT

    @property
    def is_held(self) -> bool:
        """Whether another arbiter and its workers take connections here, too."""
        return self._shared[1] != 0

    def hold(self, *, held: bool) -> None:
        """Let all processes of this server see whether another one takes connections here, too.

        Args:
            held: whether it does. Then nothing that this server does may end the socket for both.
        """
        self._shared[1] = held

    def note_quiet(self, *, shut: bool) -> None:
        """Let all processes see that the queue will run dry.

        Args:
            shut: whether it is final as soon as it is found empty.
        """
        self._shared[0] = _SHUT if shut else _QUIET

    def accept(self, make: Callable[..., socket.SocketType] = PlainSocket) -> tuple[socket.SocketType, Any]:
        """Return a connection and its peer's address.

        The connection is what is below a `socket.socket`: that class's layer in Python, on top of the same
        methods, costs a twentieth of a short request.

        Args:
            make: that class, for who hands the connection on to a library.

        Raises:
            OSError: as `socket.accept`.
        """
        fd, address = self.sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001 (as `socket.accept`)
        connected = make(*self._kind, fd)
        if self._shared[0]:
            _let_in(connected)
        return connected, address

    def close(self, *, unlink: bool) -> None:
        """Close this process's copy.

        Args:
            unlink: whether to remove the path of a Unix socket too, if it is still this socket's.
        """
        if unlink:
            self.unlink()
        self.sock.close()

    def unlink(self) -> None:
        """Remove the path of a Unix socket, unless another arbiter has it too, or another socket is there."""
        if self.is_held:
            return
        if self.inode is not None and self.inode == _inode(self.address.host):
            try:
                os.unlink(self.address.host)
            except OSError:
                pass  # a worker without root, in a folder of root's; the next start finds a stale socket
        self.inode = None


def move(listener: Listener, path: str, *, in_use: bool) -> None:
    """Give a Unix socket another path, in place of the socket that is there.

    Args:
        listener: one that this process has made.
        path: where to.
        in_use: whether somebody listens there who has agreed.

    Raises:
        ConfigError: the path is no socket.
        OSError: another server listens there, or it cannot be replaced.
    """
    if not in_use:
        _remove_stale(path)
    os.replace(listener.address.host, path)
    listener.address = Address(Family.UNIX, path)


def parse_bind(text: str) -> Address:
    """Parse one `bind`: HOST, HOST:PORT, [V6]:PORT, :PORT, PORT, tcp://…, unix:PATH, unix:@NAME or fd://N.

    Args:
        text: what the user wrote.

    Raises:
        ConfigError: it is none of these.
    """
    if text.startswith("fd://"):
        if not (text[5:].isascii() and text[5:].isdecimal() and len(text) < 12):
            raise ConfigError(f"bind {text!r}: a descriptor is a number", hint="for example fd://3")
        return Address(Family.FD, text[5:])
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ConfigError(f"bind {text!r} has no path", hint="for example unix:/run/app.sock")
        return Address(Family.UNIX, "\0" + path[1:] if path.startswith("@") else path)
    host, port = _split_port(text.removeprefix("tcp://"), text)
    return Address(Family.IPV6 if ":" in host else Family.IPV4, host, port)


def _split_port(rest: str, text: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or ":" not in host or (tail and not tail.startswith(":")):
            raise ConfigError(f"bind {text!r} is not an address", hint="for example [::1]:8000")
        return host, _port(tail[1:] if tail else "8000", text)
    if not rest:
        raise ConfigError(f"bind {text!r} is not an address", hint="for example 127.0.0.1:8000")
    if rest.count(":") > 1:
        raise ConfigError(f"bind {text!r}: put an IPv6 address in brackets", hint="for example [::1]:8000")
    if rest.isdecimal():
        return "127.0.0.1", _port(rest, text)
    host, colon, port = rest.partition(":")
    return host or "0.0.0.0", _port(port if colon else "8000", text)


def _port(digits: str, text: str) -> int:
    # The length first: int() of thousands of digits raises.
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 5 or int(digits) > 65535:
        raise ConfigError(
            f"bind {text!r}: the port is a number up to 65535", hint="for example 127.0.0.1:8000"
        )
    return int(digits)


def open_listener(
    address: Address, backlog: int, mode: int, owner: tuple[int, int] | None = None
) -> Listener:
    """Bind and listen.

    Args:
        address: where.
        backlog: connections that the kernel may queue (it takes net.core.somaxconn at most).
        mode: permission bits of a Unix socket.
        owner: uid and gid of a Unix socket, None to leave them.

    Raises:
        ConfigError: it cannot be bound; the message says why.
    """
    if address.family is Family.FD:
        return adopt(int(address.host), backlog)
    if "\0" in address.host[1:]:
        raise ConfigError(f"cannot listen on {address}: it holds a NUL")
    try:
        if address.family is Family.UNIX:
            return _listen_unix(address, backlog, mode, owner)
        return _listen_tcp(address, backlog)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror or error}", hint=_hint(error)
        ) from error
    except UnicodeError as error:  # a label of the host name is empty, or longer than DNS has them
        raise ConfigError(f"cannot listen on {address}: that is no host name") from error


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there: stop it, or choose another --bind"
    if error.errno == errno.EACCES:
        return "ports below 1024 need CAP_NET_BIND_SERVICE; a Unix socket needs a folder one may write to"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "no descriptors are left: raise the limit (ulimit -n)"
    return ""


def _listen_tcp(address: Address, backlog: int) -> Listener:
    family = _SOCKET_FAMILY[address.family]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    fitting = [entry for entry in found if entry[0] == family] or found
    sock = socket.socket(fitting[0][0], socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            # "[::]:8000" and "0.0.0.0:8000" are two binds; the default of the system would let one take both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(fitting[0][4])
        return _listen(sock, address, backlog)
    except BaseException:
        sock.close()
        raise


def _listen_unix(address: Address, backlog: int, mode: int, owner: tuple[int, int] | None) -> Listener:
    path = address.host
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("\0"):
            sock.bind(path)
            return _listen(sock, address, backlog)
        _remove_stale(path)
        # Nobody may connect before the mode is right, so the socket is born closed to all others.
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        if owner is not None:
            os.chown(path, *owner)
        os.chmod(path, mode)
        listener = _listen(sock, address, backlog)
    except BaseException:
        sock.close()
        raise
    listener.inode = _inode(path)
    return listener


def _tune(sock: socket.socket) -> None:
    """Set the options of a TCP listener that are about speed."""
    # Accepted sockets inherit it on Linux: no Nagle delay between head and late pieces of body.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        try:
            # Wake a worker when the request has arrived, not for the handshake before. A client that sends
            # nothing is handed over all the same, a second later.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        except OSError:
            pass  # an imitation of Linux


def _listen(sock: socket.socket, address: Address, backlog: int) -> Listener:
    if sock.family != socket.AF_UNIX:
        _tune(sock)
    sock.setblocking(False)
    sock.listen(backlog)
    return Listener(sock, address, _url(sock))


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more, as a killed server leaves it behind."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(f"cannot listen on unix:{path}: the path exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        reached = probe.connect_ex(path)
    if reached == errno.ECONNREFUSED:
        os.unlink(path)
    else:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def adopt(fd: int, backlog: int) -> Listener:
    """Take a listening socket that another process has made (systemd, `fd://N`).

    Args:
        fd: its descriptor.
        backlog: connections that the kernel may queue.

    Raises:
        ConfigError: it is not a stream socket.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"descriptor {fd} is not a socket: {error.strerror}") from error
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise ConfigError(f"descriptor {fd} is not a stream socket")
    sock.set_inheritable(False)
    try:
        return _listen(sock, Address(Family.FD, str(fd)), backlog)
    except OSError as error:  # it is connected
        raise ConfigError(f"cannot listen on descriptor {fd}: {error.strerror}") from error


def take_over(fd: int, bind: str, inode: tuple[int, int] | None, backlog: int) -> Listener:
    """Take a listening socket that another arbiter hands on.

    Args:
        fd: its descriptor.
        bind: what was asked for when it was opened.
        inode: of its path, if it has one that is ours to remove.
        backlog: connections that the kernel may queue.

    Raises:
        ConfigError: it is not a stream socket.
    """
    listener = adopt(fd, backlog)
    listener.address = parse_bind(bind)
    listener.inode = inode
    return listener


def _url(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        path = name.decode() if isinstance(name, bytes) else name
        return "unix:" + path.replace("\0", "@", 1)
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


# struct sock_filter: code, jt, jf, k. Load the byte with the TCP flags, keep SYN and ACK, and drop
# the segment (length 0) when only SYN is set; pass all others whole.
_TCP_FLAGS_OFFSET: Final = 13
_SYN: Final = 0x02
_SYN_ACK_MASK: Final = 0x12
_DROP_SYNS: Final = (
    struct.pack("HBBI", 0x30, 0, 0, _TCP_FLAGS_OFFSET)  # BPF_LD | BPF_B | BPF_ABS
    + struct.pack("HBBI", 0x54, 0, 0, _SYN_ACK_MASK)  # BPF_ALU | BPF_AND | BPF_K
    + struct.pack("HBBI", 0x15, 0, 1, _SYN)  # BPF_JMP | BPF_JEQ | BPF_K
    + struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET: drop
    + struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF)  # BPF_RET: pass
)
_SO_ATTACH_FILTER: Final = 26

_LEAST_HOPS: Final[dict[int, tuple[int, int]]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 21),  # IP_MINTTL
    socket.AF_INET6: (socket.IPPROTO_IPV6, 73),  # IPV6_MINHOPCOUNT
}
"""Level and name, on Linux, of the option with which RFC 5082 keeps routing protocols to their neighbours."""


def stop_queueing(listener: Listener) -> None:
    """Let the kernel queue no further connection here, so that the queue can run dry.

    A connection in the queue of a socket that its last process closes is reset. So before that, new ones
    must stop coming: on Linux by a classic socket filter that drops bare SYNs (the client's kernel sends its
    SYN again a second later, to whoever listens then, or is refused). Some kernels want CAP_NET_ADMIN for
    that. There, the least number of hops that a packet must have left is set to the largest, which next to
    nobody's has; the kernel asks it of packets to the listener, and not of handshakes that have begun. A Unix
    socket loses its path, and on Linux is shut for reading: clients who know it still are refused, also those
    of an abstract one, or of one in a folder where a worker without root may remove nothing. Elsewhere TCP
    listeners stay as they are.

    Args:
        listener: shared by all processes: the filter holds for every one of them. One that was adopted is
            left alone: whoever made it (systemd) holds it on, so its queue is not lost, and the filter would
            shut out the clients of the next start too. So is one that another arbiter has too, in an upgrade.
    """
    if listener.address.family is Family.FD or listener.is_held:
        return
    if listener.sock.family == socket.AF_UNIX:
        listener.unlink()
        if sys.platform == "linux":
            listener.sock.shutdown(socket.SHUT_RD)  # what is queued can be accepted all the same
        listener.note_quiet(shut=sys.platform == "linux")
        return
    listener.note_quiet(shut=False)  # first: what is accepted from now on has to be let in
    if sys.platform == "linux":
        _drop_syns(listener.sock)


def _drop_syns(sock: socket.socket) -> None:
    import ctypes  # 3 ms that a start need not wait for

    code = ctypes.create_string_buffer(_DROP_SYNS)
    program = struct.pack("HP", len(_DROP_SYNS) // 8, ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        sock.setsockopt(*_LEAST_HOPS[sock.family], 255)


def _let_in(connected: socket.SocketType) -> None:
    """Accept all packets of a connection that came out of a handshake after `stop_queueing`.

    It has inherited the least number of hops from the listener.
    """
    if sys.platform == "linux" and connected.family in _LEAST_HOPS:
        connected.setsockopt(*_LEAST_HOPS[connected.family], 0)
