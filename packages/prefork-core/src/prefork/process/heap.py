# SPDX-License-Identifier: MIT
"""The gaps between blocks of memory, filled before a fork.

A block that is allocated after a fork and lands in a gap, between others that are shared, makes the kernel
copy the whole page for it. So the gaps are filled with blocks that nobody needs: that costs the template as
much as they are large, once, and what each worker allocates gets pages of its own. A Django project had 1 MB
of gaps, and each of its workers 1.7 MB less for itself.

It decides how gaps are found in the heap of the C library, where Python has its blocks of more than 512
bytes from. Those of Python's own allocator made no difference worth the while, and are left alone.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Final

_SIZES: Final = (65_536, 32_768, 16_384, 8_192, 4_096, 2_048, 1_024, 528, 256, 128, 64, 24)
"""What the C library is asked for, in this order: what one leaves of a gap the next ones fill."""


class _Mallinfo(ctypes.Structure):
    """What mallinfo2(3) returns; needed are the bytes that are free, and those of them at the end."""

    _fields_ = (
        ("_others", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def fill_gaps() -> None:
    """Fill the gaps of the heap, where they can be found: with glibc 2.33 or newer."""
    if sys.platform == "linux":
        _fill(ctypes.CDLL(None))


def _fill(library: Any) -> None:
    try:
        library.mallinfo2.restype = _Mallinfo
    except AttributeError:
        return  # not glibc, or one from before 2.33
    library.malloc.restype = library.sbrk.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.sbrk.argtypes = [ctypes.c_ssize_t]
    for size in _SIZES:
        free = library.mallinfo2()
        # At the end of the heap is what was never used. A block from there shows that no gap is large enough.
        unused = library.sbrk(0) - free.keepcost - size
        for _ in range(free.fordblks // size + 1):  # so often at most, whosever malloc this is
            block = library.malloc(size)
            if block is None or block >= unused:
                library.free(block)
                break
