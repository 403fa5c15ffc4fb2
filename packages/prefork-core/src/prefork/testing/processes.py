# SPDX-License-Identifier: MIT
"""A look at processes from outside, by /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Process(NamedTuple):
    """One process, as it was a moment ago."""

    pid: int
    parent: int
    session: int
    state: str
    """One letter: "R" running, "S" sleeping, "T" stopped, "Z" zombie."""

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has asked how."""
        return self.state in "ZX"


def look(pid: int) -> Process | None:
    """Return what a process is, None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    fields = text.rpartition(")")[2].split()
    return Process(pid, int(fields[1]), int(fields[3]), fields[0])


def all_processes() -> Iterator[Process]:
    """Yield every process of the machine."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            found = look(int(name))
            if found is not None:
                yield found


def is_running(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    found = look(pid)
    return found is not None and not found.is_zombie


def is_stopped(pid: int) -> bool:
    """Return whether no thread of a process runs: stopped by a signal, or at its end.

    Raises:
        FileNotFoundError: there is no such process.
    """
    states = []
    for path in Path(f"/proc/{pid}/task").iterdir():
        try:
            states.append((path / "stat").read_text().rpartition(")")[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has just ended
    return all(state in "TtZX" for state in states)


def children(pid: int) -> list[Process]:
    """Return the children of a process, zombies too, in the order of their pids."""
    return sorted(found for found in all_processes() if found.parent == pid)


def folder(pid: int) -> str:
    """Return the folder a process runs in, empty when that cannot be told."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def title(pid: int) -> str:
    """Return what `ps` shows of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def descriptors(pid: int) -> list[str]:
    """Return what the open descriptors of a process lead to, such as "socket:[123]"."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(path))
        except FileNotFoundError:
            continue  # closed since, as the one that this listing needs
    return sorted(found)


def memory(pid: int) -> dict[str, int]:
    """Return what /proc/PID/smaps_rollup says, in KiB: "Rss", "Pss", "Private_Dirty" and more."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split()[0].removesuffix(":"): int(line.split()[1]) for line in lines}


def status(pid: int, field: str) -> str:
    """Return a field of /proc/PID/status, such as "Uid"."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise KeyError(field)
