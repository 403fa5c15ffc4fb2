# SPDX-License-Identifier: MIT
"""What is done to one process when the machine wants it: begun, told something, explained, ended.

It decides how an action about a worker, a template or a status process is carried out, and which event says
that it has failed. What concerns the server as a whole is `loop`; why it is done is `supervisor.machine`.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, TypeAlias

from prefork.arbiter.facade import run_hook
from prefork.supervisor.messages import (
    Abort,
    AbortTemplate,
    Explain,
    ForkFailed,
    Kill,
    KillStatus,
    KillTemplate,
    Order,
    Promote,
    Send,
    Spawn,
    StartStatus,
    StartTemplate,
    StatusFailed,
    StopStatus,
    StopTemplate,
    TemplateFailed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.arbiter.brood import Brood, Worker
    from prefork.arbiter.facade import ServerFacade
    from prefork.arbiter.inquest import Inquests
    from prefork.arbiter.statuses import Statuses
    from prefork.arbiter.succession import Succession
    from prefork.control.register import Register
    from prefork.process.scoreboard import Scoreboard
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Action, Event

OfWorker: TypeAlias = Spawn | Send | Explain | Abort | Kill
OfTemplate: TypeAlias = Promote | StartTemplate | StopTemplate | AbortTemplate | KillTemplate
OfStatus: TypeAlias = StartStatus | StopStatus | KillStatus


def failure(action: Action, error: Exception) -> Event | None:
    """Return what tells the machine that something it waits for has failed; None when it waits for nothing.

    Args:
        action: what was to be done.
        error: what has come of it.
    """
    match action:
        case Spawn(serial):
            return ForkFailed(serial, repr(error))
        case StartTemplate(number):
            return TemplateFailed(number, repr(error))
        case StartStatus(generation):
            return StatusFailed(generation, repr(error))
    return None


class Deeds:
    """The hands of the machine, as far as single processes go.

    Args:
        fleet: what the machine knows of them.
        brood: the workers and templates that live.
        statuses: the status processes that live.
        succession: the generations.
        inquests: explains workers in the log.
        board: counts who is ended by force.
        server: what hooks are given.
        register: returns what a status process is to tell.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        brood: Brood,
        statuses: Statuses,
        succession: Succession,
        inquests: Inquests,
        board: Scoreboard,
        server: ServerFacade,
        register: Callable[[], Register],
    ) -> None:
        self._fleet = fleet
        self._brood = brood
        self._statuses = statuses
        self._succession = succession
        self._inquests = inquests
        self._board = board
        self._server = server
        self._log = server.log
        self._register = register

    # ------------------------------------------------------------ a worker

    def to_worker(self, action: OfWorker) -> Event | None:
        """Do what the machine wants done about a worker; return what it is to be told of that."""
        match action:
            case Spawn():
                generation = self._succession.get(action.generation)
                return self._brood.spawn(action, generation, self._server, self._succession.all())
            case Send(serial, order):
                self._send(serial, order)
            case Explain(serial, why, reason):
                worker = self._brood.get(serial)
                if worker is not None:
                    self._inquests.ask(worker, why, reason.value, late=worker.late)
            case Abort() | Kill():
                self._end_by_force(action)
        return None

    def _send(self, serial: int, order: Order) -> None:
        worker = self._brood.get(serial)
        if worker is None:
            return
        if order is Order.LEAVE and self._succession.is_last_on_a_listener(worker.generation):
            order = Order.DRAIN  # nobody follows on a listener that is being removed
        worker.tell(order)

    def _end_by_force(self, action: Abort | Kill) -> None:
        worker = self._brood.get(action.serial)
        if worker is None:
            return
        if not worker.facade.aborted:
            self._board.count_kill(action.reason)
        reason = action.reason.value
        if isinstance(action, Kill):
            self._inquests.tell(worker, action.why, reason, doing=": sending SIGKILL")
            self._brood.kill(action.serial, signal.SIGKILL)
            return
        worker.facade.aborted = True
        if not action.explained:
            self._inquests.ask(
                worker, action.why, reason, late=worker.late, number=signal.SIGABRT, doing=": sending SIGABRT"
            )
            return
        self._inquests.tell(worker, action.why, reason, doing=": sending SIGABRT")
        self._brood.kill(action.serial, signal.SIGABRT)

    # ------------------------------------------------------------ a template

    def to_template(self, action: OfTemplate) -> Event | None:
        """Do what the machine wants done about a template; return what it is to be told of that."""
        match action:
            case Promote(serial, number):
                worker = self._brood.get(serial)
                return None if worker is None else self._make_template(worker, number)
            case StartTemplate(number, of):
                generation = self._succession.get(of)
                return self._brood.start_template(number, generation, self._server, self._succession.all())
            case StopTemplate(number):
                self._brood.nursery.stop(number)
            case AbortTemplate(number, why):
                self._end_template(number, signal.SIGABRT, why)
            case KillTemplate(number, why):
                self._end_template(number, signal.SIGKILL, why)
        return None

    def _make_template(self, worker: Worker, number: int) -> Event | None:
        """Let a worker be a template: as a worker it has ended."""
        self._inquests.bury(worker, expected=True)
        is_one = self._brood.promote(worker, number, self._server)
        run_hook(worker.generation.hooks, "child_exit", self._log, self._server, worker.facade)
        return None if is_one else TemplateFailed(number, f"{worker} was not told to be one")

    def _end_template(self, number: int, what: signal.Signals, why: str) -> None:
        self._log.error("%s %s: sending %s", self._fleet.templates.get(number), why, what.name)
        self._brood.nursery.kill(number, what)

    # ------------------------------------------------------------ a status process

    def to_status(self, action: OfStatus) -> Event | None:
        """Do what the machine wants done about a status process; return what it is to be told of that."""
        number = action.generation
        match action:
            case StartStatus():
                generation = self._succession.get(number)
                return self._statuses.start(generation, self._succession.all(), self._register())
            case StopStatus():
                self._statuses.stop(number)
            case KillStatus():
                self._log.error("%s %s: sending SIGKILL", self._fleet.statuses.get(number), action.why)
                self._statuses.kill(number)
        return None
