# SPDX-License-Identifier: MIT
"""Makes the process look like one on macOS, as far as names of the standard library go.

What macOS lacks is taken away, a model of its kqueue is put in, and `sys.platform` says "darwin". The system
calls stay those of Linux. To be called before prefork is imported:

    python -c "import elsewhere; elsewhere.become_darwin(); ..."
"""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import select
import selectors
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import kqueue_model

if TYPE_CHECKING:
    from types import ModuleType

MISSING: Final[dict[ModuleType, str]] = {
    select: r"epoll|EPOLL.*",
    socket: (
        r"AF_(NETLINK|PACKET|VSOCK|ALG|CAN|TIPC|QIPCRTR|RDS|BLUETOOTH)|SOCK_(CLOEXEC|NONBLOCK)"
        r"|MSG_(MORE|NOSIGNAL|CMSG_CLOEXEC|ERRQUEUE|CONFIRM)|SO_(PEERCRED|INCOMING_CPU|DOMAIN|PROTOCOL|MARK)"
        r"|TCP_(DEFER_ACCEPT|INFO|CORK|QUICKACK|USER_TIMEOUT|LINGER2|SYNCNT|WINDOW_CLAMP|CONGESTION)"
        r"|IP_(TRANSPARENT|BIND_ADDRESS_NO_PORT)|PF_.*|CAN_.*|VM_.*|VMADDR_.*|TIPC_.*|ALG_.*"
    ),
    os: (
        r"pipe2|memfd_create|MFD_.*|pidfd_open|sched_.*|SCHED_.*|eventfd.*|EFD_.*|timerfd.*|TFD_.*|splice"
        r"|copy_file_range|posix_(fadvise|fallocate)|POSIX_FADV_.*|[gs]etres[ug]id|getrandom|GRND_.*"
        r"|O_(TMPFILE|PATH|DIRECT|NOATIME|LARGEFILE|RSYNC)|P_PIDFD|unshare|setns|CLONE_.*|[gs]etxattr|XATTR_.*"
        r"|listxattr|removexattr"
    ),
    signal: r"SIGRTM..|SIG(POLL|PWR|STKFLT|CLD)|sigwaitinfo|sigtimedwait|pidfd_send_signal",
    fcntl: r"F_.*PIPE_SZ|F_.*SEAL.*|F_NOTIFY|DN_.*|F_.*SIG|F_.*LEASE",
}
"""Names that the module lacks there, as patterns."""


def become_darwin() -> None:
    """Change the modules of this process, for good."""
    for module, pattern in MISSING.items():
        for name in [name for name in vars(module) if re.fullmatch(pattern, name)]:
            delattr(module, name)
    for name in ("kqueue", "kevent", *(name for name in vars(kqueue_model) if name.startswith("KQ_"))):
        setattr(select, name, getattr(kqueue_model, name))
    sys.platform = "darwin"
    importlib.reload(selectors)  # it has chosen already, because socket imports it
