# SPDX-License-Identifier: MIT
"""Which loop is asked for, and what has to be installed for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prefork.settings import Settings
from prefork.settings.option import declared_in
from prefork_aio import options


def test_what_is_not_installed_is_named_with_the_line_that_installs_it() -> None:
    assert options.lacks(Settings(), "no_such_library") == (
        "no_such_library is not installed (pip install 'prefork-aio[no_such_library]')"
    )
    assert options.lacks(Settings(), "aiohttp") is None


def test_what_lies_beside_the_application_is_found(tmp_path: Path) -> None:
    (tmp_path / "own_library.py").touch()
    found = [Settings(chdir=str(tmp_path)), Settings(pythonpath=(str(tmp_path),)), Settings()]
    lacks = [options.lacks(settings, "own_library") is not None for settings in found]
    assert lacks == [False, False, True]
    assert "own_library" not in sys.modules


@pytest.mark.parametrize(("asked", "lacks"), [("uvloop", True), ("auto", False), ("asyncio", False)])
def test_uvloop_has_to_be_there_only_for_who_names_it(
    monkeypatch: pytest.MonkeyPatch, asked: str, *, lacks: bool
) -> None:
    [declared] = declared_in(options.Options)
    settings = Settings(contributed=((declared, asked),))
    assert options.lacks(settings) is None
    monkeypatch.setattr(sys, "path", [])
    assert (options.lacks(settings) is not None) == lacks
