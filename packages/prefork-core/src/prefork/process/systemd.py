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


class Manager:
    """The service manager that has started this process. Where there is none, nothing is told to nobody.

    Args:
        environ: the environment; what is meant for this process alone is taken out of it, so that no worker,
            and no program of the application, speaks in its name.
        pid: of this process, as it was when it was started.

    Attributes:
        watchdog: seconds within which it wants to hear `WATCHDOG=1`, 0.0 when it does not
            (sd_watchdog_enabled(3)).
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._path = environ.pop("NOTIFY_SOCKET", "")
        self._interval = environ.pop("WATCHDOG_USEC", "")
        meant_for = environ.pop("WATCHDOG_PID", "") or str(pid)
        wanted = self._interval.isdecimal() and meant_for == str(pid)
        self.watchdog = int(self._interval) / 1e6 if wanted else 0.0

    @property
    def is_there(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._path)

    def tell(self, *states: str) -> bool:
        """Tell it something, in one message; see `notify`."""
        return notify(self._path, *states)

    def for_successor(self) -> dict[str, str]:
        """Return the variables by which another arbiter finds the same manager."""
        found = {"NOTIFY_SOCKET": self._path}
        if self.watchdog:
            found["WATCHDOG_USEC"] = self._interval  # without WATCHDOG_PID it is for whoever is told
        return found if self._path else {}

    def hand_over(self, pid: int) -> None:
        """Say that another process is the service's main process from now on, and nothing more after that.

        This is the one place where that is said. Until then the manager hears this process alone
        (NotifyAccess=main); afterwards what it would say of its own end would be taken for the service's.

        Args:
            pid: of the arbiter that has taken over.
        """
        self.tell(f"MAINPID={pid}")
        self._path = ""
        self.watchdog = 0.0
