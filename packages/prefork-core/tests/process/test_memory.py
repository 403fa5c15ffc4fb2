# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from prefork.errors import ConfigError
from prefork.process import memory
from prefork.settings import Settings

PAGE = os.sysconf("SC_PAGE_SIZE")
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@ON_LINUX
def test_memory_that_is_written_is_private() -> None:
    size = 32 * 1024**2
    before = memory.private(os.getpid()) or 0
    filled = bytearray(b"x") * size
    assert (memory.private(os.getpid()) or 0) > before + 0.9 * len(filled)


@ON_LINUX
def test_what_is_shared_with_a_child_is_not_private_to_it() -> None:
    filled = bytearray(b"x") * (32 * 1024**2)
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)
    try:
        assert (memory.private(pid) or 0) < len(filled) / 2
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_clean_and_dirty_private_pages_count(tmp_path: Path) -> None:
    text = "0 [rollup]\nRss: 900 kB\nShared_Dirty: 300 kB\nPrivate_Clean: 12 kB\nPrivate_Dirty:     30 kB\n"
    put(tmp_path, "7/smaps_rollup", text)
    assert memory.private(7, tmp_path) == 42 * 1024


def test_without_leave_to_look_what_is_no_file_counts(tmp_path: Path) -> None:
    put(tmp_path, "7/statm", "900 100 30 1 0 50 0\n")
    assert memory.private(7, tmp_path) == 70 * PAGE


@pytest.mark.parametrize("statm", ["0 0 0 0 0 0 0\n", ""])
def test_a_process_that_ends_has_no_weight(tmp_path: Path, statm: str) -> None:
    """A zombie's figures are all zero."""
    put(tmp_path, "7/statm", statm)
    assert memory.private(7, tmp_path) is None
    assert memory.private(8, tmp_path) is None


def test_a_limit_of_version_2_counts_and_the_least_on_the_way_up(tmp_path: Path) -> None:
    put(tmp_path, "membership", "0::/slice/app\n")
    put(tmp_path, "slice/app/memory.max", "max\n")
    assert memory.limit(tmp_path, tmp_path / "membership") == math.inf
    put(tmp_path, "slice/memory.max", "4096000\n")
    put(tmp_path, "memory.max", "8192000\n")
    assert memory.limit(tmp_path, tmp_path / "membership") == 4096000


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    put(tmp_path, "membership", "5:cpu:/app\n4:memory:/app\n")
    put(tmp_path, "memory/app/memory.limit_in_bytes", "5000\n")
    put(tmp_path, "memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory.limit(tmp_path, tmp_path / "membership") == 5000


def test_a_share_is_one_of_what_there_is_and_a_number_is_itself() -> None:
    assert memory.allowance(12345) == 12345
    whole = memory.allowance("100%")
    assert 0 < whole <= os.sysconf("SC_PHYS_PAGES") * PAGE
    assert memory.allowance("25%") == pytest.approx(whole / 4, abs=1)


@ON_LINUX
def test_limits_can_be_kept_where_there_is_proc() -> None:
    memory.check(Settings(max_worker_memory=1, max_memory="80%"))


@pytest.mark.parametrize("name", ["max_worker_memory", "max_worker_memory_hard", "max_memory"])
def test_a_limit_that_cannot_be_kept_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be kept"):
        memory.check(Settings(**{name: 1}), tmp_path)  # type: ignore[arg-type]
    memory.check(Settings(), tmp_path)
