# SPDX-License-Identifier: MIT
"""How this process was started, and starting that again in place of a process.

It decides which command line, folder and environment that is. They are those of the start, so that
what has been put in their place since (another release, another interpreter in the same virtual
environment) is what starts.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LONGEST_SHEBANG: Final = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """A program, and with what it was started.

    Args:
        argv: the command line; the first is the file to execute.
        folder: where; it may lead over a symbolic link that has been moved since.
        environ: the environment.
        umask: the file mode creation mask.
    """

    argv: tuple[str, ...]
    folder: str
    environ: Mapping[str, str]
    umask: int

    def again(self, more: Mapping[str, str], descriptors: Iterable[int]) -> NoReturn:
        """Become that program.

        Args:
            more: variables to add to the environment.
            descriptors: what it inherits besides the standard streams.

        Raises:
            OSError: there is no such folder or file, or it cannot be executed.
        """
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        os.chdir(self.folder)
        os.umask(self.umask)
        os.execve(self.argv[0], self.argv, {**self.environ, **more})  # noqa: S606 (what has been run before)


def command(line: Sequence[str], interpreter: str) -> tuple[str, ...]:
    """Return the command line that does once more what another one has done.

    A script that its first line has given to an interpreter is executed by itself: the one that is
    there now may name another interpreter. All others are given to the file of the interpreter that runs.

    Args:
        line: as the interpreter has got it, `sys.orig_argv`.
        interpreter: its file, `sys.executable`.
    """
    for at in (1, 2):  # the first line may have one argument for the interpreter
        if len(line) > at and _shebang(line[at]) == list(line[:at]) and os.access(line[at], os.X_OK):
            return tuple(line[at:])
    return (interpreter, *line[1:])


def of_this_process(folder: str, environ: Mapping[str, str]) -> Launch:
    """Return how this process was started. To be called before it changes its folder or mask.

    Args:
        folder: where.
        environ: the environment of the start.
    """
    umask = os.umask(0o77)
    os.umask(umask)
    return Launch(command(sys.orig_argv, sys.executable), folder, environ, umask)


def _shebang(path: str) -> list[str]:
    """Return the interpreter that the first line of a script names, and its argument; [] if it names none."""
    try:
        with open(path, "rb") as file:
            first = file.readline(_LONGEST_SHEBANG)
    except (OSError, ValueError):
        return []
    return os.fsdecode(first[2:]).strip().split(None, 1) if first.startswith(b"#!") else []
