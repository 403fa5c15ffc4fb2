# SPDX-License-Identifier: MIT
"""The arbiter's loop: it turns descriptors into events, and actions into deeds.

It decides nothing about workers; that is `supervisor.machine`. Everything it waits for is a
descriptor in one selector, with a timeout that the machine and the workers' deadlines give.
It never imports the application, starts a thread, runs an event loop or parses HTTP.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.arbiter.brood import Born, Brood, Entry, Worker
from prefork.arbiter.deeds import Deeds, failure
from prefork.arbiter.facade import ServerFacade, run_hook
from prefork.arbiter.inquest import Inquests
from prefork.arbiter.lookout import Lookout
from prefork.arbiter.nursery import Template
from prefork.arbiter.rounds import Rounds
from prefork.arbiter.snapshot import Birth, register
from prefork.arbiter.statuses import Statuses, StatusProcess
from prefork.arbiter.succession import Succession
from prefork.process import identity
from prefork.process.channel import Hangup
from prefork.process.signals import Command
from prefork.process.stacks import StackEnd
from prefork.supervisor.children import MEMBERS, SERVING
from prefork.supervisor.fleet import Mode
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Abort,
    AbortTemplate,
    Action,
    Event,
    Exit,
    Explain,
    ForkFailed,
    Gone,
    HungUp,
    Kill,
    KillStatus,
    KillSuccessor,
    KillTemplate,
    Park,
    Promote,
    Reaped,
    Reason,
    Reload,
    Reloaded,
    Reported,
    Resize,
    Resized,
    RolledBack,
    Say,
    Send,
    Serving,
    Spawn,
    Start,
    StartStatus,
    StartSuccessor,
    StartTemplate,
    Stop,
    Stopping,
    StopQueueing,
    StopStatus,
    StopSuccessor,
    StopTemplate,
    SuccessorFailed,
    TakeOver,
    TellReady,
    TemplateEnded,
    Tick,
    Upgrade,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork.arbiter.control import Control
    from prefork.arbiter.generation import Generation
    from prefork.arbiter.notices import Notices
    from prefork.arbiter.upgrade import Kin
    from prefork.control.register import Register
    from prefork.net.listener import Listener
    from prefork.process.kernel import Kernel
    from prefork.process.scoreboard import Scoreboard
    from prefork.process.signals import Inbox
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Death

    Outcome = int | Callable[[], int]

PAUSE: Final = 0.5
"""Seconds that the loop rests after an error of its own, so that one that stays fills no disk."""


class Loop:
    """The running arbiter.

    Args:
        kernel: the operating system.
        board: the scoreboard.
        inbox: the arbiter's signals.
        first: the first generation.
        follow: makes the next generation of the present one and its number; raises PreforkError.
        server: what hooks are given as `server`; kept true here.
        entry: what a child does.
        drop: closes, in a child, whatever only the arbiter may hold.
        notices: what the service manager hears.
        started: to be called when the first worker is ready.
        control: the control socket; None when there is none.
        kin: the arbiter before or after this one.
        activated: listeners from systemd.
        promote: takes the place of a predecessor that has gone.
    """

    def __init__(  # noqa: PLR0913 (each is another seam)
        self,
        *,
        kernel: Kernel,
        board: Scoreboard,
        inbox: Inbox,
        first: Generation,
        follow: Callable[[Generation, int], Generation],
        server: ServerFacade,
        entry: Entry,
        drop: Callable[[], None],
        notices: Notices,
        started: Callable[[], None],
        control: Control | None,
        kin: Kin,
        activated: Sequence[Listener],
        promote: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._inbox = inbox
        self._drop = drop
        self._server = server
        self._notices = notices
        self._started = started
        self._log = server.log
        self._selector = selectors.DefaultSelector()
        self._selector.register(inbox, selectors.EVENT_READ, None)
        self._machine = Machine(
            first.policy, generation=first.number, slots=board.size, predecessor=kin.predecessor
        )
        self._fleet = self._machine.fleet
        self._brood = Brood(
            kernel=kernel,
            board=board,
            selector=self._selector,
            inbox=inbox,
            entry=entry,
            drop=self._leave_to_child,
        )
        self._lookout = Lookout(kernel, self._brood, self._selector, self._log)
        self._statuses = Statuses(
            kernel=kernel, brood=self._brood, board=board, selector=self._selector, log=self._log
        )
        self.board = board
        self._birth = Birth(os.getpid(), time.time(), kernel.now())
        self._inquests = Inquests(kernel, server.log)
        self._succession = Succession(first, follow, server)
        self._deeds = Deeds(
            fleet=self._fleet,
            brood=self._brood,
            statuses=self._statuses,
            succession=self._succession,
            inquests=self._inquests,
            board=board,
            server=server,
            register=self.register,
        )
        self._rounds = Rounds(kernel, self._fleet, self._brood, self._inquests)
        self._title = ""
        self._serving = 0
        self._exit_code: int | None = None
        self._kin = kin
        self._activated = activated
        self._promote = promote
        kin.attach(self._selector, partial(self._reopen, "SIGUSR1 to the other arbiter"))
        self._control = control
        if control is not None:
            control.attach(self, self._selector)

    @property
    def fleet(self) -> Fleet:
        """Which workers there are and should be; only to be read."""
        return self._fleet

    @property
    def present(self) -> Generation:
        """The generation that is the server's."""
        return self._succession.present

    def register(self) -> Register:
        """Return what only the arbiter knows of the server at this moment."""
        return register(self._fleet, self._brood, self.generations, self._birth)

    @property
    def no_upgrade(self) -> str:
        """Why there can be no upgrade now; empty when there can."""
        return self._machine.no_upgrade

    @property
    def generations(self) -> list[Generation]:
        """All generations that have something open, oldest first."""
        return self._succession.all()

    def run(self) -> Outcome:
        """Run until the server has ended.

        Returns:
            The exit code; or, in a child, its life, to be called when the arbiter's stack is unwound.
        """
        try:
            self._step(Start())
            if by := self._kin.moved(self.present.policy):
                self._step(Resize(by))
            self._keep_lookout()
            while self._exit_code is None:
                try:
                    self._turn()
                except Exception:  # noqa: BLE001 -- an arbiter that dies takes all down
                    self._log.exception("error in the arbiter: going on")
                    time.sleep(PAUSE)
        except Born as born:
            return born.live
        self._lookout.end()
        self._selector.close()
        return self._exit_code

    def _leave_to_child(self) -> None:
        """Close in a child what only the arbiter may hold."""
        self._lookout.close()
        self._statuses.let_go(self.generations)
        self._drop()

    # ------------------------------------------------------------ one turn

    def _turn(self) -> None:
        self._show_title()
        self._count_workers()
        planned = self._wake_at()
        timeout = None if planned is None else max(0.0, planned - self._kernel.now())
        ready = self._selector.select(timeout)
        now = self._kernel.now()
        if planned is not None:
            self._rounds.wake(planned, now)
            self._statuses.wake(planned, now)
        # Words before signals: who has seen a worker answer and asks for a reload means a server that is up.
        watched = self._selector.get_map()
        for key, _ in ready:
            if watched.get(key.fd) is key:  # else what came before it in this turn has ended it
                self._hear(key.data, now)
        # Signals before deaths: a stop that the whole process group got explains why workers end.
        for command in self._inbox.read():
            self._obey(command)
        self._keep_lookout()  # a stop explains its end too
        self._reap()
        for event in self._rounds.look(self.present.listeners):
            self._step(event)
        for event in self._statuses.silent():
            self._step(event)
        self._inquests.look(self._brood)
        self._step(Tick())
        self._notices.turn(self._fleet, self._brood, self._kernel.now())
        if self._control is not None:
            self._control.turn(ready, self._kernel.now())
        self._statuses.publish(self.register)

    def _hear(self, who: object, now: float) -> None:
        """Take in what one of those says whose descriptor is readable."""
        if isinstance(who, Worker):
            self._listen(who)
        elif who is self._lookout and self._lookout.has_changes():
            self.reload()
        elif isinstance(who, StackEnd):
            self._brood.read_stacks(who, now)
        elif isinstance(who, Template):
            self._listen_to_template(who)
        elif isinstance(who, StatusProcess):
            self._statuses.listen(who)
        elif who is self._kin:
            for event in self._kin.hear():
                self._step(event)

    def _wake_at(self) -> float | None:
        """Return when something runs out at the earliest, None for never."""
        now = self._kernel.now()
        times = [
            self._rounds.next_at(now),
            self._inquests.next_deadline(self._brood),
            self._lookout.next_start(),
            self._notices.next_at,
            self._statuses.next_at,
        ]
        machine = self._machine.next_deadline()
        if machine is not None:
            times.append(machine)
        if self._control is not None:
            times.append(self._control.next_deadline(now))
        return min((at for at in times if at != inf), default=None)

    def _keep_lookout(self) -> None:
        """Have files watched, unless the server is ending."""
        if self._fleet.mode in {Mode.STARTING, Mode.RUNNING}:
            self._lookout.keep(self.present, self.generations, self._kernel.now())
        else:
            self._lookout.stop()

    def _listen(self, worker: Worker) -> None:
        """Take in what a worker says."""
        if not worker.pid and not self._meet(worker):
            return
        try:
            for report in worker.end.receive():
                self._step(Reported(worker.serial, report))
        except Hangup:
            self._brood.hang_up(worker)
            self._step(HungUp(worker.serial))

    def _meet(self, worker: Worker) -> bool:
        """Learn the pid of a worker that a template forks; return whether it is known now."""
        try:
            pid = worker.end.receive_pid()
        except Hangup:
            self._brood.forget(worker, self._server)
            self._step(ForkFailed(worker.serial, "the template has not forked it"))
            return False
        if pid is None:
            return False
        self._step(self._brood.name(worker, pid, self._server))
        return True

    def _listen_to_template(self, template: Template) -> None:
        event = self._brood.nursery.listen(template)
        if event is not None:
            self._step(event)

    def _take(self, pid: int, death: Death) -> Worker | None:
        """Return the worker that has ended; None when it was a template, or nobody of ours."""
        template = self._brood.nursery.take(pid)
        if template is not None:
            self._step(TemplateEnded(template.number, death))
            return None
        if self._lookout.ended(pid, death, self._kernel.now()):
            return None
        ended = self._kin.ended(pid, death) or self._statuses.ended(pid, death)
        if ended is not None:
            self._step(ended)
            return None
        worker = self._brood.take(pid)
        if worker is None:
            for unnamed in self._brood.unnamed():  # it may have said its pid before it died
                self._listen(unnamed)
            worker = self._brood.take(pid)
        if worker is None:
            self._log.debug("process %d, no worker, ended: %s", pid, death)
        return worker

    def _reap(self) -> None:
        for pid, death in self._kernel.reap():
            worker = self._take(pid, death)
            if worker is None:
                continue
            self._listen(worker)  # its last words
            template = self._brood.nursery.take(pid)
            if template is not None:  # that it was one
                self._step(TemplateEnded(template.number, death))
                continue
            child = self._fleet.children.get(worker.serial)
            self._inquests.bury(worker, expected=child is None or child.state not in SERVING | MEMBERS)
            self._brood.forget(worker, self._server)
            run_hook(worker.generation.hooks, "child_exit", self._log, self._server, worker.facade)
            self._step(Reaped(worker.serial, death))

    # ------------------------------------------------------------ what the operator asks for

    def _obey(self, command: Command) -> None:
        match command:
            case Command.STOP:
                self._step(Stop())
            case Command.QUIT:
                self._step(Stop(quick=True))
            case Command.RELOAD:
                self.reload()
            case Command.REOPEN:
                self._reopen("SIGUSR1")
                self._kin.tell_reopen()  # whose pid the operator may not know
            case Command.MORE:
                self._step(Resize(1))
            case Command.FEWER:
                self._step(Resize(-1))
            case Command.PARK if self.present.settings.daemon or self._fleet.kinship.has_ready:
                self._step(Park())
            case Command.PARK:
                self._log.debug("SIGWINCH ignored: this is no daemon, so it may be a resized terminal")
            case Command.UPGRADE:
                self._step(Upgrade())
            case Command.REAP:
                pass  # done on every turn

    def reload(self) -> int | str:
        """Begin a reload.

        Returns:
            The number of the new generation; or why there is none, and everything stays as it was.
        """
        if self._fleet.is_going:
            self._log.warning("reload refused: the server is stopping")
            return "the server is stopping"
        self._notices.reloading(self._fleet, self._kernel.now())
        new = self._succession.follow()
        if isinstance(new, str):
            self._notices.refused(new)
            return new
        run_hook(new.hooks, "on_reload", self._log, self._server)
        self._step(Reload(new.number, new.policy))
        return new.number

    def _reopen(self, why: str) -> None:
        for generation in self.generations:
            generation.logs.reopen()
        self._log.info("log files opened again (%s)", why)
        for template in self._brood.nursery:
            self._kernel.kill(template.pid, signal.SIGUSR1)
        for worker in self._brood:
            self._brood.kill(worker.serial, signal.SIGUSR1)

    # ------------------------------------------------------------ what the machine decides

    def tell(self, event: Event) -> None:
        """Tell the machine what the operator wants, and do what it answers.

        Args:
            event: what that is.
        """
        self._step(event)

    def _step(self, event: Event) -> None:
        """Tell the machine what happened, and do what it answers, and so on."""
        events = [event]
        while events:
            for action in self._machine.step(events.pop(0), self._kernel.now()):
                answer = self._try(action)
                if answer is not None:
                    events.append(answer)

    def _try(self, action: Action) -> Event | None:
        """Do one thing; whatever goes wrong, the others are done too."""
        try:
            return self._act(action)
        except Exception as error:  # noqa: BLE001 -- the same
            self._log.exception("error in the arbiter, doing %r: going on", action)
            if isinstance(action, StartSuccessor):
                return SuccessorFailed(repr(error))
            return failure(action, error)

    def _act(self, action: Action) -> Event | None:
        match action:
            case Spawn() | Send() | Explain() | Abort() | Kill():
                return self._deeds.to_worker(action)
            case Promote() | StartTemplate() | StopTemplate() | AbortTemplate() | KillTemplate():
                return self._deeds.to_template(action)
            case StartStatus() | StopStatus() | KillStatus():
                return self._deeds.to_status(action)
            case StartSuccessor():
                generation, kin = self.present, self._kin
                handed = [*generation.listeners, *generation.status_listeners]
                hook = generation.hooks.pre_exec
                return kin.start(self._machine, handed, self._activated, hook, self._server, self._inbox)
            case Say(level, text):
                self._log.log(level, text)
            case Exit(code):
                self._exit_code = code
            case _:
                self._announce(action)
        return None

    def _announce(self, action: Action) -> None:
        """Do what the machine wants done about the server as a whole."""
        match action:
            case Serving():
                self._notices.serving()
                self._started()
                run_hook(self.present.hooks, "when_ready", self._log, self._server)
            case Stopping():
                if not self._fleet.kinship.has_ready:
                    self._notices.stopping()
                self._kin.tell_leaving()
                for worker in self._brood:
                    worker.slot.part()
            case StopSuccessor(quick):
                self._kin.end_successor(signal.SIGQUIT if quick else signal.SIGTERM)
            case KillSuccessor():
                self._kin.end_successor(signal.SIGKILL)
            case TellReady():
                self._kin.tell_ready()
            case TakeOver():
                self._take_over()
            case StopQueueing():
                self._succession.stop_queueing()
            case Resized(new, old):
                self._server.num_workers = new
                run_hook(self.present.hooks, "nworkers_changed", self._log, self._server, new, old)
            case Reloaded():
                self._succession.leave_removed_listeners()
            case RolledBack(_, to):
                self._succession.return_to(to)
            case Gone(number):
                self._succession.release(number)

    def show_stacks(self, serial: int, then: Callable[[str, str], None]) -> bool:
        """Have a worker show its stacks.

        Args:
            serial: which child.
            then: is told about a second later at most: what the worker has in hand, and its stacks.

        Returns:
            False when there is no such child.
        """
        worker = self._brood.get(serial)
        if worker is not None:
            self._inquests.ask(worker, "at this moment", Reason.OPERATOR.value, then=then)
        return worker is not None

    def _take_over(self) -> None:
        """Be the server, in place of a predecessor that has gone or waits for this."""
        self._promote()
        self._kin.let_go()
        self._notices.take_over(self._fleet)

    # ------------------------------------------------------------ what is shown

    def _count_workers(self) -> None:
        """Tell the statsd server how many workers serve, if that has changed."""
        serving = len(self._fleet.children.among(*SERVING))
        if serving != self._serving and self.present.logs.statsd is not None:
            self._serving = serving
            self.present.logs.statsd.gauge("workers", serving)

    def _show_title(self) -> None:
        fleet = self._fleet
        serving = len(fleet.children.among(*SERVING))
        state = f"{fleet.mode.value}, {serving} of {fleet.target} workers"
        if fleet.rollout is not None:
            state = f"reloading, generation {fleet.generation}, {serving} workers"
        if state != self._title:
            self._title = state
            identity.set_title("arbiter", self.present.name, state)
