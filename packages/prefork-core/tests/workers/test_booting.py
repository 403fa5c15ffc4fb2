# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from in_a_child import passes_in_a_child

from prefork.errors import AppError, BootError, ConfigError, ExitCode
from prefork.observe.log import open_logs
from prefork.settings import Settings
from prefork.workers import booting
from prefork.workers.sync import SyncWorker


def test_initgroups_is_asked_for_before_anything_is_loaded() -> None:
    def check() -> None:
        with pytest.raises(ConfigError, match="needs a user with an account, and uid 54321 has none"):
            booting.load(Settings(user=54321, group=54321, initgroups=True), SyncWorker)

    assert passes_in_a_child(check)


def with_cause(error: BootError) -> BootError:
    error.__cause__ = KeyError("DATABASE_URL")
    return error


@pytest.mark.parametrize(
    ("error", "code", "said", "traceback"),
    [
        (AppError("no module"), ExitCode.APP, "no module", False),
        (BootError("it raised"), ExitCode.BOOT, "it raised", False),
        (with_cause(BootError("it raised")), ExitCode.BOOT, "KeyError: 'DATABASE_URL'", False),
        (ConfigError("no such user"), ExitCode.BOOT, "no such user", False),
        (SystemExit(7), ExitCode.BOOT, "the application called sys.exit(7)", False),
        (ValueError("a plugin"), ExitCode.BOOT, "the template could not boot", True),
    ],
)
def test_a_failure_is_logged_and_has_its_exit_code(
    tmp_path: Path, error: Exception | SystemExit, code: int, said: str, *, traceback: bool
) -> None:
    logs = open_logs(Settings(errorlog=str(tmp_path / "error.log")))
    assert booting.failed(error, logs, "template") == code
    text = (tmp_path / "error.log").read_text()
    assert said in text
    assert ("ValueError: a plugin" in text) is traceback
    logs.close()
