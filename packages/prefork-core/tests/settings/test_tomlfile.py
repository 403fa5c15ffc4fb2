# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError
from prefork.settings.tomlfile import has_settings, read

if TYPE_CHECKING:
    from pathlib import Path


def given(tmp_path: Path, text: str, name: str = "prefork.toml") -> dict[str, tuple[object, str]]:
    path = tmp_path / name
    path.write_text(text)
    return {item.name: (item.value, str(item.origin)) for item in read(path, name)}


def test_every_value_has_its_line(tmp_path: Path) -> None:
    text = '# prefork\nworkers = 3\n\n"timeout"= "30s"\n[secure_scheme_headers]\nworkers = "on"\n'
    assert given(tmp_path, text) == {
        "workers": (3, "prefork.toml:2"),
        "timeout": ("30s", "prefork.toml:4"),
        "secure_scheme_headers": ({"workers": "on"}, "prefork.toml:5"),
    }


def test_of_a_pyproject_only_our_table_counts(tmp_path: Path) -> None:
    text = "workers = 1\n[tool.other]\nworkers = 2\n[tool.prefork]\nworkers = 3\n"
    assert given(tmp_path, text, "pyproject.toml") == {"workers": (3, "pyproject.toml:5")}


def test_a_file_that_is_not_toml_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^prefork\.toml: not a TOML file: .*line 2"):
        given(tmp_path, "workers = 3\nworkers 4\n")


def test_our_entry_of_a_pyproject_must_be_a_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tool\.prefork is not a table"):
        given(tmp_path, "[tool]\nprefork = 3\n", "pyproject.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool.prefork]", True),
        ("[ tool . prefork ]", True),
        ("[tool.prefork.secure_scheme_headers]", True),
        ("# [tool.prefork]", False),
        ("[tool.preforked]", False),
        ("[project]", False),
    ],
)
def test_a_pyproject_is_ours_when_it_has_our_table(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f"[build-system]\n{text}\n")
    assert has_settings(path) is expected
