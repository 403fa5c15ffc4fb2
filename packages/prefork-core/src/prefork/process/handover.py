# SPDX-License-Identifier: MIT
"""What one arbiter leaves to the next, and what the two can say to each other.

It decides the form of both: a variable in the environment, and lines of text on a socket pair. What
is done about either is `arbiter.upgrade`'s.

The other one may be of another version. So both forms can grow: words and fields that are not known
are passed over.
"""

from __future__ import annotations

import json
import select
import socket
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLE: Final = "_PREFORK_HANDOVER"
"""Not one of the settings' names, which begin with PREFORK_."""
_VERSION: Final = 1

_MOST: Final = 8192
"""Bytes read at once, and kept of a line that has no end."""
_LONGEST: Final = 2000
"""Characters of a text that is said: what the buffer of a socket takes, and a line of the log."""


class Handed(NamedTuple):
    """A listener that is handed on.

    Args:
        fd: its descriptor, the same in both processes.
        bind: what was asked for, as `bind` has it.
        inode: device and inode of the path of a Unix socket that a predecessor has made.
        activated: whether it came from systemd, and stands in for `bind`.
    """

    fd: int
    bind: str
    inode: tuple[int, int] | None = None
    activated: bool = False


class Staffing(NamedTuple):
    """How many workers there are to be, and by how many an operator has moved that.

    Args:
        workers: as the settings have it.
        least: of a range that the load decides in.
        most: of that; 0 when there is none.
        moved: by TTIN, TTOU or `preforkctl scale`.
    """

    workers: int
    least: int
    most: int
    moved: int = 0


class Handover(NamedTuple):
    """All that one arbiter leaves to the next.

    Args:
        predecessor: pid of the one that leaves it.
        successor: pid of the one that it is for.
        link: the descriptor of the successor's end of the link.
        listeners: those that are handed on.
        staffing: how many workers there are.
    """

    predecessor: int
    successor: int
    link: int
    listeners: tuple[Handed, ...]
    staffing: Staffing


def render(handover: Handover) -> str:
    """Return the value of `VARIABLE`."""
    return json.dumps(
        {
            **handover._asdict(),
            "version": _VERSION,
            "listeners": [handed._asdict() for handed in handover.listeners],
            "staffing": handover.staffing._asdict(),
        }
    )


def take(environ: MutableMapping[str, str], pid: int) -> Handover | None:
    """Return what a predecessor has left to this process, and hide that from children.

    Args:
        environ: the environment; the variable is taken out of it.
        pid: of this process. What is meant for another one has been left in the environment by mistake.

    Raises:
        ConfigError: it cannot be understood.
    """
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    try:
        found = json.loads(text)
        if found["successor"] != pid:
            return None
        if found["version"] != _VERSION:
            raise ValueError(found["version"])
        return Handover(
            found["predecessor"],
            pid,
            found["link"],
            tuple(_handed(each) for each in found["listeners"]),
            Staffing(*(found["staffing"][name] for name in Staffing._fields)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "cannot take over from the arbiter that runs: its version hands over in another way",
            hint="stop it, and start this one",
        ) from error


def _handed(found: dict[str, object]) -> Handed:
    fields = {name: found[name] for name in Handed._fields}
    inode = fields["inode"]
    if inode is not None:
        fields["inode"] = tuple(inode)  # type: ignore[arg-type]  # JSON has lists only
    return Handed(**fields)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the link


class Word(Enum):
    """What is said on the link; some words have a text after them."""

    KEEPS = "keeps"
    """The successor has its listeners; the text has the descriptors of those handed on that it uses."""
    READY = "ready"
    """The successor has all its workers ready."""
    FAILED = "failed"
    """The successor ends, and the text says why."""
    LEAVING = "leaving"
    """Either: who says it has begun to stop."""
    GOING = "going"
    """The predecessor has no workers any more and is about to end; it waits for the end of the link."""
    REOPEN = "reopen"
    """Either: who says it was told to open its log files again, which are the other one's too."""


class Hangup(Exception):
    """The other side has closed its end or is dead."""


class Link:
    """One end of the link between two arbiters.

    Args:
        end: a connected socket; closed by `close`.
    """

    __slots__ = ("_received", "_socket")

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._received = b""

    def fileno(self) -> int:
        """Return the descriptor, for a selector; -1 when it is closed."""
        return self._socket.fileno()

    def say(self, word: Word, text: str = "") -> None:
        """Say a word; never waits, and never fails: that the other one is dead is seen elsewhere.

        Args:
            word: which word.
            text: what goes with it; made one line.
        """
        line = " ".join([word.value, *text.split()])[:_LONGEST]
        try:
            self._socket.send(line.encode() + b"\n")
        except OSError:
            return

    def hear(self) -> list[tuple[Word, str]]:
        """Return what was said since the last call, each with its text.

        Raises:
            Hangup: there is nothing more to come.
        """
        try:
            data = self._socket.recv(_MOST)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Hangup from error
        if not data:
            raise Hangup
        *lines, self._received = (self._received + data)[-_MOST:].split(b"\n")
        said = (line.decode(errors="replace").partition(" ") for line in lines)
        return [(_WORDS[name], text) for name, _, text in said if name in _WORDS]

    def wait_end(self, seconds: float) -> bool:
        """Wait until the other side has closed its end; return whether it has.

        Args:
            seconds: how long at most.
        """
        poll = select.poll()
        poll.register(self._socket, 0)  # POLLHUP comes unasked
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


_WORDS: Final = {word.value: word for word in Word}


def make() -> tuple[Link, socket.socket]:
    """Make a link before a fork.

    Returns:
        This arbiter's end, and the socket that the successor is to inherit.

    Raises:
        OSError: no descriptors are left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Link(ours), theirs


def end_of(handover: Handover) -> Link:
    """Return the successor's end of the link.

    Raises:
        ConfigError: there is none.
    """
    try:
        end = socket.socket(fileno=handover.link)
    except OSError as error:
        raise ConfigError(
            f"descriptor {handover.link} is no link to arbiter {handover.predecessor}"
        ) from error
    end.set_inheritable(False)
    return Link(end)


def complain(environ: MutableMapping[str, str], pid: int, why: str) -> None:
    """Tell a predecessor, if there is one, why this process does not become its successor.

    Args:
        environ: the environment.
        pid: of this process.
        why: in words.
    """
    try:
        left = take(environ, pid)
        if left is not None:
            end_of(left).say(Word.FAILED, why)
    except ConfigError:
        return  # it sees the end of this process
