# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError
from prefork.settings import Settings
from prefork.settings.files import choose, read
from prefork.settings.option import Table
from prefork.settings.origin import Given, Origin, Source

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = Origin(Source.COMMAND_LINE, "flag -c")


def folder_with(tmp_path: Path, **files: str) -> str:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return str(tmp_path)


def given(cwd: str, named: str) -> list[Given]:
    return list(read(Table(Settings), named, ORIGIN, cwd))


def test_an_empty_folder_has_no_configuration(tmp_path: Path) -> None:
    assert choose(str(tmp_path)) == (None, ())


def test_the_first_of_several_files_is_used_with_a_warning(tmp_path: Path) -> None:
    cwd = folder_with(tmp_path, prefork_conf_py="", prefork_toml="", pyproject_toml="[tool.prefork]")
    assert choose(cwd) == (
        "prefork.conf.py",
        ("prefork.conf.py is used; not read: prefork.toml, pyproject.toml",),
    )


def test_a_pyproject_without_our_table_is_no_configuration(tmp_path: Path) -> None:
    assert choose(folder_with(tmp_path, pyproject_toml="[project")) == (None, ())


def test_gunicorns_file_is_pointed_out_and_not_read(tmp_path: Path) -> None:
    name, warnings = choose(folder_with(tmp_path, gunicorn_conf_py="workers = 3"))
    assert name is None
    assert warnings == ("gunicorn.conf.py is only read when it is named: -c gunicorn.conf.py",)


@pytest.mark.parametrize("named", ["gunicorn.conf.py", "file:gunicorn.conf.py", "./gunicorn.conf.py"])
def test_a_named_file_is_read(tmp_path: Path, named: str) -> None:
    cwd = folder_with(tmp_path, gunicorn_conf_py="workers = 3")
    assert [item[:2] for item in given(cwd, named)] == [("workers", 3)]


def test_a_file_ending_in_toml_is_toml(tmp_path: Path) -> None:
    cwd = folder_with(tmp_path, other_toml="workers = 3")
    assert given(cwd, "other.toml") == [Given("workers", 3, Origin(Source.FILE, "other.toml:1"))]


def test_a_module_is_run_anew_each_time(tmp_path: Path) -> None:
    """A reload must see the edited file, which a cached import would hide."""
    package = tmp_path / "conf_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "near.py").write_text("number = 5")
    for text, workers in (("from .near import number as workers", 5), ("workers = 66", 66)):
        (package / "conf.py").write_text(text)
        assert [item[:2] for item in given(str(tmp_path), "python:conf_package.conf")] == [
            ("workers", workers)
        ]


def test_a_file_may_import_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "beside_the_configuration.py").write_text("n = 4")
    cwd = folder_with(tmp_path, a_py="from beside_the_configuration import n as workers")
    assert [item[:2] for item in given(cwd, "a.py")] == [("workers", 4)]


@pytest.mark.parametrize("named", ["missing.py", "missing.toml", "."])
def test_a_named_file_that_cannot_be_read_is_an_error_that_says_who_named_it(
    tmp_path: Path, named: str
) -> None:
    with pytest.raises(ConfigError, match=r"^flag -c: cannot read the configuration file /"):
        given(str(tmp_path), named)


@pytest.mark.parametrize("module", ["nowhere_at_all", "nowhere_at_all.conf", "sys", ".x"])
def test_a_module_that_has_no_file_is_an_error_that_says_who_named_it(tmp_path: Path, module: str) -> None:
    with pytest.raises(ConfigError, match=r"^flag -c: .*module"):
        given(str(tmp_path), f"python:{module}")
