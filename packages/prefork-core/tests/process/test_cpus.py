# SPDX-License-Identifier: MIT
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from prefork.process import cpus

if TYPE_CHECKING:
    from pathlib import Path


class Cgroups:
    """A folder that looks like /sys/fs/cgroup, and the list of a process's groups."""

    def __init__(self, folder: Path, membership: str) -> None:
        self.root = folder / "cgroup"
        self.root.mkdir()
        self.membership = folder / "membership"
        self.membership.write_text(membership)

    def put(self, path: str, text: str) -> Cgroups:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def quota(self) -> float:
        return cpus.quota(self.root, self.membership)


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert cpus.quota(tmp_path, tmp_path / "none") == math.inf


@pytest.mark.parametrize(
    ("text", "expected"), [("150000 100000", 1.5), ("max 100000", math.inf), ("?", math.inf)]
)
def test_the_quota_of_version_2(tmp_path: Path, text: str, expected: float) -> None:
    assert Cgroups(tmp_path, "0::/app\n").put("app/cpu.max", text).quota() == expected


def test_the_least_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path, "0::/slice/app\n").put("slice/app/cpu.max", "400000 100000")
    assert groups.put("slice/cpu.max", "200000 100000").quota() == 2.0


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    assert Cgroups(tmp_path, "0::/\n").put("cpu.max", "50000 100000").quota() == 0.5


def test_a_group_outside_of_the_namespace_ends_somewhere(tmp_path: Path) -> None:
    assert Cgroups(tmp_path, "0::/../../other\n").put("cpu.max", "50000 100000").quota() == 0.5


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_the_quota_of_version_1(tmp_path: Path, folder: str) -> None:
    groups = Cgroups(tmp_path, "5:memory:/app\n4:cpu,cpuacct:/app\n")
    groups.put(f"{folder}/app/cpu.cfs_quota_us", "300000").put(f"{folder}/app/cpu.cfs_period_us", "100000")
    assert groups.quota() == 3.0


def test_no_quota_of_version_1_is_minus_one(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path, "4:cpu:/\n")
    groups.put("cpu/cpu.cfs_quota_us", "-1").put("cpu/cpu.cfs_period_us", "100000")
    assert groups.quota() == math.inf


@pytest.mark.parametrize(
    ("share", "number", "why"),
    [
        (1.0, 3, "auto: 2 × 1 CPU + 1"),
        (0.2, 3, "auto: 2 × 1 CPU + 1"),
        (1.5, 5, "auto: 2 × 2 CPUs + 1"),
        (8.0, 17, "auto: 2 × 8 CPUs + 1"),
        (512.0, 512, "auto: 2 × 512 CPUs + 1"),
    ],
)
def test_auto_is_two_for_each_cpu_and_one_more(share: float, number: int, why: str) -> None:
    assert cpus.workers("auto", 512, share) == (number, why)


def test_a_number_that_is_set_is_taken() -> None:
    assert cpus.workers(7, 512) == (7, "as set")


def test_this_machine_has_a_cpu() -> None:
    assert cpus.available() > 0
