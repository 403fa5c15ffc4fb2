# SPDX-License-Identifier: MIT
"""What an application under test answers, whatever its interface.

It decides what the paths mean. How a request is read and a response is sent is for those who import it.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final, NamedTuple

REPEAT: Final = 40
"""How often a line is in a body, so that a piece cannot pass for the whole."""

PAUSE: Final = 0.01
"""Seconds between two looks whether a request may go on. How to wait is the application's to know."""


def _version() -> str:
    """Return what the file `version` in the current folder says, which was deployed."""
    try:
        with open("version") as file:
            return file.read().strip()
    except FileNotFoundError:
        return "none"


VERSION: Final = _version()
"""Read once, when the application is imported."""


class RaisedOnPurpose(Exception):
    """What `/raise` raises."""


class Path(NamedTuple):
    """A path, parted into what is asked for and its argument."""

    does: str
    argument: str


def part(path: str) -> Path:
    """Return what is asked for: the first part of a path, and what follows."""
    does, _, argument = path.removeprefix("/").partition("/")
    return Path(does, argument)


def line(path: str) -> bytes:
    """Return the body that answers a path without a meaning of its own, and `/hold/NAME` at its end."""
    return f"{VERSION} {os.getpid()} {path}\n".encode() * REPEAT


def begin(name: str) -> None:
    """Say that a request is in the application: a file that the test waits for has the process id."""
    with open(f"{name}.held", "w") as file:
        file.write(f"{os.getpid()}\n")


def is_released(name: str) -> bool:
    """Return whether the test lets a request go on."""
    return os.path.exists(f"{name}.released")


def block(name: str) -> None:
    """Hold the calling thread until the test lets go: in C, where no greenlet or loop gets a turn."""
    begin(name)
    libc = ctypes.CDLL(None)
    while not is_released(name):
        libc.usleep(int(PAUSE * 1_000_000))
