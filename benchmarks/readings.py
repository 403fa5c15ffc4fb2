# SPDX-License-Identifier: MIT
"""What strace, perf, py-spy and `applications/counted.py` say, as figures. Runs none of them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple


class Function(NamedTuple):
    """A Python function: its qualified name, and the end of its file's path."""

    name: str
    file: str

    @classmethod
    def of(cls, name: str, path: str) -> Function:
        """Return it for a name and a whole path, of which two parts are kept."""
        return cls(name, "/".join(Path(path).parts[-2:]))


class Counts(NamedTuple):
    """What was counted for one request."""

    calls: dict[Function, float]
    instructions: dict[Function, float]
    allocations: float


def read_strace(text: str) -> dict[str, tuple[int, int]]:
    """Return system call → calls and errors, of the table that `strace -c` prints."""
    rows = re.finditer(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(\d+)? *(\w+)$", text, re.MULTILINE)
    return {row[3]: (int(row[1]), int(row[2] or 0)) for row in rows if row[3] != "total"}


def read_perf(text: str) -> dict[tuple[str, str], float]:
    """Return (k for kernel or another letter, symbol) → percent, of what `perf report --sort sym` prints."""
    rows = re.finditer(r"^ *([\d.]+)% +\[(.)\] +(.+?) *$", text, re.MULTILINE)
    return {(row[2], row[3]): float(row[1]) for row in rows}


def read_stacks(text: str) -> dict[Function, float]:
    """Return function → share of samples on top of the stack, of py-spy's raw format."""
    own: Counter[Function] = Counter()
    for stack, _, count in (each.rpartition(" ") for each in text.splitlines()):
        if found := re.fullmatch(r"(.+) \((.+?)(?::\d+)?\)", stack.rpartition(";")[2]):
            own[Function.of(found[1], found[2])] += int(count)
    return {function: count / own.total() for function, count in own.items()}


def read_counts(found: dict[str, Any]) -> Counts:
    """Return what `applications/counted.py` has answered, for one request and without what it does itself."""
    calls: Counter[Function] = Counter()
    instructions: Counter[Function] = Counter()
    for name, path, called, executed in found["functions"]:
        function = Function.of(name, path)
        if function.file != "applications/counted.py":
            calls[function] += called
            instructions[function] += executed
    requests = found["requests"]
    each = [{function: n / requests for function, n in seen.items()} for seen in (calls, instructions)]
    return Counts(each[0], each[1], found["allocations"] / requests)
