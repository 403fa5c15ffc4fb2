# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

from prefork.autoreload.imported import Imported
from prefork.autoreload.stamp import stamp_of


def put(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).touch()
    return [str(folder / name) for name in names]


def test_what_is_added_can_be_read_as_it_was_then(tmp_path: Path) -> None:
    imported = Imported()
    assert imported.read() == {}
    app, odd = put(tmp_path, "app.py", "b\udcff d.py")
    imported.add([app, odd])
    then = stamp_of(app)
    (tmp_path / "app.py").write_text("changed")
    (views,) = put(tmp_path, "views.py")
    imported.add([views, app])
    assert imported.read() == {app: then, odd: stamp_of(odd), views: stamp_of(views)}


def test_what_is_there_does_not_make_it_longer(tmp_path: Path) -> None:
    """Every worker of every generation says the same."""
    imported = Imported()
    paths = put(tmp_path, "app.py")
    imported.add(paths)
    before = imported.size
    imported.add(paths)
    assert imported.size == before > 0


def test_what_is_no_file_or_has_a_name_of_two_lines_is_left_out(tmp_path: Path) -> None:
    imported = Imported()
    imported.add([*put(tmp_path, "a\nb.py", "c.py"), "/shop.zip/app.py"])
    assert imported.read().keys() == {str(tmp_path / "c.py")}


def test_processes_that_are_forked_later_share_it(tmp_path: Path) -> None:
    imported = Imported()
    paths = put(tmp_path, *(f"{number}.py" for number in range(400)))
    for number in range(4):
        if os.fork() == 0:
            imported.add(paths[number * 100 : number * 100 + 100])
            os._exit(0)
    for _ in range(4):
        os.wait()
    assert imported.read().keys() == set(paths)
