# SPDX-License-Identifier: MIT
"""The arbiter before this one, and the one after it: how an upgrade (USR2) is done.

It decides what a successor inherits, what is said to the other arbiter and what is made of its words.
What follows from them is `supervisor.kinship`. Both arbiters have the listeners meanwhile; each of
those is `held` then, which keeps this server from ending it for the other.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from prefork.errors import ExitCode
from prefork.net.listener import take_over
from prefork.process import handover, signals
from prefork.process.handover import Handed, Handover, Hangup, Staffing, Word
from prefork.supervisor.messages import (
    OtherLeaves,
    PredecessorGone,
    SuccessorEnded,
    SuccessorFailed,
    SuccessorForked,
    SuccessorReady,
)

if TYPE_CHECKING:
    import selectors
    import signal
    from collections.abc import Callable, Iterable, Sequence

    from prefork.arbiter.facade import ServerFacade
    from prefork.hooks import ServerHook
    from prefork.net.listener import Listener
    from prefork.process.handover import Link
    from prefork.process.kernel import Kernel
    from prefork.process.relaunch import Launch
    from prefork.process.signals import Inbox
    from prefork.supervisor.machine import Machine
    from prefork.supervisor.messages import Death, Event, Policy

BESIDE: Final = ".2"
"""What the paths of a successor's pidfile and control socket have at their end while it is not alone."""
ANSWER: Final = 2.0
"""Seconds that an arbiter which has nothing left to do waits for its successor to take its place."""

_MOMENT: Final = 0.002
_READ: Final = 1
"""selectors.EVENT_READ."""


class Kin:
    """The other arbiter, as this one has it.

    Args:
        kernel: the operating system.
        launch: how this arbiter was started.
        before: what a predecessor has left; None when there is none.
    """

    def __init__(self, kernel: Kernel, launch: Launch, before: Handover | None) -> None:
        self._kernel = kernel
        self._launch = launch
        self._before = before
        self._forked_by = 0 if before is None else before.predecessor
        self._link: Link | None = None if before is None else handover.end_of(before)
        self._selector: selectors.BaseSelector | None = None
        self._reopen: Callable[[], None] = _nothing
        self._successor = 0
        self._shared: list[Listener] = []
        """What the other one takes connections from, too."""
        self._why = ""
        """What a successor that fails has said."""

    @property
    def predecessor(self) -> int:
        """Pid of the arbiter that this one is to succeed; 0 when there is none."""
        return 0 if self._before is None else self._before.predecessor

    # ------------------------------------------------------------ as a successor that starts

    def listeners(self, backlog: int) -> tuple[list[Listener], list[Listener]]:
        """Take over what is handed on.

        Args:
            backlog: connections that the kernel may queue.

        Returns:
            All listeners, and those of them that are from systemd, which stand in for `bind`.

        Raises:
            ConfigError: one is no listener.
        """
        if self._before is None:
            return [], []
        activated = []
        for handed in self._before.listeners:
            listener = take_over(handed.fd, handed.bind, handed.inode, backlog)
            listener.hold(held=True)
            self._shared.append(listener)
            if handed.activated:
                activated.append(listener)
        return list(self._shared), activated

    def keep(self, used: Sequence[Listener]) -> None:
        """Close what was handed on and is not used, and let the predecessor know the rest.

        Args:
            used: all listeners of this server.
        """
        for listener in self._shared:
            if listener not in used:
                listener.sock.close()
        self._shared = [listener for listener in self._shared if listener in used]
        self._say(Word.KEEPS, " ".join(str(listener.sock.fileno()) for listener in self._shared))

    def moved(self, policy: Policy) -> int:
        """Return by how many an operator has moved the number of workers, unless the settings have since.

        Args:
            policy: of this arbiter's settings.
        """
        if self._before is None:
            return 0
        was = self._before.staffing
        same = (was.workers, was.least, was.most) == (policy.workers, policy.min_workers, policy.max_workers)
        return was.moved if same else 0

    def await_end(self) -> None:
        """Wait until a predecessor whose link has ended is dead, and so has let go of all else that it had.

        That is a moment: it is among the last things that the kernel does for a process.
        """
        deadline = time.monotonic() + ANSWER
        while not self.is_linked and os.getppid() == self._forked_by and time.monotonic() < deadline:
            time.sleep(_MOMENT)

    def tell_ready(self) -> None:
        """Tell the predecessor that this one has all its workers ready."""
        self._say(Word.READY)

    def tell_failed(self, why: str) -> None:
        """Tell the predecessor, if there is one, why this one ends."""
        if self._before is not None:
            self._say(Word.FAILED, why)

    # ------------------------------------------------------------ as one that starts a successor

    def start(
        self,
        machine: Machine,
        listeners: Iterable[Listener],
        activated: Sequence[Listener],
        hook: ServerHook | None,
        server: ServerFacade,
        inbox: Inbox,
    ) -> Event:
        """Start a successor: the program that this arbiter was, as it is there now.

        Args:
            machine: has the number of workers.
            listeners: all that this server has.
            activated: those of them that are from systemd.
            hook: is run in the new process before it becomes the successor: pre_exec.
            server: what the hook is given.
            inbox: the arbiter's signals.

        Returns:
            `SuccessorForked` or `SuccessorFailed`.
        """
        if os.getpid() == 1:
            return SuccessorFailed("this is process 1, and its container would end with it")
        try:
            ours, theirs = handover.make()
        except OSError as error:
            return SuccessorFailed(f"no descriptors are left: {error.strerror}")
        handed = [
            Handed(each.sock.fileno(), str(each.address), each.inode, each in activated) for each in listeners
        ]
        left = Handover(os.getpid(), 0, theirs.fileno(), tuple(handed), _staffing(machine))
        try:
            with signals.held():
                pid = self._kernel.fork()
                if pid == 0:
                    _or_die(partial(inbox.leave_to_child, executes=True))
        except OSError as error:
            ours.close()
            theirs.close()
            return SuccessorFailed(f"cannot fork: {error.strerror}")
        if pid == 0:
            _become(self._launch, left, hook, server)
        theirs.close()
        self._link, self._successor, self._why = ours, pid, ""
        self._shared = list(listeners)
        self._hold(held=True)
        self._listen_to(ours)
        return SuccessorForked(pid)

    def end_successor(self, number: signal.Signals) -> None:
        """Send the successor a signal; from now on this server's listeners are its own.

        Args:
            number: which signal.
        """
        if self._successor:
            self._kernel.kill(self._successor, number)
        self._hold(held=False)

    def ended(self, pid: int, death: Death) -> Event | None:
        """Return what it means that a process was reaped; None when it was not the successor.

        Args:
            pid: its.
            death: how it ended.
        """
        if pid != self._successor:
            return None
        self.hear()  # why it has failed; that it has ended says all else
        self.let_go()
        self._successor = 0
        return SuccessorEnded(f"{death}: {self._why}" if self._why else str(death))

    def step_down(self, seconds: float = ANSWER) -> None:
        """Have the successor take this one's place, as the last thing that this one does.

        Args:
            seconds: how long to wait for that.
        """
        if self._link is not None:
            self._say(Word.GOING)
            self._link.wait_end(seconds)

    # ------------------------------------------------------------ as either

    def attach(self, selector: selectors.BaseSelector, reopen: Callable[[], None]) -> None:
        """Begin to listen to the other one.

        Args:
            selector: the arbiter's; the link is registered with this object.
            reopen: opens this one's log files again.
        """
        self._selector = selector
        self._reopen = reopen
        if self._link is not None:
            self._listen_to(self._link)

    def hear(self) -> list[Event]:
        """Return what the words of the other one mean."""
        if self._link is None:
            return []
        events: list[Event] = []
        try:
            for word, text in self._link.hear():
                events += self._understand(word, text)
        except Hangup:
            if self._successor:
                self._close_link()  # how it has ended is told when it is reaped
            else:
                self.let_go()
                events.append(PredecessorGone())
        return events

    def _understand(self, word: Word, text: str) -> list[Event]:
        match word:
            case Word.READY:
                return [SuccessorReady()]
            case Word.KEEPS:
                kept = text.split()
                for listener in self._shared:
                    listener.hold(held=str(listener.sock.fileno()) in kept)
            case Word.FAILED:
                self._why = text
            case Word.LEAVING:
                self._hold(held=False)
                return [OtherLeaves()]
            case Word.GOING:
                return [PredecessorGone()]
            case Word.REOPEN:
                self._reopen()
        return []

    def tell_leaving(self) -> None:
        """Tell the other one that this one has begun to stop."""
        self._say(Word.LEAVING)

    def tell_reopen(self) -> None:
        """Tell the other one that log files were moved away. One that starts hears it when it can."""
        self._say(Word.REOPEN)

    @property
    def is_linked(self) -> bool:
        """Whether the other one can still be told something."""
        return self._link is not None

    def let_go(self) -> None:
        """Be without the other one from now on: it has gone, or waits for this to go."""
        self._hold(held=False)
        self._shared = []
        self._before = None
        self._close_link()

    def close_in_child(self) -> None:
        """Close the descriptor after a fork. A copy would hide the end of this arbiter from the other one."""
        if self._link is not None:
            self._link.close()

    def _close_link(self) -> None:
        if self._link is None:
            return
        if self._selector is not None:
            self._selector.unregister(self._link)
        self._link.close()
        self._link = None

    def _hold(self, *, held: bool) -> None:
        for listener in self._shared:
            listener.hold(held=held)

    def _listen_to(self, link: Link) -> None:
        if self._selector is not None:
            self._selector.register(link, _READ, self)

    def _say(self, word: Word, text: str = "") -> None:
        if self._link is not None:
            self._link.say(word, text)


def _nothing() -> None:
    """Do nothing."""


def _staffing(machine: Machine) -> Staffing:
    policy = machine.fleet.policy
    return Staffing(policy.workers, policy.min_workers, policy.max_workers, machine.moved)


def _or_die(step: Callable[[], None]) -> None:
    """Do something in a child that must not run on as a second arbiter when it fails."""
    try:
        step()
    except BaseException:  # noqa: BLE001 -- the same
        traceback.print_exc()
        os._exit(ExitCode.CRASH)


def _become(launch: Launch, left: Handover, hook: ServerHook | None, server: ServerFacade) -> NoReturn:
    """Be the successor: another program from now on. Without it this process is nothing."""
    doing = "the hook pre_exec failed"
    try:
        if hook is not None:
            hook(server)
        sys.stdout.flush()
        doing = f"cannot execute {launch.argv[0]}"
        descriptors = [left.link, *(handed.fd for handed in left.listeners)]
        launch.again({handover.VARIABLE: handover.render(left._replace(successor=os.getpid()))}, descriptors)
    except BaseException as error:  # noqa: BLE001 -- no child may ever run on as a second arbiter
        handover.end_of(left).say(Word.FAILED, f"{doing}: {error!r}")
        os._exit(ExitCode.CRASH)
