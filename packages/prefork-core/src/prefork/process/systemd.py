# SPDX-License-Identifier: MIT
"""What systemd hands over, and what it wants to hear (sd_listen_fds(3), sd_notify(3)).

It decides the protocol; when to say what is the caller's.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""


def take_descriptors(environ: MutableMapping[str, str], pid: int) -> list[int]:
    """Return the listening descriptors that were passed to this process, and hide that from children.

    Args:
        environ: the environment; `LISTEN_*` are taken out of it.
        pid: of this process, as it was when systemd started it.
    """
    meant_for = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(pid) or not count.isdecimal():
        return []
    return list(range(FIRST_FD, FIRST_FD + int(count)))


def notify(path: str | None, *states: str) -> bool:
    """Tell the service manager something; never raises, never waits.

    Args:
        path: `NOTIFY_SOCKET`, None or empty when there is no manager; "@name" is an abstract socket.
        states: such as "READY=1".

    Returns:
        Whether it was told.
    """
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True
