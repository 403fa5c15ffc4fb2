# SPDX-License-Identifier: MIT
"""The arbiter's living children: how one is forked, told, looked at and forgotten.

It decides what a child inherits, and what it must let go of in its first moments: every
descriptor that would keep another process's end of something alive. When a child is forked,
told or killed is not known here.
"""

from __future__ import annotations

import os
import signal
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Protocol

from prefork.arbiter.facade import ServerFacade, WorkerFacade, run_hook
from prefork.arbiter.lateness import Limits, Suspicion
from prefork.arbiter.nursery import Nursery, Template
from prefork.control.report import Totals
from prefork.errors import ExitCode
from prefork.process import channel, signals, stacks, variables
from prefork.process import template as lines
from prefork.process.scoreboard import THREADS, Stage
from prefork.status.look import counted
from prefork.supervisor.children import name
from prefork.supervisor.messages import Event, Forked, ForkFailed, Order, Spawn
from prefork.workers import template

if TYPE_CHECKING:
    import selectors
    import socket
    from collections.abc import Callable, Iterable, Iterator

    from prefork.arbiter.generation import Generation
    from prefork.process.channel import ArbiterEnd, End
    from prefork.process.kernel import Kernel
    from prefork.process.scoreboard import Current, Scoreboard, Slot
    from prefork.process.stacks import StackEnd
    from prefork.process.template import Fork


class Entry(Protocol):
    """What a worker process does with its life; `prefork.workers.child.run` does it for real."""

    def __call__(self, **inherited: Any) -> int:
        """Live; return the exit status."""


class Born(BaseException):
    """This is the child: leave the arbiter's loop, and live.

    It is raised, not returned, so that no line of the arbiter runs in the child. It is no
    Exception, so that nothing catches it but `Loop.run`.

    Args:
        live: the child's life; returns its exit status.
    """

    def __init__(self, live: Callable[[], int]) -> None:
        super().__init__()
        self.live = live


@dataclass(slots=True)
class Worker:
    """One living child."""

    serial: int
    pid: int
    """0 until a worker that a template forks has said it."""
    end: ArbiterEnd
    slot: Slot
    generation: Generation
    facade: WorkerFacade
    stacks: StackEnd
    """What it shows of itself when it is asked."""
    limits: Limits
    suspicion: Suspicion = field(default_factory=Suspicion)
    """What was found so far of requests that take too long."""
    owed: list[signal.Signals] = field(default_factory=list)
    """Signals to send when the pid is known."""
    late: list[Current] = field(default_factory=list)
    """Its requests that were stuck at the last look."""
    line: End | None = None
    """Over which it gets its orders when it is a template."""

    def send(self, kernel: Kernel, number: signal.Signals) -> None:
        """Send it a signal; one whose pid is not known yet gets it when it is.

        Args:
            kernel: sends.
            number: which signal.
        """
        if self.pid:
            kernel.kill(self.pid, number)
        else:
            self.owed.append(number)

    def tell(self, order: Order) -> None:
        """Send it an order; one that is dead does not mind.

        Args:
            order: the word. Without a descriptor for a line `REFORK` is `LEAVE`, and the worker only ends.
        """
        if order is not Order.REFORK:
            self.end.send(order)
            return
        try:
            self.line, theirs = lines.make()
        except OSError:
            self.end.send(Order.LEAVE)
            return
        self.end.send(order, theirs)
        theirs.close()

    def close(self) -> None:
        """Close the arbiter's ends of all that connects it with the worker."""
        self.end.close()
        self.stacks.close()
        if self.line is not None:
            self.line.close()

    def __str__(self) -> str:
        return name(self.pid, self.slot.index, self.generation.number)


class Brood:
    """The living children of one arbiter.

    Args:
        kernel: forks.
        board: has a slot for each.
        selector: shared with the loop; the arbiter's ends are registered with their worker.
        inbox: the arbiter's signals.
        entry: what a child does.
        drop: closes, in a child, whatever else only the arbiter may hold.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        board: Scoreboard,
        selector: selectors.BaseSelector,
        inbox: signals.Inbox,
        entry: Entry,
        drop: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._board = board
        self._selector = selector
        self._inbox = inbox
        self._entry = entry
        self._drop = drop
        self.nursery = Nursery(kernel=kernel, selector=selector, life=template.run)
        self._by_serial: dict[int, Worker] = {}
        self._by_pid: dict[int, Worker] = {}
        self.past = Totals()
        """What the workers have counted that are not here any more."""

    def get(self, serial: int) -> Worker | None:
        """Return a child by its serial number, None when it is not here."""
        return self._by_serial.get(serial)

    def among(self, serials: Iterable[int]) -> list[Worker]:
        """Return the children of some serial numbers that are here."""
        return [worker for worker in map(self.get, serials) if worker is not None]

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._by_serial.values()))

    def spawn(
        self, wanted: Spawn, generation: Generation, server: ServerFacade, others: Iterable[Generation]
    ) -> Event | None:
        """Fork a child, or have the template of its generation do it.

        Args:
            wanted: its serial number and slot.
            generation: what it runs with.
            server: what hooks are given as `server`.
            others: all generations that have something open.

        Returns:
            `Forked` or `ForkFailed`; None when a template has been ordered to fork.

        Raises:
            Born: this is the child.
        """
        slot = self._board.slot(wanted.slot)
        at_once = generation.worker_type.at_once(generation.settings)
        slot.clear(generation.number, Stage.BOOTING, max(1, min(at_once, THREADS)))
        facade = WorkerFacade(wanted.serial, generation.settings, server.log, os.getpid(), slot)
        run_hook(generation.hooks, "pre_fork", server.log, server, facade)
        try:
            link = _connect(by_template=generation.preload)
        except OSError as error:
            return ForkFailed(wanted.serial, _fork_trouble(error))
        pid = None
        try:
            if generation.preload:
                self.nursery.order(wanted, link.theirs, link.shows)
            else:
                pid = self._fork(link.close_ours, generation, others)
        except OSError as error:
            link.close_ours()
            link.close_theirs()
            trouble = f"the template takes no order: {error.strerror}"
            return ForkFailed(wanted.serial, trouble if generation.preload else _fork_trouble(error))
        if pid == 0:
            facade.pid = os.getpid()
            raise Born(partial(self._live, generation, server, facade, slot, link.theirs, link.shows))
        link.close_theirs()
        limits = Limits.of(generation.settings)
        worker = Worker(wanted.serial, 0, link.ours, slot, generation, facade, link.shown, limits)
        self._by_serial[wanted.serial] = worker
        self._selector.register(link.ours, _READ, worker)
        self._selector.register(link.shown, _READ, link.shown)
        return None if pid is None else self.name(worker, pid, server)

    def name(self, worker: Worker, pid: int, server: ServerFacade) -> Forked:
        """Note the pid of a child, and send it the signals that have waited for that.

        Args:
            worker: the child.
            pid: what the kernel says.
            server: what hooks are given as `server`.
        """
        worker.pid = worker.facade.pid = pid
        self._by_pid[pid] = worker
        server.WORKERS[pid] = worker.facade
        for number in worker.owed:
            self._kernel.kill(pid, number)
        worker.owed.clear()
        return Forked(worker.serial, pid)

    def unnamed(self) -> list[Worker]:
        """Return the children that have been ordered of a template, and have not said their pid."""
        return [worker for worker in self if not worker.pid]

    def start_template(
        self, number: int, generation: Generation, server: ServerFacade, others: Iterable[Generation]
    ) -> Event:
        """Fork a template.

        Args:
            number: of the template.
            generation: what it runs with.
            server: what hooks are given as `server`.
            others: all generations that have something open.

        Returns:
            `TemplateForked` or `TemplateFailed`.

        Raises:
            Born: this is the template.
        """
        return self.nursery.start(
            number,
            generation,
            lambda ours: self._fork(ours.close, generation, others),
            _be_born,
            partial(self._live_preloaded, generation, server),
        )

    def promote(self, worker: Worker, number: int, server: ServerFacade) -> bool:
        """Take the process of a worker for a template, and forget the worker.

        Args:
            worker: it has said that it is one.
            number: of the template.
            server: what hooks are given as `server`.

        Returns:
            False when it has no line, so that it can be no template; then it is ended.
        """
        line, worker.line = worker.line, None
        if line is None:
            self._kernel.kill(worker.pid, signal.SIGKILL)
        else:
            requests = counted(worker.slot).requests
            self.nursery.adopt(Template(number, worker.generation, worker.pid, line, requests))
        self.forget(worker, server)
        return line is not None

    def _live_preloaded(
        self,
        generation: Generation,
        server: ServerFacade,
        order: Fork,
        application: Callable[..., Any],
        promote: Callable[[socket.socket], None],
    ) -> int:
        slot = self._board.slot(order.slot)
        facade = WorkerFacade(order.serial, generation.settings, server.log, server.pid, slot, os.getpid())
        return self._live(generation, server, facade, slot, order.channel, order.stacks, application, promote)

    def fork_aide(self, ours: socket.socket, others: Iterable[Generation]) -> int:
        """Fork a process that is no worker: it has nothing of the arbiter's but its standard streams.

        Args:
            ours: the arbiter's end of the channel to it.
            others: all generations that have something open.

        Returns:
            Its pid, 0 in the new process.

        Raises:
            OSError: no process or memory is to be had.
        """
        return self._fork(ours.close, None, others)

    def _fork(
        self, close_ours: Callable[[], None], generation: Generation | None, others: Iterable[Generation]
    ) -> int:
        with signals.held():
            pid = self._kernel.fork()
            if pid == 0:
                try:
                    self._let_go(close_ours, generation, others)
                except BaseException:  # noqa: BLE001 -- no child may ever run on as a second arbiter
                    traceback.print_exc()
                    os._exit(ExitCode.CRASH)
        return pid

    def _let_go(
        self, close_ours: Callable[[], None], generation: Generation | None, others: Iterable[Generation]
    ) -> None:
        """Close in the child what is the arbiter's.

        A copy of an arbiter's end would hide the arbiter's death from its worker; one of a
        listener that is not served would let clients wait for nobody.
        """
        self._inbox.leave_to_child()
        self._selector.close()
        close_ours()
        for sibling in self:
            sibling.close()
        self.nursery.let_go()
        self._drop()
        kept = {id(listener) for listener in generation.listeners} if generation is not None else set()
        for other in others:
            for listener in other.listeners:
                if id(listener) not in kept:
                    listener.sock.close()
            if generation is None or other.logs is not generation.logs:
                other.logs.close()

    def _live(
        self,
        generation: Generation,
        server: ServerFacade,
        facade: WorkerFacade,
        slot: Slot,
        channel: socket.socket,
        shows: int,
        application: Callable[..., Any] | None = None,
        promote: Callable[[socket.socket], None] | None = None,
    ) -> int:
        variables.take_on(generation.settings.raw_env)
        return self._entry(
            settings=generation.settings,
            hooks=generation.hooks,
            server=server,
            worker=facade,
            slot=slot,
            siblings=partial(self._board.others, slot),
            channel=channel,
            stacks=shows,
            listeners=generation.listeners,
            logs=generation.logs,
            worker_type=generation.worker_type,
            imported=generation.imported,
            application=application,
            promote=promote,
            arbiter=server.pid,
        )

    def kill(self, serial: int, number: signal.Signals) -> None:
        """Send a child a signal.

        Args:
            serial: which child; one that is not here is left in peace.
            number: which signal.
        """
        worker = self.get(serial)
        if worker is not None:
            worker.send(self._kernel, number)

    def hang_up(self, worker: Worker) -> None:
        """Listen to a child no more, after its end of the channel is closed."""
        if worker.end.fileno() in self._selector.get_map():
            self._selector.unregister(worker.end)

    def read_stacks(self, end: StackEnd, now: float) -> None:
        """Take what a child shows of itself; listen to it there no more when its end is closed.

        Args:
            end: what is readable.
            now: monotonic seconds.
        """
        if not end.receive(now) and end.fileno() in self._selector.get_map():
            self._selector.unregister(end)

    def take(self, pid: int) -> Worker | None:
        """Return the child of a pid that is about to be forgotten, None for a stranger's."""
        return self._by_pid.get(pid)

    def forget(self, worker: Worker, server: ServerFacade) -> None:
        """Let go of what belonged to a child that has been reaped."""
        self.hang_up(worker)
        if worker.stacks.fileno() in self._selector.get_map():
            self._selector.unregister(worker.stacks)
        worker.close()
        self.past = self.past.plus(counted(worker.slot))
        worker.slot.clear(worker.generation.number, Stage.EMPTY)
        worker.facade.alive = False
        del self._by_serial[worker.serial]
        self._by_pid.pop(worker.pid, None)
        server.WORKERS.pop(worker.pid, None)


class _Link(NamedTuple):
    """What connects the arbiter and one worker, both ends."""

    ours: ArbiterEnd
    theirs: socket.socket
    shown: StackEnd
    shows: int

    def close_ours(self) -> None:
        self.ours.close()
        self.shown.close()

    def close_theirs(self) -> None:
        self.theirs.close()
        os.close(self.shows)


def _connect(*, by_template: bool) -> _Link:
    ours, theirs = channel.make(by_template=by_template)
    try:
        return _Link(ours, theirs, *stacks.make())
    except OSError:
        ours.close()
        theirs.close()
        raise


_READ: Final = 1
"""selectors.EVENT_READ."""


def _be_born(live: Callable[[], int]) -> NoReturn:
    raise Born(live)


def _fork_trouble(error: OSError) -> str:
    return f"{error.strerror}: too many processes or descriptors, or too little memory"
