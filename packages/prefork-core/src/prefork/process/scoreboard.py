# SPDX-License-Identifier: MIT
"""The page of shared memory on which each worker says what it is doing.

It decides the layout of a slot and who may write which field. It knows nothing of why a
worker is started, late or killed; that is `prefork.supervisor.machine`.

One anonymous mapping is made before the first fork, so there is no file whose disk could
block a worker. A slot has one writer, its worker, except while it has none: then the
arbiter clears it. Readers take no lock. A field is one aligned 8-byte store, so it is old
or new; the request line is longer and may be read while it changes, which `Slot.request`
notices by the time stamp.

The arbiter decides on stage and deadline only for a process that it knows by its own pid.
"""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum
from typing import Final, NamedTuple

SLOTS: Final = 1024
THREADS: Final = 32
"""Request records in a slot, one per thread of a worker."""

_WORD: Final = 8
_HEADER_SIZE: Final = 512
_REQUEST: Final = struct.Struct("=dq16s200s8x")
"""Started, phase, method, target. pack_into cuts and pads text in C: 0.27 µs for all four."""
SLOT_SIZE: Final = _HEADER_SIZE + THREADS * _REQUEST.size
"""Two pages: a worker with one thread touches only the first one."""

# Words of the header. Integers, except for the deadline.
_GENERATION: Final = 0
_STAGE: Final = 1
_DEADLINE: Final = 2
_REQUESTS: Final = 3
_ERRORS: Final = 4
_BUSY: Final = 5
_IDLE: Final = 6

_STARTED_WORD: Final = _HEADER_SIZE // _WORD
_PHASE_WORD: Final = _STARTED_WORD + 1


class Stage(IntEnum):
    """What a worker says of itself."""

    EMPTY = 0
    BOOTING = 1
    READY = 2
    STOPPING = 3


class Phase(IntEnum):
    """What a worker does with the request that it has."""

    NONE = 0
    READING = 1
    APPLICATION = 2
    WRITING = 3


class Current(NamedTuple):
    """The request that a worker has in hand."""

    method: str
    target: str
    """The first 200 bytes, as received."""
    started: float
    """Monotonic seconds."""
    phase: Phase


class Slot:
    """One worker's part of the scoreboard.

    Args:
        view: the `SLOT_SIZE` bytes of the slot, writable.
        index: which slot it is, from 0.
    """

    __slots__ = ("_bytes", "_floats", "_ints", "index")

    def __init__(self, view: memoryview, index: int) -> None:
        self.index = index
        self._bytes = view
        self._ints = view.cast("q")
        self._floats = view.cast("d")

    def clear(self, generation: int, stage: Stage) -> None:
        """Empty every field before a fork or after a death; the arbiter's to call.

        Args:
            generation: of the worker that the slot is for.
            stage: what to show until the worker says something.
        """
        self._bytes[: _HEADER_SIZE + _REQUEST.size] = bytes(_HEADER_SIZE + _REQUEST.size)
        self._ints[_GENERATION] = generation
        self._ints[_STAGE] = stage

    @property
    def generation(self) -> int:
        """The generation of the worker that has the slot."""
        return self._ints[_GENERATION]

    @property
    def stage(self) -> Stage:
        """What the worker says of itself."""
        return Stage(self._ints[_STAGE])

    @stage.setter
    def stage(self, stage: Stage) -> None:
        self._ints[_STAGE] = stage

    @property
    def deadline(self) -> float:
        """When the worker must have shown progress, in monotonic seconds; 0.0 while it is idle."""
        return self._floats[_DEADLINE]

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._floats[_DEADLINE] = deadline

    @property
    def requests(self) -> int:
        """How many requests the worker has finished."""
        return self._ints[_REQUESTS]

    @property
    def errors(self) -> int:
        """How many requests the worker has answered with an error of its own."""
        return self._ints[_ERRORS]

    @errors.setter
    def errors(self, errors: int) -> None:
        self._ints[_ERRORS] = errors

    @property
    def busy(self) -> int:
        """How many connections have a request in hand."""
        return self._ints[_BUSY]

    @property
    def idle(self) -> int:
        """How many connections are open without a request."""
        return self._ints[_IDLE]

    @idle.setter
    def idle(self, idle: int) -> None:
        self._ints[_IDLE] = idle

    @property
    def phase(self) -> Phase:
        """What the worker does with the request that it has."""
        return Phase(self._ints[_PHASE_WORD])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._ints[_PHASE_WORD] = phase

    def request_begin(self, method: str, target: str, started: float, deadline: float = 0.0) -> None:
        """Note the request that is now in hand, in phase `APPLICATION`.

        Args:
            method: the first 16 characters are kept.
            target: the first 200 characters are kept.
            started: monotonic seconds.
            deadline: see `deadline`.
        """
        self._floats[_DEADLINE] = deadline
        self._ints[_BUSY] += 1
        _REQUEST.pack_into(
            self._bytes,
            _HEADER_SIZE,
            started,
            2,  # Phase.APPLICATION; the member would cost two look-ups per request
            method.encode("latin-1", "replace"),
            target.encode("latin-1", "replace"),
        )

    def request_end(self) -> None:
        """Note that the request is over, and count it; the worker is idle."""
        ints = self._ints
        ints[_DEADLINE] = 0  # 0.0 has the same bits
        ints[_BUSY] -= 1
        ints[_PHASE_WORD] = 0
        ints[_REQUESTS] += 1

    def request(self) -> Current | None:
        """Return the request in hand, or None while there is none.

        A request that is exchanged for another one during the read is read again.
        """
        while True:
            started, phase, method, target = _REQUEST.unpack_from(self._bytes, _HEADER_SIZE)
            if phase == Phase.NONE:
                return None
            if started == self._floats[_STARTED_WORD]:
                return Current(_text(method), _text(target), started, Phase(phase))


class Scoreboard:
    """All slots, in memory that every process forked later shares.

    Args:
        slots: how many workers there can be at once.

    Raises:
        OSError: the memory cannot be mapped.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        # MAP_SHARED | MAP_ANONYMOUS: only pages that are touched cost memory.
        self._memory = memoryview(mmap.mmap(-1, slots * SLOT_SIZE))
        self._slots: dict[int, Slot] = {}
        self.size = slots

    def slot(self, index: int) -> Slot:
        """Return a slot.

        Args:
            index: which one, from 0.

        Raises:
            IndexError: there is no such slot.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"slot {index} of {self.size}")
        if index not in self._slots:
            view = self._memory[index * SLOT_SIZE : (index + 1) * SLOT_SIZE]
            self._slots[index] = Slot(view, index)
        return self._slots[index]


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")
