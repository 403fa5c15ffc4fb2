# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork import errors
from prefork.errors import (
    AppError,
    BootError,
    ClientDisconnected,
    ClientStalled,
    ConfigError,
    ExitCode,
    PreforkError,
    ProtocolError,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, 1),
        (UsageError, 2),
        (BootError, 3),
        (AppError, 4),
        (PreforkError, 70),
    ],
)
def test_an_error_knows_its_exit_code(kind: type[PreforkError], code: int) -> None:
    assert kind("x").exit_code == code


def test_every_exit_code_is_of_its_own() -> None:
    assert len({code.value for code in ExitCode}) == len(ExitCode.__members__)


def test_the_hint_is_shown_on_a_line_of_its_own() -> None:
    assert str(ConfigError("wrong", hint="do right")) == "wrong\n  hint: do right"
    assert str(ConfigError("wrong")) == "wrong"
    assert ConfigError("wrong", hint="do right").message == "wrong"


def test_what_a_peer_did_wrong_has_a_status() -> None:
    assert ProtocolError("x").status == 400
    assert ProtocolError("x", 431).status == 431


def test_a_client_that_is_gone_is_an_os_error() -> None:
    """Django's and Werkzeug's wrappers of `wsgi.input` catch just that."""
    for kind in (ClientDisconnected, ClientStalled):
        assert issubclass(kind, OSError)
        assert kind("gone", 408).status == 408
        assert str(kind("gone", 408)) == "gone"
    assert ClientDisconnected("gone").status == 0


def test_all_that_is_raised_on_purpose_is_in_one_tree() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [kind for kind in kinds if issubclass(kind, Exception)]
    assert all(issubclass(kind, PreforkError | ClientDisconnected) for kind in raised)
