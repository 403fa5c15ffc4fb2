# SPDX-License-Identifier: MIT
"""The life of a worker process, from the fork to its exit status.

Decides the order of things in a fresh worker, which signal means what there, and what a failed boot
looks like. Knows nothing of how requests are served; that is the worker class's business.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ExitCode
from prefork.process import identity, signals, stacks, suspended
from prefork.process.scoreboard import Stage
from prefork.worker import StopReason
from prefork.workers import booting
from prefork.workers.context import WorkerContext

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from types import FrameType

    from prefork.autoreload.imported import Imported
    from prefork.hooks import Hooks
    from prefork.net.listener import Listener
    from prefork.observe.log import Logs
    from prefork.process.scoreboard import Slot
    from prefork.settings import Settings
    from prefork.worker import Worker

    Handler = Callable[[int, FrameType | None], Any]

ABORTED: Final = 1
"""Exit status of a worker that was told to abort (gunicorn's)."""

_NOT_MEANT: Final = (signal.SIGHUP, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2)
"""What a terminal, or `systemctl kill`, sends to all processes but means for the arbiter."""


class _StoppedInBoot(BaseException):
    """Ends an import in the middle. No Exception, which a careless import would catch."""


class Child:
    """One worker process.

    Args:
        settings: the resolved settings.
        hooks: those of the configuration.
        server: what hooks are given as `server`.
        worker: what hooks are given as `worker`.
        slot: its part of the scoreboard.
        siblings: returns those of the other workers that serve now.
        channel: its end of the channel to the arbiter.
        stacks: the descriptor where it shows its stacks.
        listeners: what it accepts from.
        logs: both logs.
        worker_type: the class that serves.
        imported: where to say which files are imported; None when nobody watches files.
        application: what a template has loaded; None to load it here.
        promote: told, when the worker has drained, over which line it gets orders as a template. Else never.
        arbiter: pid of the arbiter; None when it is the parent.
    """

    def __init__(  # noqa: PLR0913 (each is another seam)
        self,
        *,
        settings: Settings,
        hooks: Hooks,
        server: Any,
        worker: Any,
        slot: Slot,
        siblings: Callable[[], list[Slot]],
        channel: socket.socket,
        stacks: int,
        listeners: Sequence[Listener],
        logs: Logs,
        worker_type: type[Worker],
        imported: Imported | None = None,
        application: Callable[..., Any] | None = None,
        promote: Callable[[socket.socket], None] | None = None,
        arbiter: int | None = None,
    ) -> None:
        self._settings = settings
        self._hooks = hooks
        self._server = server
        self._worker = worker
        self._slot = slot
        self._siblings = siblings
        self._channel = channel
        self._stacks = stacks
        self._listeners = listeners
        self._logs = logs
        self._type = worker_type
        self._imported = imported
        self._application = application
        self._promote = promote
        self._arbiter = os.getppid() if arbiter is None else arbiter
        self._context: WorkerContext | None = None
        self._booting = True
        self._is_stopped = False
        """Whether it was told to end while it booted."""

    def run(self) -> int:
        """Live; return the exit status."""
        try:
            return self._live()
        finally:
            self._booting = False
            self._run_hook("worker_exit", self._server, self._worker)

    def _live(self) -> int:
        try:
            self._install_handlers()
            context = self._boot()
        except _StoppedInBoot:
            return ExitCode.OK
        except (Exception, SystemExit) as error:  # noqa: BLE001 (hooks, plugin code, the application)
            self._booting = False
            # An import may have made this of what was raised to end it.
            return ExitCode.OK if self._is_stopped else booting.failed(error, self._logs, "worker")
        if self._is_stopped:
            return ExitCode.OK  # and the import has caught even that
        try:
            self._type().run(context)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (plugin code)
            if self._slot.stage is Stage.BOOTING:
                # An event loop may have started an application of its own way, which has failed.
                return booting.failed(error, self._logs, "worker")
            self._logs.error.exception("the worker crashed")
            return ExitCode.CRASH
        line = context.promotion()
        if line is not None and self._promote is not None:
            self._promote(line)
        return ExitCode.OK

    def _boot(self) -> WorkerContext:
        settings = self._settings
        # What comes from the arbiter is no garbage, and looking for some would copy each of its pages.
        gc.freeze()
        identity.set_title("worker", settings.proc_name or settings.wsgi_app or "", "booting")
        if settings.capture_output:
            self._logs.capture_output()
        if self._hooks.post_fork is not None:
            self._hooks.post_fork(self._server, self._worker)
        application = self._application or booting.load(settings, self._type, self._imported)
        self._worker.booted = True
        if self._hooks.post_worker_init is not None:
            self._hooks.post_worker_init(self._worker)
        self._context = WorkerContext(
            app=application,
            settings=settings,
            hooks=self._hooks,
            facade=self._worker,
            slot=self._slot,
            siblings=self._siblings,
            end=self._channel,
            shared=self._listeners,
            logs=self._logs,
            arbiter=self._arbiter,
        )
        return self._context

    # Signals

    def _install_handlers(self) -> None:
        # Where PYTHONFAULTHANDLER is set it is enabled already, and enabling it again below would not put it
        # before the handlers that come in between.
        faulthandler.disable()
        handlers: dict[signal.Signals, Handler] = {
            signal.SIGTERM: self._on_term,
            signal.SIGINT: self._on_int,
            signal.SIGQUIT: self._on_int,
            signal.SIGUSR1: self._on_usr1,
            signal.SIGABRT: self._on_abort,
        }
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if signals.take_unheard():
            self._logs.reopen()
        for number in _NOT_MEANT:
            # Not SIG_IGN: programs that the application starts would ignore them too.
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        stacks.show_on_signals(self._stacks, main_calls=self._settings.threads == 1, more=self._suspended)

    def _suspended(self) -> str:
        """Return the stacks of what waits in no thread."""
        if self._context is None:
            return ""
        try:
            return suspended.shown(self._context.waiting())
        except Exception as error:  # noqa: BLE001 (plugin code, wherever the signal has found it)
            return f"\nwhat waits cannot be shown: {error!r}\n"

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        """Systemd and others send TERM to all processes at once: then the queue must be taken too."""
        self._stop(StopReason.DRAIN)

    def _on_int(self, _number: int, _frame: FrameType | None) -> None:
        self._run_hook("worker_int", self._worker)
        self._stop(StopReason.QUICK)

    def _stop(self, reason: StopReason) -> None:
        if self._context is not None:
            self._context.order(reason)
        elif self._booting:
            self._is_stopped = True
            raise _StoppedInBoot  # nobody is served here yet

    def _on_usr1(self, _number: int, _frame: FrameType | None) -> None:
        self._logs.reopen()

    def _on_abort(self, _number: int, _frame: FrameType | None) -> None:
        """The arbiter has given this worker up; what is left is to say what it was doing."""
        self._worker.aborted = True
        stacks.show(self._stacks, self._suspended())
        self._run_hook("worker_abort", self._worker)
        if self._context is not None:
            self._context.on_abort()
        os._exit(ABORTED)

    def _run_hook(self, name: str, *arguments: object) -> None:
        """Run a hook that must not change what happens next."""
        hook = getattr(self._hooks, name)
        if hook is None:
            return
        try:
            hook(*arguments)
        except Exception:  # noqa: BLE001 (a hook call)
            self._logs.error.exception("error in the hook %s", name)


def run(**inherited: Any) -> int:
    """Be a worker: see `Child` for the arguments.

    Returns:
        The exit status: 0; 1 when aborted; 3 when the boot failed, 4 when the application was not found, both
        logged.
    """
    return Child(**inherited).run()
