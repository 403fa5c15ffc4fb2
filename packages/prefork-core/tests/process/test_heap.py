# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
import os
import platform
import sys

import pytest

from prefork.process import heap

GLIBC = platform.libc_ver()[0] == "glibc" and hasattr(ctypes.CDLL(None), "mallinfo2")


def in_child(check: object) -> int:
    """Do something to the heap of a process that ends then; return its exit code."""
    assert callable(check)
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = int(check())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def gaps(sizes: range) -> list[bytes]:
    """Return blocks with a gap behind each."""
    blocks = [bytes(size) for size in sizes]
    return blocks[::2]


def test_what_is_allocated_afterwards_lies_behind_all_that_was_there() -> None:
    def check() -> bool:
        kept = gaps(range(3_000, 9_000, 7))
        last = max(map(id, kept))
        before = [id(bytes(4_000)) for _ in range(3)]
        heap.fill_gaps()
        after = [bytes(4_000) for _ in range(50)]
        return any(address < last for address in before) and all(id(block) > last for block in after)

    assert in_child(check) == 1 or not GLIBC


def test_nothing_that_was_there_is_touched() -> None:
    def check() -> bool:
        kept = [bytes([number % 256]) * 3_000 for number in range(500)][::2]
        heap.fill_gaps()
        return all(block == bytes([number * 2 % 256]) * 3_000 for number, block in enumerate(kept))

    assert in_child(check) == 1


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    heap.fill_gaps()


def test_so_is_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    heap.fill_gaps()
