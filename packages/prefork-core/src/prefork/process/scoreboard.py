# SPDX-License-Identifier: MIT
"""The page of shared memory on which each worker says what it is doing.

It decides the layout of a slot and who may write which field. It knows nothing of why a
worker is started, late or killed; that is `prefork.supervisor.machine`.

One anonymous mapping is made before the first fork, so there is no file whose disk could
block a worker. A slot belongs to its worker, except while it has none: then the arbiter
clears it. Inside of it each thread has a record that nobody else writes, so counters need
no lock; what is summed up over threads is summed up by who reads it. Readers take no lock.
A field is one aligned 8-byte store, so it is old or new; the request line is longer and may
be read while it changes, which `ThreadRecord.request` notices by the time stamp.

The arbiter decides on stage and deadlines only for a process that it knows by its own pid.
"""

from __future__ import annotations

import mmap
import struct
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.supervisor.messages import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

SLOTS: Final = 1024
THREADS: Final = 1024
"""Records in a slot: one for each request that a worker may have in hand at once, a thread's or another's."""

_WORD: Final = 8
_PAGE: Final = 4096
_HEADER_SIZE: Final = 256
_RECORD_SIZE: Final = 256
_CLIENT_SIZE: Final = 40
"""An IPv6 address takes 39 bytes at most."""
_LINE_SIZE: Final = 136
_BEGIN: Final = struct.Struct(f"=dqd16x{_CLIENT_SIZE}s{_LINE_SIZE}s")
"""Deadline, phase, started, zero for allowed and waited, client, method and target. pack_into cuts and pads
in C: 0.2 µs for all."""
_REQUEST: Final = struct.Struct(f"=dqddd{_CLIENT_SIZE}s{_LINE_SIZE}sq")
"""The same to be read, and the thread behind it."""
SLOT_SIZE: Final = -(-(_HEADER_SIZE + THREADS * _RECORD_SIZE) // _PAGE) * _PAGE
"""Whole pages, of which those are touched that have a record in use: a worker with few threads costs one."""

_FLAGS: Final = (
    mmap.MAP_SHARED
    | mmap.MAP_ANONYMOUS
    | (getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform == "linux" else 0)
)
"""Nothing is set aside for the pages that nobody will touch: they may be more than a small machine has."""

_SUMS: Final = struct.Struct("=qqdq")
"""The first four words of a record."""
_WHEN: Final = struct.Struct("=qd")
"""Phase and started."""

# Words of the board's own page.
_REACH: Final = 0
_KILLS: Final = 1
"""The first of one for each `Reason`."""
_REASONS: Final = {reason: _KILLS + number for number, reason in enumerate(Reason)}

# Words of a slot's header. All of them integers.
_GENERATION: Final = 0
_STAGE: Final = 1
_THREADS: Final = 2
_AWAY: Final = 3
_OPEN: Final = 4
_IDLE: Final = 5
_SHED: Final = 6
_BACKLOG: Final = 7
_PARTING: Final = 8
"""Written by the arbiter, and by nobody else."""
_USED: Final = 9
_DUE: Final = 10
"""A float, as the deadlines are."""

# Words of a thread's record. The first four are sums, which outlive a request.
_REQUESTS: Final = 0
_ERRORS: Final = 1
_QUEUED: Final = 2
_MEASURED: Final = 3
_DEADLINE: Final = 4
_PHASE: Final = 5
_STARTED: Final = 6
_ALLOWED: Final = 7
_WAITED: Final = 8
_THREAD: Final = 31
"""The last one, which no request touches."""
_BEGIN_OFFSET: Final = _DEADLINE * _WORD
_WHEN_OFFSET: Final = _PHASE * _WORD


class Stage(IntEnum):
    """What a worker says of itself."""

    EMPTY = 0
    BOOTING = 1
    READY = 2
    STOPPING = 3


class Phase(IntEnum):
    """What a thread does with the request that it has."""

    NONE = 0
    READING = 1
    APPLICATION = 2
    WRITING = 3
    TAKEN = 4
    """The application has taken the connection over, for as long as it likes."""


_NOTHING: Final = Phase.NONE.value
_IN_APPLICATION: Final = Phase.APPLICATION.value
"""Plain numbers: a look at a member costs 0.1 µs."""


class Current(NamedTuple):
    """The request that a thread has in hand."""

    method: str
    target: str
    """As received; method and target are cut where they take more than 136 bytes."""
    started: float
    """Monotonic seconds."""
    deadline: float
    """When it must have shown progress, in monotonic seconds; 0.0 for never."""
    phase: Phase
    client: str = ""
    """Its address; empty for a Unix socket."""
    allowed: float = 0.0
    """Until when it has asked to be let alone, in monotonic seconds; 0.0 when it has not."""
    waited: float = 0.0
    """Seconds that it has waited for its client, without the wait that goes on."""
    thread: int = 0
    """What pthread_self(3) says in the thread that has it; 0 for unknown."""


class Sums(NamedTuple):
    """What the threads of a worker have counted, all together; see the properties of `Slot`."""

    requests: int
    errors: int
    queued: float
    measured: int


class ThreadRecord:
    """One thread's part of a slot.

    Args:
        view: the bytes of the record, writable.
    """

    __slots__ = ("_bytes", "_floats", "_ints")

    def __init__(self, view: memoryview) -> None:
        self._bytes = view
        self._ints = view.cast("q")
        self._floats = view.cast("d")

    @property
    def deadline(self) -> float:
        """When the thread must have shown progress, in monotonic seconds; 0.0 while nothing is due."""
        return self._floats[_DEADLINE]

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._floats[_DEADLINE] = deadline

    @property
    def phase(self) -> Phase:
        """What the thread does with the request that it has."""
        return Phase(self._ints[_PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._ints[_PHASE] = phase

    @property
    def is_busy(self) -> bool:
        """Whether the thread has a request in hand."""
        return self._ints[_PHASE] != _NOTHING

    @property
    def requests(self) -> int:
        """How many requests the thread has finished."""
        return self._ints[_REQUESTS]

    @property
    def errors(self) -> int:
        """How many of them were answered with an error of the worker's own."""
        return self._ints[_ERRORS]

    @property
    def allowed(self) -> float:
        """Until when the request has asked to be let alone, in monotonic seconds; 0.0 when it has not."""
        return self._floats[_ALLOWED]

    @allowed.setter
    def allowed(self, until: float) -> None:
        self._floats[_ALLOWED] = until

    def count_waited(self, seconds: float) -> None:
        """Add a wait for the client of the request in hand, when it is over.

        Args:
            seconds: how long it was.
        """
        self._floats[_WAITED] += seconds

    def belong_to(self, thread: int) -> None:
        """Note whose record it is.

        Args:
            thread: what pthread_self(3) says there; the stacks of `faulthandler` name threads by it.
        """
        self._ints[_THREAD] = thread

    def begin(
        self, line: bytes | bytearray, started: float, deadline: float = 0.0, client: bytes = b""
    ) -> None:
        """Note the request that is now in hand, in phase `APPLICATION`.

        Args:
            line: method and target with a space between; as much is kept as there is room for.
            started: monotonic seconds.
            deadline: see `deadline`.
            client: its address.
        """
        _BEGIN.pack_into(self._bytes, _BEGIN_OFFSET, deadline, _IN_APPLICATION, started, client, line)

    def end(self) -> None:
        """Note that the request is over, and count it."""
        ints = self._ints
        ints[_DEADLINE] = 0  # 0.0 has the same bits
        ints[_PHASE] = _NOTHING
        ints[_REQUESTS] += 1

    def count(self) -> None:
        """Count a request that had no record of its own."""
        self._ints[_REQUESTS] += 1

    def add(self, other: ThreadRecord) -> None:
        """Count what another record has counted, which is not on the page."""
        for word in (_REQUESTS, _ERRORS, _MEASURED):
            self._ints[word] += other._ints[word]
        self._floats[_QUEUED] += other._floats[_QUEUED]

    def count_error(self) -> None:
        """Count the request in hand as one that was answered with an error of the worker's own."""
        self._ints[_ERRORS] += 1

    @property
    def queued(self) -> float:
        """Seconds that the measured requests have waited for a thread, all together."""
        return self._floats[_QUEUED]

    @property
    def measured(self) -> int:
        """How many requests have been measured so."""
        return self._ints[_MEASURED]

    def count_queued(self, seconds: float) -> None:
        """Add one measured request.

        Args:
            seconds: how long it has waited.
        """
        self._floats[_QUEUED] += seconds
        self._ints[_MEASURED] += 1

    def request(self) -> Current | None:
        """Return the request in hand, or None while there is none.

        A request that is exchanged for another one during the read is read again.
        """
        while True:
            deadline, phase, started, allowed, waited, client, line, thread = _REQUEST.unpack_from(
                self._bytes, _BEGIN_OFFSET
            )
            # Without a start it is only being entered: it would seem to be older than the machine.
            if phase == _NOTHING or not started:
                return None
            if started == self._floats[_STARTED]:
                method, target = _text(line).partition(" ")[::2]
                return Current(
                    method, target, started, deadline, Phase(phase), _text(client), allowed, waited, thread
                )


class Slot:
    """One worker's part of the scoreboard.

    Args:
        view: the `SLOT_SIZE` bytes of the slot, writable.
        index: which slot it is, from 0.
    """

    __slots__ = ("_bytes", "_floats", "_ints", "_records", "index")

    def __init__(self, view: memoryview, index: int) -> None:
        self.index = index
        self._bytes = view
        self._ints = view[:_HEADER_SIZE].cast("q")
        self._floats = view[:_HEADER_SIZE].cast("d")
        self._records: dict[int, ThreadRecord] = {}

    def clear(self, generation: int, stage: Stage, threads: int = 1) -> None:
        """Empty every field before a fork or after a death; the arbiter's to call.

        Args:
            generation: of the worker that the slot is for.
            stage: what to show until the worker says something.
            threads: how many requests the worker may have in hand at once.
        """
        used = _HEADER_SIZE + max(self._used, 1) * _RECORD_SIZE
        self._bytes[:used] = bytes(used)
        self._ints[_GENERATION] = generation
        self._ints[_STAGE] = stage
        self._ints[_THREADS] = threads

    def thread(self, number: int) -> ThreadRecord:
        """Return the record of a thread, or of what stands for one.

        Args:
            number: which one, from 0. The worker takes low numbers first: all up to the highest that was
                asked for are looked at.

        Raises:
            IndexError: the worker does not have so many.
        """
        if not 0 <= number < max(self.threads, 1):
            raise IndexError(f"thread {number} of {self.threads}")
        if self._ints[_USED] <= number:
            self._ints[_USED] = number + 1
        record = self._records.get(number)
        if record is None:  # else it may be from before the fork, from a look at another worker in this slot
            begin = _HEADER_SIZE + number * _RECORD_SIZE
            record = self._records[number] = ThreadRecord(self._bytes[begin : begin + _RECORD_SIZE])
        return record

    def _all(self) -> list[ThreadRecord]:
        return [self.thread(number) for number in range(self._used)]

    @property
    def _used(self) -> int:
        """How many records the worker has used so far."""
        return min(self._ints[_USED], THREADS)

    @property
    def generation(self) -> int:
        """The generation of the worker that has the slot."""
        return self._ints[_GENERATION]

    @property
    def threads(self) -> int:
        """How many requests the worker may have in hand at once."""
        return self._ints[_THREADS]

    @property
    def stage(self) -> Stage:
        """What the worker says of itself."""
        return Stage(self._ints[_STAGE])

    @stage.setter
    def stage(self, stage: Stage) -> None:
        self._ints[_STAGE] = stage

    @property
    def is_serving(self) -> bool:
        """Whether the worker is ready and not stopping."""
        return self._ints[_STAGE] == 2  # Stage.READY; siblings ask for each other often

    @property
    def deadline(self) -> float:
        """When the first of its threads must have shown progress, in monotonic seconds; 0.0 for never."""
        return min((due for record in self._all() if (due := record.deadline)), default=0.0)

    @property
    def requests(self) -> int:
        """How many requests the worker has finished."""
        return sum(record.requests for record in self._all())

    @property
    def errors(self) -> int:
        """How many requests the worker has answered with an error of its own."""
        return sum(record.errors for record in self._all())

    @property
    def queued(self) -> float:
        """Seconds that the worker's measured requests have waited for a thread, all together."""
        return sum(record.queued for record in self._all())

    @property
    def measured(self) -> int:
        """How many requests have been measured so; `queued` over this is the mean between two looks."""
        return sum(record.measured for record in self._all())

    @property
    def shed(self) -> int:
        """How many requests were turned away because they had waited too long."""
        return self._ints[_SHED]

    def count_shed(self) -> None:
        """Count one more. Any thread may, one at a time."""
        self._ints[_SHED] += 1

    @property
    def backlog(self) -> int:
        """Connections that waited in the longest queue of a listener when the worker last looked."""
        return self._ints[_BACKLOG]

    @backlog.setter
    def backlog(self, count: int) -> None:
        self._ints[_BACKLOG] = count

    @property
    def is_parting(self) -> bool:
        """Whether the server stops soon, so that each response is to be the last one on its connection."""
        return self._ints[_PARTING] != 0

    def part(self) -> None:
        """Let the worker know that the server stops soon; the arbiter's to call."""
        self._ints[_PARTING] = 1

    @property
    def due(self) -> float:
        """When the loop on which all requests depend turns again, in monotonic seconds; 0.0 without one."""
        return self._floats[_DUE]

    @due.setter
    def due(self, due: float) -> None:
        self._floats[_DUE] = due

    @property
    def busy(self) -> int:
        """How many threads have a request in hand."""
        return sum(record.is_busy for record in self._all())

    @property
    def away(self) -> int:
        """How many threads have one that takes long, so that others do without them."""
        return self._ints[_AWAY]

    @away.setter
    def away(self, away: int) -> None:
        self._ints[_AWAY] = away

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._ints[_OPEN]

    @connections.setter
    def connections(self, count: int) -> None:
        self._ints[_OPEN] = count

    @property
    def idle(self) -> int:
        """How many of them wait for their client."""
        return self._ints[_IDLE]

    @idle.setter
    def idle(self, idle: int) -> None:
        self._ints[_IDLE] = idle

    def sums(self) -> Sums:
        """Return what all threads have counted, in one pass: there may be thousands of them in a server."""
        counted = [_SUMS.unpack_from(self._bytes, begin) for begin in self._begins()]
        requests, errors, queued, measured = map(sum, zip(*counted, strict=True))
        return Sums(requests, errors, queued, measured)

    def in_hand(self) -> tuple[int, Current | None]:
        """Return how many threads have a request in hand, and the one that began first, in one pass."""
        looks = [_WHEN.unpack_from(self._bytes, begin + _WHEN_OFFSET) for begin in self._begins()]
        started = [(since, number) for number, (phase, since) in enumerate(looks) if phase != _NOTHING]
        return len(started), self.thread(min(started)[1]).request() if started else None

    def _begins(self) -> range:
        return range(_HEADER_SIZE, _HEADER_SIZE + max(self._used, 1) * _RECORD_SIZE, _RECORD_SIZE)

    def current(self) -> list[Current]:
        """Return the requests in hand, the one that began first in front."""
        found = [current for record in self._all() if (current := record.request()) is not None]
        return sorted(found, key=lambda current: current.started)


class Scoreboard:
    """All slots, in memory that every process forked later shares.

    Args:
        slots: how many workers there can be at once.

    Raises:
        OSError: the memory cannot be mapped.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        # MAP_SHARED | MAP_ANONYMOUS: only pages that are touched cost memory.
        self._memory = memoryview(mmap.mmap(-1, _PAGE + slots * SLOT_SIZE))
        self._own = self._memory[:_PAGE].cast("q")
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
            begin = _PAGE + index * SLOT_SIZE
            self._slots[index] = Slot(self._memory[begin : begin + SLOT_SIZE], index)
            self._own[_REACH] = max(self._own[_REACH], index + 1)
        return self._slots[index]

    def count_kill(self, reason: Reason) -> None:
        """Count a worker that is ended by force; the arbiter's to call.

        Args:
            reason: why.
        """
        self._own[_REASONS[reason]] += 1

    @property
    def kills(self) -> Mapping[Reason, int]:
        """How many workers were ended by force since the start, by reason."""
        return {reason: self._own[word] for reason, word in _REASONS.items()}

    def others(self, own: Slot) -> list[Slot]:
        """Return the slots of the workers that serve now, but for one.

        Args:
            own: the one that is left out.
        """
        slots = [self.slot(index) for index in range(self._own[_REACH]) if index != own.index]
        return [slot for slot in slots if slot.is_serving]


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("latin-1")
