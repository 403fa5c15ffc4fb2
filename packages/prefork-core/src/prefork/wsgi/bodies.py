# SPDX-License-Identifier: MIT
"""How many bytes of request bodies a worker holds before it calls the application.

A body that has arrived whole costs its thread no time at the pace of its client. What is held so is bounded
for each request and for the whole worker: one that finds no room is read by the application as it comes.
"""

from __future__ import annotations

import threading
from typing import Final

HELD_ALWAYS: Final = 64 * 1024
"""Bytes of one body that are held without asking for room."""

_SHARE: Final = 8
"""A body may have this part of all room, so that one client's cannot take it all."""


class BodyRoom:
    """The room of one worker for bodies that wait until they are whole.

    Args:
        size: bytes, 0 for none.
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._most = size // _SHARE
        self._lock = threading.Lock()

    def reserve(self, count: int) -> bool:
        """Return whether there is room for a body, which it then has.

        Args:
            count: bytes that the body will have.
        """
        with self._lock:
            if count > min(self._most, self._left):
                return False
            self._left -= count
            return True

    def release(self, count: int) -> None:
        """Give the room of a body back.

        Args:
            count: as reserved.
        """
        with self._lock:
            self._left += count
