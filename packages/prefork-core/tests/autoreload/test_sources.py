# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefork.autoreload import sources
from prefork.autoreload.sources import Sources, View, changes, is_module, look
from prefork.autoreload.stamp import stamp_of


def put(path: Path, text: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def view(folder: Path, *extra: str, imported: tuple[str, ...] = ()) -> View:
    """Look at a folder, extra files in it, and what is imported at this moment."""
    stamps = {path: stamp for path in imported if (stamp := stamp_of(path)) is not None}
    return look(Sources((str(folder),), tuple(str(folder / entry) for entry in extra)), stamps)


@pytest.mark.parametrize("name", ["app.py", "0001_initial.py", "__init__.py"])
def test_a_module_is_one_by_its_name(name: str) -> None:
    assert is_module(name)


@pytest.mark.parametrize(
    "name",
    [
        ".#app.py",
        "#app.py#",
        ".app.py.swp",
        "app.py~",
        "4913",
        "app.pyc",
        "app.py___jb_tmp___",
        "flycheck_app.py",
    ],
)
def test_what_editors_leave_for_a_moment_is_no_module(name: str) -> None:
    assert not is_module(name)


def test_modules_in_and_below_the_folder_count(tmp_path: Path) -> None:
    found = {put(tmp_path / "app.py"), put(tmp_path / "shop" / "views.py")}
    put(tmp_path / "shop" / "notes.txt")
    assert view(tmp_path).files.keys() == found
    assert view(tmp_path).folders == {str(tmp_path), str(tmp_path / "shop")}


@pytest.mark.parametrize("name", ["site-packages", "node_modules", "__pycache__", ".git", "env"])
def test_folders_in_which_nobody_edits_the_application_are_passed_over(tmp_path: Path, name: str) -> None:
    put(tmp_path / "env" / "pyvenv.cfg")
    put(tmp_path / name / "deep" / "module.py")
    assert view(tmp_path).files == {}
    assert view(tmp_path).folders == {str(tmp_path)}


def test_a_project_that_is_a_virtual_environment_is_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "pyvenv.cfg")
    app = put(tmp_path / "app.py")
    assert view(tmp_path).files.keys() == {app}


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "app.py")
    (tmp_path / "up").symlink_to(tmp_path)
    assert view(tmp_path).folders == {str(tmp_path)}


def test_what_was_imported_counts_wherever_it_is(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "library" / "tool.so")
    project = tmp_path / "project"
    put(project / "app.py")
    found = view(project, imported=(elsewhere, "/gone/away.py"))
    assert found.files.keys() == {elsewhere, str(project / "app.py")}
    assert found.folders == {str(project), str(tmp_path / "library")}


def test_a_linked_file_is_watched_where_it_is_edited(tmp_path: Path) -> None:
    real = put(tmp_path / "real" / "tool.py")
    link = tmp_path / "project" / "tool.py"
    link.parent.mkdir()
    link.symlink_to(real)
    assert str(tmp_path / "real") in view(link.parent, imported=(str(link),)).folders


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("prices.toml", {"prices.toml"}),
        ("pages", {"pages/a.html", "pages/b/c.html", "pages/b/d.txt"}),
        ("pages/*.html", {"pages/a.html"}),
        ("pages/**/*.html", {"pages/a.html", "pages/b/c.html"}),
        ("missing.txt", set()),
    ],
)
def test_extra_files_are_paths_folders_and_patterns(tmp_path: Path, entry: str, names: set[str]) -> None:
    for name in ("prices.toml", "pages/a.html", "pages/b/c.html", "pages/b/d.txt"):
        put(tmp_path / name)
    found = view(tmp_path, entry)
    assert found.files.keys() == {str(tmp_path / name) for name in names}
    assert {os.path.dirname(path) for path in found.files} <= found.folders
    declared = Sources((), (str(tmp_path / entry),))
    assert all(declared.concern(path) for path in found.files)
    assert not declared.concern(str(tmp_path / "shop.log"))


def test_more_folders_than_the_kernel_watches_are_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_FOLDERS", 3)
    for name in "abcdef":
        put(tmp_path / name / "module.py")
    found = view(tmp_path)
    assert (len(found.folders), found.is_cut) == (3, True)


def test_a_folder_that_is_not_there_is_not_watched(tmp_path: Path) -> None:
    assert view(tmp_path / "gone").folders == frozenset()


# What has changed


def test_without_a_save_nothing_has_changed(tmp_path: Path) -> None:
    put(tmp_path / "app.py", "one")
    assert changes(view(tmp_path), view(tmp_path)) == []


def test_a_save_a_replacement_a_new_file_and_a_missing_one_are_changes(tmp_path: Path) -> None:
    saved, replaced, gone = (put(tmp_path / f"{name}.py", "one") for name in ("saved", "replaced", "gone"))
    before = view(tmp_path)
    put(tmp_path / "saved.py", "three")
    fresh = put(tmp_path / "fresh.tmp", "one")
    os.utime(fresh, ns=(0, os.stat(replaced).st_mtime_ns))
    os.replace(fresh, replaced)
    os.unlink(gone)
    new = put(tmp_path / "new.py")
    assert changes(before, view(tmp_path)) == sorted([saved, replaced, gone, new])


def test_a_file_that_was_only_learned_of_has_not_changed(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "library" / "tool.py")
    project = tmp_path / "project"
    project.mkdir()
    before, learned = view(project), view(project, imported=(elsewhere,))
    assert changes(before, learned) == []
    put(Path(elsewhere), "changed")
    after = look(Sources((str(project),), ()), learned.imported)
    assert changes(learned, after) == [elsewhere]
    assert changes(before, after) == [elsewhere], "it was saved between the import and the look"


def test_a_module_that_was_saved_just_before_it_was_imported_has_changed(tmp_path: Path) -> None:
    app = put(tmp_path / "app.py", "one")
    before = view(tmp_path)
    put(tmp_path / "app.py", "three")
    assert changes(before, view(tmp_path, imported=(app,))) == [app]
