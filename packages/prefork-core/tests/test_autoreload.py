# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys

import pytest

from prefork import autoreload
from prefork.errors import ConfigError


def test_with_watchfiles_all_is_well() -> None:
    autoreload.check_installed()


def test_without_watchfiles_the_error_has_the_line_for_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match=r"pip install 'prefork-core\[reload\]'"):
        autoreload.check_installed()
