# SPDX-License-Identifier: MIT
from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError
from prefork.settings import load
from prefork.workers import registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = """
from prefork.worker import Worker
class Own(Worker):
    api = 1
    def run(self, ctx): ...
class Old(Worker):
    api = 0
    def run(self, ctx): ...
class Silent(Worker):
    def run(self, ctx): ...
class Stranger: ...
number = 5
"""


@contextmanager
def installed(folder: Path, module: str, source: str, **distributions: dict[str, str]) -> Iterator[None]:
    """Install a module, and distributions that name workers in it.

    Args:
        folder: where.
        module: its name, one that no other test uses.
        source: its text.
        distributions: by name, what their entry points of the group are.
    """
    (folder / f"{module}.py").write_text(source)
    for name, entries in distributions.items():
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{entry} = {value}" for entry, value in entries.items())
        (info / "entry_points.txt").write_text(f"[prefork.workers]\n{lines}\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)


def test_a_worker_of_another_distribution_is_found_by_its_name(tmp_path: Path) -> None:
    with installed(tmp_path, "registry_a", GOOD, dist_a={"own-a": "registry_a:Own"}):
        assert registry.find("own-a").__name__ == "Own"
        assert "own-a" in registry.names()


def test_a_name_that_nobody_has_installed_lists_those_that_are(tmp_path: Path) -> None:
    entries = {"own-b": "registry_b:Own", "another-b": "registry_b:Own"}
    with (
        installed(tmp_path, "registry_b", GOOD, dist_b=entries),
        pytest.raises(ConfigError, match="no worker class 'nothing'") as caught,
    ):
        registry.find("nothing")
    assert "another-b" in caught.value.hint
    assert caught.value.hint.index("another-b") < caught.value.hint.index("own-b")


def test_a_name_that_two_distributions_claim_is_refused_and_both_are_named(tmp_path: Path) -> None:
    entry = {"own-c": "registry_c:Own"}
    with (
        installed(tmp_path, "registry_c", GOOD, dist_one=entry, dist_two=entry),
        pytest.raises(ConfigError, match="'own-c' is claimed by dist_one and dist_two"),
    ):
        registry.find("own-c")


@pytest.mark.parametrize("separator", [":", "."])
def test_a_class_is_found_by_its_place(tmp_path: Path, separator: str) -> None:
    with installed(tmp_path, "registry_d", GOOD):
        assert registry.find(f"registry_d{separator}Own").__name__ == "Own"


@pytest.mark.parametrize(
    "path", ["registry_e:Missing", "registry_e.Missing", "missing_module:Own", "registry_e:", ":Own", "."]
)
def test_a_place_where_nothing_is_is_an_error(tmp_path: Path, path: str) -> None:
    with (
        installed(tmp_path, "registry_e", GOOD),
        pytest.raises(ConfigError, match="cannot be loaded") as caught,
    ):
        registry.find(path)
    assert "package.module:Class" in caught.value.hint


@pytest.mark.parametrize("name", ["Stranger", "number"])
def test_what_is_no_worker_class_is_refused(tmp_path: Path, name: str) -> None:
    with (
        installed(tmp_path, "registry_f", GOOD),
        pytest.raises(ConfigError, match=r"not a subclass of prefork\.worker\.Worker"),
    ):
        registry.find(f"registry_f:{name}")


@pytest.mark.parametrize(("name", "version"), [("Old", "0"), ("Silent", "None")])
def test_a_worker_of_another_api_version_is_refused(tmp_path: Path, name: str, version: str) -> None:
    with (
        installed(tmp_path, "registry_g", GOOD, dist_g={"own-g": f"registry_g:{name}"}),
        pytest.raises(ConfigError, match=f"of dist_g is written for version {version}") as caught,
    ):
        registry.find("own-g")
    assert "dist_g" in caught.value.hint


def test_a_plugin_that_cannot_be_imported_is_named_with_its_error(tmp_path: Path) -> None:
    with (
        installed(tmp_path, "registry_h", "raise ValueError('own')", dist_h={"own-h": "registry_h:Own"}),
        pytest.raises(ConfigError, match="'own-h' of dist_h cannot be loaded: own"),
    ):
        registry.find("own-h")


def test_the_name_of_gunicorns_class_is_no_worker_of_ours() -> None:
    with pytest.raises(ConfigError, match=r"cannot be loaded|not a subclass"):
        registry.find("gunicorn.workers.sync.SyncWorker")


def test_sync_with_several_threads_is_gthread_and_other_names_stay() -> None:
    asked = [("sync", 1), ("sync", 4), ("gthread", 1), ("own:Worker", 4)]
    assert [registry.chosen(name, threads) for name, threads in asked] == [
        "sync",
        "gthread",
        "gthread",
        "own:Worker",
    ]


def test_both_own_workers_are_found_by_their_names() -> None:
    assert {"sync", "gthread"} <= set(registry.names())


def warnings_for(name: str, *arguments: str, folder: Path) -> list[str]:
    """Return what is said about settings that a worker of a name cannot honour."""
    return registry.without_effect(registry.find(name), load(["app:app", *arguments], {}, str(folder)))


def test_who_gives_a_setting_that_the_worker_cannot_honour_is_warned_by_its_name(tmp_path: Path) -> None:
    [warning] = warnings_for("sync", "--keep-alive", "5", folder=tmp_path)
    assert warning.startswith("flag --keep-alive: keepalive has no effect: a sync worker closes")
    assert warnings_for("gthread", "--keep-alive", "5", folder=tmp_path) == []


def test_who_gives_nothing_that_is_missing_is_not_warned(tmp_path: Path) -> None:
    assert warnings_for("sync", folder=tmp_path) == []
    assert warnings_for("sync", "--keep-alive", "0", folder=tmp_path) == []


def test_a_foreign_worker_says_for_itself_what_it_cannot_honour(tmp_path: Path) -> None:
    source = GOOD + "Own.ignored = {'threads': 'it has one', 'no_setting': 'of another version'}\n"
    with installed(tmp_path, "registry_ignores", source):
        name = "registry_ignores:Own"
        assert warnings_for(name, "--threads", "4", folder=tmp_path) == [
            "flag --threads: threads has no effect: it has one"
        ]
