# SPDX-License-Identifier: MIT
"""What the log says of a worker that is killed, stuck, slow or dead: one record, with its stacks.

It decides how that record is made: what the worker had in hand when it was found, and the stacks
of its threads, which come a moment later. It waits for them by being called again, for a second
at most. Why a worker is asked, and what becomes of it, is not known here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final

from prefork.process.scoreboard import Phase
from prefork.process.stacks import INSIST, QUIET, SIGNAL

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Iterable

    from prefork.arbiter.brood import Worker
    from prefork.process.kernel import Kernel
    from prefork.process.scoreboard import Current

PATIENCE: Final = 1.0
"""Seconds that the stacks may take."""
AGAIN: Final = ((0.3, SIGNAL), (0.6, INSIST))
"""After how many seconds a worker that shows nothing is asked again, and how. Once as before, because
CPython misses a signal that comes just before the main thread waits for a lock; then in a way that needs no
Python code."""

_ABORTED: Final = "Fatal Python error: Aborted\n\n"
"""How the stacks of an abort begin. It was ours, so it says nothing."""

_PHASES: Final = {
    Phase.NONE: "done",
    Phase.READING: "reading the request",
    Phase.APPLICATION: "in the application",
    Phase.WRITING: "writing the response",
    Phase.TAKEN: "connection taken over",
}


@dataclass(slots=True)
class _Open:
    """A record that waits for stacks."""

    worker: Worker
    level: int
    text: str
    fields: dict[str, Any]
    again: list[tuple[float, signal.Signals]]
    """When to ask again, and how."""
    until: float
    then: Callable[[str, str], None] | None
    """Who is told instead of the log."""


class Inquests:
    """The records that wait for the stacks of workers.

    Args:
        kernel: sends signals, and has the clock.
        log: the error log.
    """

    def __init__(self, kernel: Kernel, log: logging.Logger) -> None:
        self._kernel = kernel
        self._log = log
        self._open: dict[int, _Open] = {}

    def ask(
        self,
        worker: Worker,
        why: str,
        reason: str,
        *,
        late: Collection[Current] = (),
        level: int = logging.ERROR,
        number: signal.Signals = SIGNAL,
        doing: str = "",
        then: Callable[[str, str], None] | None = None,
    ) -> None:
        """Log why a worker is looked at, when it has shown its stacks.

        Args:
            worker: it.
            why: words after its name.
            reason: one word, for logs in JSON.
            late: those of its requests that are the reason.
            level: of the record.
            number: the signal on which it shows them.
            doing: what is done beside, such as ": sending SIGABRT".
            then: is told instead of the log, once: the words, and the stacks if there are any.
        """
        self._settle(worker)
        text, fields = self._account(worker, why, reason, late)
        now = self._kernel.now()
        again = [(now + wait, sent) for wait, sent in AGAIN] if number is SIGNAL else []
        self._open[worker.serial] = _Open(worker, level, text + doing, fields, again, now + PATIENCE, then)
        worker.send(self._kernel, number)

    def tell(self, worker: Worker, why: str, reason: str, *, doing: str = "") -> None:
        """Log why something is done to a worker, at once and without its stacks.

        Args:
            worker: it.
            why: words after its name.
            reason: one word, for logs in JSON.
            doing: what is done.
        """
        self._settle(worker)
        text, fields = self._account(worker, why, reason)
        self._write(logging.ERROR, text + doing, fields)

    def look(self, workers: Iterable[Worker]) -> None:
        """Log what is complete, or has taken too long.

        Args:
            workers: all that are alive.
        """
        now = self._kernel.now()
        for inquest in self._open.values():
            if inquest.again and inquest.again[0][0] <= now:
                _, number = inquest.again.pop(0)
                if not inquest.worker.stacks.has_some:
                    inquest.worker.send(self._kernel, number)
        for worker in workers:
            found = self._open.get(worker.serial)
            if worker.stacks.is_complete(now) or (found is not None and now >= found.until):
                self._settle(worker)

    def next_deadline(self, workers: Iterable[Worker]) -> float:
        """Return when to call `look` again, infinity for never.

        Args:
            workers: all that are alive.
        """
        times = [inquest.again[0][0] if inquest.again else inquest.until for inquest in self._open.values()]
        times += [worker.stacks.heard_at + QUIET for worker in workers if worker.stacks.has_some]
        return min(times, default=inf)

    def bury(self, worker: Worker, *, expected: bool) -> None:
        """Log what a worker has left behind that is dead.

        Args:
            worker: it.
            expected: whether it was told to end, or made to.
        """
        worker.stacks.receive(self._kernel.now())
        if worker.serial in self._open:
            self._settle(worker)
        elif worker.facade.aborted:
            worker.stacks.take()
        elif worker.stacks.has_some or (not expected and worker.slot.current()):
            why = "has crashed" if worker.stacks.has_some else "was lost"
            text, fields = self._account(worker, why, "crash")
            self._write(logging.ERROR, text, fields, worker.stacks.take())

    def _settle(self, worker: Worker) -> None:
        """Write the record that waits for a worker, or what the worker has shown without being asked here."""
        inquest = self._open.pop(worker.serial, None)
        stacks = worker.stacks.take().removeprefix(_ABORTED)
        if inquest is not None and inquest.then is not None:
            inquest.then(inquest.text, stacks)
        elif inquest is not None:
            missing = "" if stacks else "; it has shown no stacks"
            self._write(inquest.level, inquest.text + missing, inquest.fields, stacks)
        elif stacks:
            text, fields = self._account(worker, "has shown its stacks", "asked")
            self._write(logging.WARNING, text, fields, stacks)

    def _account(
        self, worker: Worker, why: str, reason: str, late: Collection[Current] = ()
    ) -> tuple[str, dict[str, Any]]:
        """Return what a worker has in hand, in words and for logs in JSON."""
        now = self._kernel.now()
        marked = {(current.thread, current.started) for current in late}
        found = worker.slot.current()
        currents = [(current, (current.thread, current.started) in marked) for current in found]
        requests = [
            {
                "method": current.method,
                "target": current.target,
                "age": round(now - current.started, 3),
                "phase": current.phase.name.lower(),
                "client": current.client,
                "thread": _thread(current),
                "late": is_late,
            }
            for current, is_late in currents
        ]
        fields = {
            "worker": worker.pid,
            "slot": worker.slot.index,
            "generation": worker.generation.number,
            "reason": reason,
            "requests": requests,
        }
        words = ", ".join(_words(current, now, is_late=is_late) for current, is_late in currents)
        return f"{worker} {why}{', on ' if words else ''}{words}", fields

    def _write(self, level: int, text: str, fields: dict[str, Any], stacks: str = "") -> None:
        log = self._log
        if log.isEnabledFor(level):
            more: dict[str, Any] = {"extra": fields, "sinfo": stacks or None}
            log.handle(log.makeRecord(log.name, level, __file__, 0, text, (), None, **more))


def _thread(current: Current) -> str:
    """Return a thread as faulthandler writes it."""
    return f"0x{current.thread:016x}"


def _words(current: Current, now: float, *, is_late: bool) -> str:
    facts = [_PHASES[current.phase], f"{now - current.started:.1f} s old"]
    if current.client:
        facts.append(f"from {current.client}")
    if current.thread:
        facts.append(f"thread {_thread(current)}")
    if is_late:
        facts.append("late")
    return f"{current.method} {current.target} ({', '.join(facts)})"
