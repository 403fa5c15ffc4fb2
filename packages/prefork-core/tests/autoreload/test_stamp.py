# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

from prefork.autoreload.stamp import stamp_of


def test_a_save_is_another_state(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("one")
    before = stamp_of(str(file))
    assert before == stamp_of(str(file))
    file.write_text("three")
    assert before != stamp_of(str(file))


def test_so_is_another_file_of_the_same_time_and_size(tmp_path: Path) -> None:
    old, new = tmp_path / "app.py", tmp_path / "app.new"
    for path in (old, new):
        path.write_text("one")
        os.utime(path, ns=(0, 0))
    before = stamp_of(str(old))
    new.replace(old)
    assert before != stamp_of(str(old))


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    assert stamp_of(str(tmp_path / "app.py")) is None
