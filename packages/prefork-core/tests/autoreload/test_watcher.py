# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Self

import pytest
from deadlines import PATIENCE, eventually

from prefork.autoreload import watcher
from prefork.autoreload.imported import Imported
from prefork.autoreload.sources import Sources
from prefork.autoreload.watcher import Kind, Word, words

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The process that watches logs nothing for good; here it is a thread."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)


class Watching:
    """A watcher in a thread, and the arbiter's end of its channel."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.imported = Imported()
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(PATIENCE)
        theirs.setblocking(False)
        paths = Sources((str(folder),), tuple(str(folder / entry) for entry in extra))
        self.status: list[int] = []
        # Made here, so that what the test does next is a change.
        made = watcher.Watcher(paths, self.imported, theirs)
        self._thread = Thread(target=lambda: self.status.append(made.run()), daemon=True)
        self._thread.start()

    def hear(self) -> list[Word]:
        return words(self._ours.recv(65536))

    def leave(self) -> None:
        """Be an arbiter that has died."""
        self._ours.close()
        self._thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def test_words_come_as_they_were_sent() -> None:
    sent = [Word(Kind.CHANGED, "app.py and 2 more"), Word(Kind.TROUBLE, "no watches\nare left")]
    lines = b"".join(word.line() for word in sent)
    assert words(lines) == [sent[0], Word(Kind.TROUBLE, "no watches are left")]
    assert words(b"?what\n\n") == []


def test_a_save_is_told_whenever_it_comes(tmp_path: Path) -> None:
    """Also one that comes before anything is watched."""
    app = tmp_path / "app.py"
    app.write_text("0")
    with Watching(tmp_path) as watching:
        for number in range(1, 4):
            app.write_text("0" * 2**number)
            assert watching.hear() == [Word(Kind.CHANGED, "app.py")]


@pytest.mark.parametrize("name", ["app.py", "prices.toml", "pages/index.html"])
def test_a_file_that_is_replaced_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    with Watching(tmp_path, "prices.toml", "pages/**/*.html") as watching:
        for text in ("two", "six"):
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(path)
            assert watching.hear() == [Word(Kind.CHANGED, name)]


def test_a_module_in_a_new_folder_is_told_and_then_watched(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        (tmp_path / "app.py").touch()
        watching.hear()
        (tmp_path / "shop").mkdir()
        module = tmp_path / "shop" / "views.py"
        for text in ("one", "three", "seventeen"):
            module.write_text(text)
            assert watching.hear() == [Word(Kind.CHANGED, "shop/views.py")]


def test_what_is_imported_later_is_watched_from_then_on(tmp_path: Path) -> None:
    elsewhere = tmp_path / "library" / "tool.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text("one")
    project = tmp_path / "project"
    project.mkdir()
    with Watching(project) as watching:
        (project / "app.py").touch()
        watching.hear()
        watching.imported.add([str(elsewhere)])
        (project / "other.py").touch()  # when that is told, the list was read
        assert watching.hear() == [Word(Kind.CHANGED, "other.py")]
        elsewhere.write_text("three")
        assert watching.hear() == [Word(Kind.CHANGED, str(elsewhere))]


def test_what_editors_and_python_write_beside_a_module_is_not_told(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        (tmp_path / "app.py").touch()
        watching.hear()
        (tmp_path / "__pycache__").mkdir()
        for name in ("__pycache__/app.cpython-311.pyc", ".app.py.swp", "4913", "app.py~", "server.log"):
            (tmp_path / name).write_text("x")
        (tmp_path / ".#app.py").symlink_to("somebody@elsewhere")
        (tmp_path / "last.py").touch()
        assert watching.hear() == [Word(Kind.CHANGED, "last.py")]


def test_many_saves_at_once_are_few_words(tmp_path: Path) -> None:
    with Watching(tmp_path) as watching:
        (tmp_path / "app.py").touch()
        watching.hear()
        for number in range(100):
            (tmp_path / f"module_{number:03}.py").touch()
        told = 0
        heard = 0
        while told < 100:
            (word,) = watching.hear()
            first, _, more = word.text.partition(" and ")
            assert first.startswith("module_")
            told += 1 + int(more.split()[0] or 0) if more else 1
            heard += 1
        assert heard < 10


def test_it_ends_with_the_arbiter(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    (tmp_path / "app.py").touch()
    watching.hear()
    watching.leave()
    assert watching.status == [0]


def test_a_folder_that_goes_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "views.py").touch()
    with Watching(tmp_path) as watching:
        os.unlink(tmp_path / "shop" / "views.py")
        os.rmdir(tmp_path / "shop")
        assert watching.hear() == [Word(Kind.CHANGED, "shop/views.py")]
        (tmp_path / "app.py").touch()
        assert watching.hear() == [Word(Kind.CHANGED, "app.py")]


def test_a_limit_of_the_kernel_is_told_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refuse)
    watching = Watching(tmp_path)
    assert watching.hear() == [Word(Kind.TROUBLE, "OS file watch limit reached")]
    eventually(lambda: watching.status == [1])
