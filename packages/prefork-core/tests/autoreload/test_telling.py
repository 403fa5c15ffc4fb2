# SPDX-License-Identifier: MIT
from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import prefork.cli
from prefork import app as applications
from prefork.autoreload import telling
from prefork.autoreload.imported import Imported
from prefork.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def python_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a worker does to its Python is for good."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # as outside of tests
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(name: str, file: object) -> ModuleType:
    made = ModuleType(name)
    if file is not None:
        made.__file__ = file  # type: ignore[assignment]
    return made


def call(application: Any) -> Any:
    return application({}, lambda *_: None)


@pytest.mark.parametrize(
    "file",
    [
        "/shop/.venv/lib/python3.11/site-packages/flask/app.py",
        "/usr/lib/python3/dist-packages/flask/app.py",
        "/shop/app.pyc",
        "<string>",
        "<frozen importlib._bootstrap>",
        json.__file__,
        prefork.cli.__file__,
    ],
)
def test_what_is_installed_or_has_no_file_is_not_the_applications(file: str) -> None:
    assert not telling.is_application(file)


@pytest.mark.parametrize("file", ["/shop/app.py", "shop.py", "/shop/fast.cpython-311-x86_64-linux-gnu.so"])
def test_all_else_is(file: str) -> None:
    assert telling.is_application(file)


def test_whatever_is_among_the_modules_its_files_are_found() -> None:
    modules = [module("a", "/shop/a.py"), module("b", None), module("c", 5), None, object(), lambda: None]
    assert list(telling.files_of_modules(modules)) == ["/shop/a.py"]


def test_a_lazy_module_stays_unloaded(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("raise RuntimeError('loaded')")
    spec = importlib.util.spec_from_file_location("slow", tmp_path / "slow.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lazy)
    assert list(telling.files_of_modules([lazy])) == [str(tmp_path / "slow.py")]


def test_an_application_is_loaded_and_its_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "shop_one.py").write_text("import shop_two\ndef app(e, s): return [b'hello']")
    (tmp_path / "shop_two.py").touch()
    imported = Imported()
    application = telling.load(lambda: applications.load("shop_one:app"), imported)
    assert call(application) == [b"hello"]
    assert imported.read().keys() >= {str(tmp_path / "shop_one.py"), str(tmp_path / "shop_two.py")}
    assert not any("site-packages" in path for path in imported.read())


def test_what_a_call_imports_is_told_before_it_answers(tmp_path: Path) -> None:
    (tmp_path / "shop_late.py").touch()
    imported = Imported()

    def application(_environ: object, _start: object) -> object:
        import shop_late  # type: ignore[import-not-found]

        return shop_late

    loaded = telling.load(lambda: application, imported)
    assert str(tmp_path / "shop_late.py") not in imported.read()
    call(loaded)
    assert str(tmp_path / "shop_late.py") in imported.read()


@pytest.mark.parametrize("text", ["def broken(:", "raise RuntimeError", "import shop_missing"])
def test_the_files_of_a_failed_import_are_told(tmp_path: Path, text: str) -> None:
    """The one that is to be mended is never among the modules."""
    (tmp_path / "shop_outer.py").write_text("import shop_inner")
    (tmp_path / "shop_inner.py").write_text(text)
    imported = Imported()
    with pytest.raises(BootError):
        telling.load(lambda: applications.load("shop_outer:app"), imported)
    assert imported.read().keys() >= {str(tmp_path / "shop_outer.py"), str(tmp_path / "shop_inner.py")}


def test_two_saves_within_a_second_are_two_texts(tmp_path: Path) -> None:
    """A cached compilation is told from another by size and second only."""
    for text in ("one", "two"):
        (tmp_path / "shop_quick.py").write_text(f"def app(e, s): return '{text}'")
        os.utime(tmp_path / "shop_quick.py", (1_000_000, 1_000_000))
        application = telling.load(lambda: applications.load("shop_quick:app"), Imported())
        assert call(application) == text
        del sys.modules["shop_quick"]
