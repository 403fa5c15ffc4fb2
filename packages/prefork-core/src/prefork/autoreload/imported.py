# SPDX-License-Identifier: MIT
"""The list of files that workers have imported, which they write and the watching process reads.

It decides how the list is kept: in a file without a name, which all processes have that are forked later. So
no worker can be held up by who reads it, and a watching process that is started again finds it whole.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from prefork.autoreload.stamp import Stamp, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Imported:
    """A list of files that only grows, each as it was when it came in. Any process may add to it and read it.

    Raises:
        OSError: no descriptor, or no place for a temporary file, is to be had.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = _nameless()
        # Each write goes to the end at once, so the lines of two workers cannot mix.
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_APPEND)

    @property
    def size(self) -> int:
        """Bytes of the list, by which a reader sees that it has grown."""
        return os.fstat(self._fd).st_size

    def add(self, paths: Iterable[str]) -> None:
        """Add what is not in the list yet. A full disk is no reason to fail: then less is watched.

        Args:
            paths: absolute ones. What is no file, as a module in an archive, is left out.
        """
        new = sorted(path for path in set(paths) - self.read().keys() if "\n" not in path)
        stamps = [(path, stamp_of(path)) for path in new]
        lines = [
            b"%d %d %d %b\n" % (*stamp, os.fsencode(path)) for path, stamp in stamps if stamp is not None
        ]
        if not lines:
            return
        try:
            os.write(self._fd, b"".join(lines))
        except OSError:
            return

    def read(self) -> Mapping[str, Stamp]:
        """Return all files, each as it was when it came in."""
        content = os.pread(self._fd, self.size, 0)
        whole, _, _ = content.rpartition(b"\n")  # the last line may be cut, if the disk was full
        found = [line.split(b" ", 3) for line in whole.split(b"\n") if line]
        return {os.fsdecode(path): Stamp(*map(int, numbers)) for *numbers, path in reversed(found)}


def _nameless() -> int:
    """Return the descriptor of a file that goes with the last process that has it."""
    in_memory = getattr(os, "memfd_create", None)  # macOS has none
    if in_memory is not None:
        return int(in_memory("prefork-imported"))
    # Imported here: most starts can do without.
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
