# SPDX-License-Identifier: MIT
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError
from prefork.settings import Settings
from prefork.settings.option import Table
from prefork.settings.pyfile import read

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.settings.origin import Given


def given(tmp_path: Path, text: str) -> list[Given]:
    path = tmp_path / "conf.py"
    path.write_text(text)
    return list(read(Table(Settings), path, "conf.py"))


def places(tmp_path: Path, text: str) -> dict[str, str]:
    return {item.name: str(item.origin) for item in given(tmp_path, text)}


def test_the_place_of_a_value_is_the_last_line_that_sets_it(tmp_path: Path) -> None:
    text = "workers = 1\nif 1:\n    workers = 2\nfor timeout in (3,): pass\ndef on_exit(s):\n    bind = 1"
    assert places(tmp_path, text) == {
        "workers": "conf.py:3",
        "timeout": "conf.py:4",
        "on_exit": "conf.py:5",
    }


def test_a_value_that_no_line_sets_has_the_file_as_its_place(tmp_path: Path) -> None:
    assert places(tmp_path, "globals().update(workers=3)") == {"workers": "conf.py"}


HELPERS = """
import multiprocessing
from pathlib import Path
from multiprocessing import cpu_count
from importlib import reload
_worker = 1
cores = cpu_count()
host, port = "127.0.0.1", 80
config = {"a": 1}
WORKERS = 3
class Workerz: pass
def count_workers(): return 2
def server(): pass
here = Path(__file__).parent
"""


def test_helpers_are_not_settings(tmp_path: Path) -> None:
    """Private names, constants, modules, classes, functions, and names like no setting's."""
    assert given(tmp_path, HELPERS) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("log_level = 'info'", "loglevel"),
        ("worker = 3", "workers"),
        ("max_request = 3", "max_requests"),
        ("keep_alive = 3", "keepalive"),
        ("def post_forks(server, worker): pass", "post_fork"),
        ("def when_redy(server): pass", "when_ready"),
    ],
)
def test_a_name_that_is_nearly_a_settings_is_an_error(tmp_path: Path, text: str, meant: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^conf\.py:2: there is no setting \w+\n  hint: did you mean {meant}\?"
    ):
        given(tmp_path, f"\n{text}\n")


def test_a_name_that_is_nearly_one_that_the_file_sets_too_is_a_helper(tmp_path: Path) -> None:
    assert places(tmp_path, "worker = 2\nworkers = worker * 2") == {"workers": "conf.py:2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0", r"conf\.py:2: the configuration file raises ZeroDivisionError: division by zero"),
        ("def f():\n    raise KeyError('a')\nf()", r"conf\.py:2: .* KeyError: 'a'"),
        ("import json\njson.loads('')", r"conf\.py:2: .* JSONDecodeError"),
        ("import nowhere_at_all", r"conf\.py:1: .* ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("workers = = 3", r"conf\.py:1: .* SyntaxError"),
        ("import sys\nsys.exit(3)", r"conf\.py:2: .* SystemExit: 3"),
    ],
)
def test_a_file_that_raises_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        given(tmp_path, text)


def test_a_null_byte_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^conf\.py"):
        given(tmp_path, "workers = 1\0")


def test_annotations_are_evaluated_as_the_file_says(tmp_path: Path) -> None:
    """The file is compiled by its own rules, not by those of prefork's modules."""
    (item,) = given(tmp_path, "def post_fork(server: int, worker: int): pass")
    assert item.value.__annotations__ == {"server": int, "worker": int}


def test_a_file_in_a_declared_encoding_is_read_as_python_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "conf.py"
    path.write_bytes(b"# coding: latin-1\nproc_name = '\xe9'\n")
    assert [item.value for item in read(Table(Settings), path, "conf.py")] == ["é"]


def test_a_function_of_a_settings_name_is_a_slip_only_if_it_is_written_here(tmp_path: Path) -> None:
    assert places(tmp_path, "from importlib import reload") == {}
    assert places(tmp_path, "def reload(): pass") == {"reload": "conf.py:1"}
