# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from in_a_child import passes_in_a_child

from prefork.errors import ConfigError
from prefork.process import identity

if TYPE_CHECKING:
    pass

NOBODY = 65534


def become_nobody() -> None:
    """Make sure that the rest of a check runs without root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def test_without_user_and_group_there_is_no_owner() -> None:
    assert identity.owner(None, None) is None


def test_numbers_need_no_account_and_a_user_has_its_own_group() -> None:
    assert identity.owner(12345, 54321) == (12345, 54321)
    assert identity.owner("root", None) == (0, 0)
    assert identity.owner(12345, None) == (12345, os.getegid())


@pytest.mark.parametrize(
    ("user", "group", "message"),
    [("no-such-user", None, "there is no user 'no-such-user'"), (None, "no-such-group", "there is no group")],
)
def test_unknown_names_are_errors(user: str | None, group: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        identity.owner(user, group)


def test_who_is_the_user_already_needs_no_right() -> None:
    def check() -> None:
        become_nobody()
        identity.check_privileges(os.geteuid(), os.getegid())
        identity.drop_privileges(os.geteuid(), os.getegid(), initgroups=False)

    assert passes_in_a_child(check)


def test_without_root_nobody_becomes_another_and_that_is_known_before_the_fork() -> None:
    def check() -> None:
        become_nobody()
        with pytest.raises(ConfigError, match="only root can run workers as user root"):
            identity.check_privileges("root", None)
        with pytest.raises(ConfigError, match="cannot become uid 0, gid 0"):
            identity.drop_privileges("root", None, initgroups=False)

    assert passes_in_a_child(check)


def test_root_becomes_the_user_for_good_and_keeps_no_group() -> None:
    """Only root can show this; without root the test above shows the other half."""

    def check() -> None:
        if os.geteuid() != 0:
            return
        identity.drop_privileges(NOBODY, NOBODY, initgroups=False)
        assert os.getresuid() == (NOBODY, NOBODY, NOBODY)
        assert os.getresgid() == (NOBODY, NOBODY, NOBODY)
        assert set(os.getgroups()) <= {NOBODY}
        with pytest.raises(PermissionError):
            os.setuid(0)

    assert passes_in_a_child(check)


def test_initgroups_leaves_all_groups_of_the_user() -> None:
    """Only root can show this; as a rule some account of a machine is in a second group."""

    def check() -> None:
        if os.geteuid() != 0:
            return
        groups = {who: os.getgrouplist(who.pw_name, who.pw_gid) for who in pwd.getpwall() if who.pw_uid}
        user = max(groups, key=lambda who: len(groups[who]))
        identity.drop_privileges(user.pw_name, None, initgroups=True)
        assert (os.getuid(), os.getgid()) == (user.pw_uid, user.pw_gid)
        assert set(os.getgroups()) == set(groups[user])

    assert passes_in_a_child(check)


def test_initgroups_needs_an_account() -> None:
    def check() -> None:
        with pytest.raises(ConfigError, match="needs a user with an account, and uid 54321 has none"):
            identity.drop_privileges(54321, 54321, initgroups=True)

    assert passes_in_a_child(check)


def test_the_title_shows_role_name_and_state() -> None:
    def check() -> None:
        identity.set_title("arbiter", "shop", "ready")
        shown = Path("/proc/self/cmdline").read_bytes()
        assert shown.rstrip(b"\0") == b"prefork: arbiter [shop] ready"

    if sys.platform == "linux":
        assert passes_in_a_child(check)
