# SPDX-License-Identifier: MIT
"""Which files are watched, and what has changed between two looks at them.

It decides by what the file system shows, not by what a notification says: of a save notifications tell a
varying tale (a rename, a new file, three writes), and none of what happened before they were asked for.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

from prefork.autoreload.stamp import Stamp, stamp_of
from prefork.autoreload.telling import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

MOST_FOLDERS: Final = 4096
"""Below the application's folders. The kernel limits how many can be watched, on small machines to 8,192."""

_OF_EDITORS: Final = (".", "#", "flycheck_")
_SKIPPED: Final = INSTALLED | {"__pycache__", "node_modules"}
_VIRTUAL: Final = "pyvenv.cfg"
"""Marks a virtual environment, whatever its folder is called."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is to be watched, all paths absolute.

    Args:
        folders: every module file in and below them counts, imported or not, so that a module that was
            missing is noticed when it is there.
        extra: files, folders and patterns.
    """

    folders: tuple[str, ...]
    extra: tuple[str, ...]

    def concern(self, path: str) -> bool:
        """Return whether a path looks like a file that counts; `look` decides.

        Args:
            path: of a file.
        """
        return is_module(os.path.basename(path)) or any(
            path.startswith(f"{entry}{os.sep}") or fnmatch(path, entry.replace("**/", "*"))
            for entry in self.extra
        )


@dataclass(frozen=True, slots=True)
class View:
    """What a look found.

    Args:
        files: the files that count.
        imported: those that are known because they were imported, as they were then.
        folders: where something can change.
        is_cut: whether there are more folders than are watched.
    """

    files: Mapping[str, Stamp]
    imported: Mapping[str, Stamp]
    folders: frozenset[str]
    is_cut: bool


def is_module(name: str) -> bool:
    """Return whether a file's name is that of a module, and none that an editor has for a moment."""
    return name.endswith(".py") and not name.startswith(_OF_EDITORS)


def look(sources: Sources, imported: Mapping[str, Stamp]) -> View:
    """Look at all files that count.

    Args:
        sources: what is to be watched.
        imported: files of modules, which count wherever they are.
    """
    files: dict[str, Stamp] = {}
    folders: set[str] = set()
    for folder, entries in _all_below(sources.folders):
        if len(folders) == MOST_FOLDERS:
            break
        folders.add(folder)
        _note(files, [entry.path for entry in entries if is_module(entry.name)])
    is_cut = len(folders) == MOST_FOLDERS
    for path in imported:
        # A file may be a link, and be edited where that leads.
        _add_folders(folders, {os.path.dirname(path), os.path.dirname(os.path.realpath(path))})
    _note(files, imported.keys())
    for entry in sources.extra:
        found, around = _extra(entry)
        _add_folders(folders, around)
        _note(files, found)
    return View(files, imported, frozenset(folders), is_cut)


def changes(old: View, new: View) -> list[str]:
    """Return the files that differ between two looks.

    Args:
        old: the first look.
        new: the second one. What it knows only because it has been imported since is compared with what it
            was then.
    """
    learned = {path: stamp for path, stamp in new.imported.items() if path not in old.imported}
    before = {**learned, **old.files}
    return sorted(
        path for path in before.keys() | new.files.keys() if before.get(path) != new.files.get(path)
    )


def _all_below(roots: Sequence[str]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield folders and those below, with what is in each, but for where nobody edits the application."""
    rest = list(reversed(roots))
    while rest:
        folder = rest.pop()
        entries = _entries(folder)
        if entries is None or (folder not in roots and any(entry.name == _VIRTUAL for entry in entries)):
            continue
        yield folder, entries
        # Links to folders may lead anywhere, also upwards. What is imported through one is watched.
        rest += sorted(
            entry.path
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name not in _SKIPPED
            and entry.is_dir(follow_symlinks=False)
        )


def _entries(folder: str) -> list[os.DirEntry[str]] | None:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return None  # gone, or not for us


def _note(files: dict[str, Stamp], paths: Collection[str]) -> None:
    for path in paths:
        stamp = stamp_of(path)
        if stamp is not None:
            files[path] = stamp


def _add_folders(folders: set[str], more: Collection[str]) -> None:
    folders.update(folder for folder in more if folder not in folders and os.path.isdir(folder))


def _extra(entry: str) -> tuple[list[str], list[str]]:
    """Return the files that an extra path or pattern means, and the folders where there may be more."""
    if os.path.isdir(entry):
        entry = os.path.join(glob.escape(entry), "**")
    if not glob.has_magic(entry):
        return [entry], [os.path.dirname(entry)]
    base = entry
    while glob.has_magic(base):
        base = os.path.dirname(base)
    found = [path for path in glob.glob(entry, recursive=True) if os.path.isfile(path)]
    return found, [*(folder for folder, _ in _all_below([base])), *map(os.path.dirname, found)]
