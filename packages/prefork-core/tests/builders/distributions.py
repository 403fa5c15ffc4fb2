# SPDX-License-Identifier: MIT
"""Installed distributions, as importlib.metadata finds them: a folder on sys.path with a .dist-info in it."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER = """
from dataclasses import dataclass
from prefork.worker import Context, Group, Interface, Worker, kinds, option

class Own(Worker):
    \"\"\"Serves in its own way.

    And more.
    \"\"\"
    api = 1
    def run(self, ctx): ...
"""
"""A module with a worker class, for more to be added."""


def write_distribution(folder: Path, name: str, version: str, workers: dict[str, str]) -> None:
    """Write a distribution that registers worker classes.

    Args:
        folder: where.
        name: the distribution's.
        version: the distribution's.
        workers: the places of worker classes, by their names.
    """
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "\n".join(f"{worker} = {place}" for worker, place in workers.items())
    (info / "entry_points.txt").write_text(f"[prefork.workers]\n{lines}\n")


@contextmanager
def installed(folder: Path, module: str, source: str, **distributions: dict[str, str]) -> Iterator[None]:
    """Install a module, and distributions of version 1.0 that register worker classes in it.

    Args:
        folder: where.
        module: its name, one that no other test uses.
        source: its text.
        distributions: by name, the places of their worker classes by name.
    """
    (folder / f"{module}.py").write_text(source)
    for name, workers in distributions.items():
        write_distribution(folder, name, "1.0", workers)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)
