# SPDX-License-Identifier: MIT
"""Who the process is: user and group, session, title.

It decides how these are taken on. Who takes which, and when, is the caller's.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from typing import NamedTuple

from prefork.errors import ConfigError

if sys.platform != "darwin":
    # There it asks Apple's frameworks, which end a process that is forked without an exec (its issues 113
    # and 165).
    from setproctitle import setproctitle


class Owner(NamedTuple):
    """Whom workers, and what they must be able to open, belong to."""

    uid: int
    gid: int


def owner(user: str | int | None, group: str | int | None) -> Owner | None:
    """Return whom workers belong to, or None when that is the user who starts the server.

    Args:
        user: name or number.
        group: name or number; None is the user's own group.

    Raises:
        ConfigError: there is no such user or group.
    """
    if user is None and group is None:
        return None
    uid = os.geteuid() if user is None else _uid(user)
    gid = _gid(group) if group is not None else _group_of(uid)
    return Owner(uid, gid)


def check_privileges(user: str | int | None, group: str | int | None) -> None:
    """Find out before a fork whether `drop_privileges` can succeed.

    Args:
        user: name or number.
        group: name or number.

    Raises:
        ConfigError: there is no such user or group, or this process may not become it.
    """
    wanted = owner(user, group)
    if wanted is None or wanted == (os.geteuid(), os.getegid()) or os.geteuid() == 0:
        return
    raise ConfigError(
        f"only root can run workers as user {user if user is not None else wanted.uid}"
        f" and group {group if group is not None else wanted.gid}",
        hint="start prefork as root, or leave out user and group",
    )


def drop_privileges(user: str | int | None, group: str | int | None, *, initgroups: bool) -> None:
    """Become a user and group for good.

    Args:
        user: name or number; None to stay.
        group: name or number; None is the user's own group.
        initgroups: whether to take all groups of the user; otherwise the one group is left.

    Raises:
        ConfigError: there is no such user or group, or this process may not become it.
    """
    wanted = owner(user, group)
    if wanted is None or wanted == (os.geteuid(), os.getegid()):
        return
    try:
        # In this order: a process without root may change nothing any more.
        if initgroups:
            os.initgroups(_name_of(wanted.uid), wanted.gid)
        elif os.geteuid() == 0:
            os.setgroups([wanted.gid])
        os.setgid(wanted.gid)
        os.setuid(wanted.uid)
    except OSError as error:
        raise ConfigError(f"cannot become uid {wanted.uid}, gid {wanted.gid}: {error.strerror}") from error


def set_title(role: str, name: str, state: str = "") -> None:
    """Show in `ps` and `top` what the process is, except on macOS.

    Args:
        role: "arbiter", "worker", "template", "status" or "watcher".
        name: of the server: proc_name, or the application.
        state: what it does at the moment.
    """
    if sys.platform != "darwin":
        setproctitle(f"prefork: {role} [{name}]" + (f" {state}" if state else ""))


def _uid(user: str | int) -> int:
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ConfigError(f"there is no user {user!r}") from error


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ConfigError(f"there is no group {group!r}") from error


def _group_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return os.getegid()  # a number without an account, as in containers


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise ConfigError(f"initgroups needs a user with an account, and uid {uid} has none") from error
