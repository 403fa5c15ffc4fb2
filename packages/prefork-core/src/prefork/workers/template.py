# SPDX-License-Identifier: MIT
"""The life of a template: it loads the application once, and forks the workers of its generation.

Decides what happens before the first fork, what makes a fork unsafe, and how a worker becomes the arbiter's
child, or, when it has answered many requests, the next template. Knows nothing of how many workers there
are, nor of what they do.

A template has nothing in hand that could be lost, so it leaves without a word when its line ends.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from prefork.errors import ExitCode
from prefork.process import channel, forkable, heap, identity, immortal, lineage, signals, stacks, template
from prefork.supervisor.messages import Report
from prefork.worker import Interface
from prefork.workers import booting
from prefork.wsgi import warmup

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import TypeAlias

    from prefork.observe.log import Logs
    from prefork.process.template import Fork
    from prefork.settings import Settings
    from prefork.worker import Worker

    Application: TypeAlias = Callable[..., Any]
    Promote: TypeAlias = Callable[[socket.socket], None]
    Live: TypeAlias = Callable[[Fork, Application, Promote], int]

_NOT_MEANT: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
)
"""What a terminal, or `systemctl kill`, sends to all processes but means for the arbiter."""
_MOST_NAMED: Final = 8
_PATIENCE: Final = 0.5
"""Seconds in which the kernel must have forgotten a thread that has ended."""


class Template:
    """One template process.

    Args:
        settings: the resolved settings.
        line: its end of the line to the arbiter.
        logs: both logs.
        worker_type: the class that will serve.
        fork: forks; returns the child's pid, or 0 in the child.
        live: the life of a worker that has been forked, given its order, the application, and whom to tell
            the line of the template that it is to become; returns its exit status.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        line: socket.socket,
        logs: Logs,
        worker_type: type[Worker],
        fork: Callable[[], int],
        live: Live,
    ) -> None:
        self._settings = settings
        self._line = line
        self._logs = logs
        self._type = worker_type
        self._fork = fork
        self._live = live

    def run(self) -> int:
        """Live; only a worker returns, with its exit status."""
        try:
            self._install_handlers()
            application = self._boot()
            order = self._serve()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (an application may raise anything)
            _leave(booting.failed(error, self._logs, "template"))
        while True:
            if order is None:
                _leave(ExitCode.OK)
            before = forkable.shared() if self._settings.refork else frozenset()
            lines: list[socket.socket] = []
            status = self._live(order, application, lines.append)
            if not lines or not self._can_fork(before, lines[0]):
                return status
            order = self._be_next(order, lines[0])

    # From a worker to a template

    def _can_fork(self, before: frozenset[forkable.Shared], line: socket.socket) -> bool:
        """Say whether this process, which was a worker, can fork others; if not, log why.

        Args:
            before: what was open when the worker began.
            line: its line to the arbiter.
        """
        gc.collect()  # what is only open because nobody has looked yet
        names = _wait_for_threads()
        opened = [found for found in forkable.shared_since(before) if found.number != line.fileno()]
        found = [f"threads: {_list(names)}"] if names else []
        if opened:
            found.append(f"open: {_list(map(forkable.describe, opened))}")
        if found:
            self._logs.error.warning(
                "this worker cannot be the template, because no fork can carry over what it has left behind;"
                " %s (refork; close that in the hook worker_exit)",
                "; ".join(found),
            )
        return not found

    def _be_next(self, order: Fork, line: socket.socket) -> Fork | None:
        """Be a template from now on; return as `_serve`.

        Args:
            order: the one by which this process was made, as a worker.
            line: to the arbiter.
        """
        with signals.held():
            stacks.show_no_more()
            self._install_handlers()
            self._line = line
        self._settle()
        channel.report(order.channel, Report.TEMPLATE)
        order.close()
        return self._serve()

    # Loading

    def _settle(self) -> None:
        """Get ready to be copied."""
        # What is alive now stays: nobody will look at it again, and so write to its pages.
        gc.collect()
        immortal.make_immortal()
        heap.fill_gaps()
        gc.freeze()
        identity.set_title("template", self._settings.proc_name or self._settings.wsgi_app or "")

    def _boot(self) -> Callable[..., Any]:
        settings = self._settings
        name = settings.proc_name or settings.wsgi_app or ""
        identity.set_title("template", name, "booting")
        if settings.capture_output:
            self._logs.capture_output()
        before = forkable.shared()
        # An import does not see that the line has ended. Twice, because a change of the user undoes it.
        lineage.end_with_parent(signal.SIGTERM)
        application = booting.load(settings, self._type)
        lineage.end_with_parent(signal.SIGTERM)
        for target in settings.warmup if self._type.interface is Interface.WSGI else ():
            warmup.request(application, target, self._logs.error, os.environ.get("SCRIPT_NAME", ""))
        self._warn(before)
        self._settle()
        template.say_ready(self._line)
        return application

    def _warn(self, before: frozenset[forkable.Shared]) -> None:
        """Name what the application has opened or started that no fork can carry over."""
        warn = self._logs.error.warning
        if names := forkable.threads():
            warn(
                "the application has started threads while it was loaded, which no worker will have: %s"
                " (preload_app; start them in the hook post_worker_init)",
                _list(names),
            )
        if opened := forkable.shared_since(before):
            warn(
                "the application has opened what all workers will share while it was loaded: %s"
                " (preload_app; open them in the hook post_worker_init, or at the first use)",
                _list(map(forkable.describe, opened)),
            )

    # Forks

    def _serve(self) -> Fork | None:
        """Fork what is ordered; return the order in a worker, and None when the template is to end."""
        while (order := template.next_order(self._line)) is not None:
            if not order.is_late and self._fork_worker(order):
                return order
            order.close()
        return None

    def _fork_worker(self, order: Fork) -> bool:
        """Fork a worker that is the arbiter's child, and not this process's; return True in it."""
        with signals.held():
            try:
                middle = self._fork()
            except OSError as error:
                self._logs.error.error("cannot fork a worker: %s", error.strerror)
                return False
            if middle == 0:
                _fork_and_leave()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the worker has a handler of its own
                # Before anything can crash, so that the arbiter knows its children.
                channel.say_pid(order.channel)
                self._line.close()
                return True
        if trouble := _wait(middle):
            self._logs.error.error("cannot fork a worker: %s", os.strerror(trouble))
        return False

    # Signals

    def _install_handlers(self) -> None:
        for number in _NOT_MEANT:
            # Not SIG_IGN: programs that the application starts would ignore them too.
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, self._on_usr1)
        if signals.take_unheard():
            self._logs.reopen()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The arbiter sends SIGABRT when loading takes too long. A worker had a handler of its own.
        faulthandler.disable()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        faulthandler.enable(file=self._logs.error_fileno(), all_threads=True)

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        # Not an exception: it could come while this process is leaving already, or be caught by an import.
        _leave(ExitCode.OK)

    def _on_usr1(self, _number: int, _frame: FrameType | None) -> None:
        self._logs.reopen()


def _fork_and_leave() -> None:
    """Fork once more, and end; only the child goes on, which is an orphan then, and so the arbiter's."""
    try:
        pid = os.fork()
    except OSError as error:
        os._exit(error.errno or 1)
    if pid != 0:
        os._exit(0)


def _wait(middle: int) -> int:
    """Wait for a process that ends at once; return its exit status."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(middle, 0)[1])
    except ChildProcessError:
        return 0  # an application that ignores SIGCHLD


def _wait_for_threads() -> list[str]:
    """Return the names of threads that do not end; one that is over is known to the kernel for a moment."""
    until = time.monotonic() + _PATIENCE
    while (names := forkable.threads()) and time.monotonic() < until:
        time.sleep(0.005)
    return names


def _leave(code: int) -> NoReturn:
    """End without the exit handlers of the application: they belong to the workers, which may still serve."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError, RuntimeError):
            continue  # closed, its reader is gone, or SIGTERM came during another flush
    os._exit(code)


def _list(names: Iterable[str]) -> str:
    """Return names for a sentence, and how many more there are."""
    every = list(names)
    more = len(every) - _MOST_NAMED
    return ", ".join(every[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def run(**inherited: Any) -> int:
    """Be a template: see `Template` for the arguments.

    The exit status is 0; 3 when the application could not be loaded, 4 when it was not found, both logged.

    Returns:
        The exit status of a worker that has been forked.
    """
    return Template(**inherited).run()
