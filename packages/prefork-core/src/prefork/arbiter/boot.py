# SPDX-License-Identifier: MIT
"""Starting and ending a server, as named steps.

It decides their order, and what of them is undone when one fails. All that can be wrong is
found out before the first fork. What happens while the server runs is `arbiter.loop`.
"""

from __future__ import annotations

import errno
import os
import platform
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from prefork import __version__
from prefork.arbiter import generation as generations
from prefork.arbiter.facade import ServerFacade, run_hook
from prefork.arbiter.generation import Generation
from prefork.arbiter.loop import Loop
from prefork.arbiter.notices import Notices
from prefork.arbiter.upgrade import BESIDE, Kin
from prefork.errors import ConfigError, ExitCode, PreforkError
from prefork.net.listener import Family, adopt
from prefork.observe.log import open_logs
from prefork.process import handover, patching, relaunch, signals, systemd
from prefork.process.daemon import Starter, daemonize
from prefork.process.kernel import Unix
from prefork.process.pidfile import Pidfile
from prefork.process.scoreboard import Scoreboard
from prefork.process.signals import Inbox
from prefork.settings import idle, load
from prefork.workers import child, registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefork.arbiter.brood import Entry
    from prefork.arbiter.control import Control
    from prefork.arbiter.loop import Outcome
    from prefork.net.listener import Listener
    from prefork.observe.log import Logs
    from prefork.process.identity import Owner
    from prefork.process.kernel import Kernel
    from prefork.settings import Loaded, Settings
    from prefork.worker import Worker

TRIES: Final = 5
"""To listen on an address that another process still has: after a kill -9 of the arbiter its
workers finish what they have in hand."""
WAIT: Final = 1.0
"""Seconds between two of them."""
_OF_THIS_PROCESS: Final = frozenset(
    {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
"""Variables that mean nothing to another process."""
_ACTIVATED: Final = MappingProxyType({"bind": "systemd has opened the listening sockets"})
"""Settings that have no effect then, and why."""


def serve(
    loaded: Loaded,
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    entry: Entry = child.run,
    kernel: Kernel | None = None,
) -> int:
    """Run a server until it ends. In a worker process this returns too, when the worker ends.

    Args:
        loaded: the settings.
        argv: what they were loaded from, to load them again on SIGHUP.
        environ: the same.
        entry: what a worker process does.
        kernel: the operating system; None is the one that we run on.

    Returns:
        The exit code of this process.

    Raises:
        ConfigError: the server could not be started, and nothing of it is left.
    """
    boot = Boot(loaded, argv, environ, entry, kernel or Unix())
    try:
        outcome = boot.run()
    except BaseException as error:
        boot.fail(error)
        raise
    if not isinstance(outcome, int):
        try:
            return outcome()  # this is a worker; what is to be cleaned up is the arbiter's
        finally:
            signals.ignore()
    boot.end(outcome)
    return outcome


class Boot:
    """One start of a server, and its end.

    Args:
        loaded: the settings.
        argv: what they were loaded from.
        environ: the same.
        entry: what a worker process does.
        kernel: the operating system.
    """

    def __init__(
        self,
        loaded: Loaded,
        argv: Sequence[str],
        environ: Mapping[str, str],
        entry: Entry,
        kernel: Kernel,
    ) -> None:
        self._loaded = loaded
        self._kernel = kernel
        self._argv = list(argv)
        self._environ = dict(environ)
        self._entry = entry
        self._start = start_folder(environ)
        self._kin: Kin | None = None
        self._starter: Starter | None = None
        self._pidfile: Pidfile | None = None
        self._logs: Logs | None = None
        self._opened: list[Listener] = []
        self._inherited: Sequence[Listener] = ()
        self._server: ServerFacade | None = None
        self._inbox: Inbox | None = None
        self._control: Control | None = None
        self._notices: Notices
        self._loop: Loop | None = None

    def run(self) -> Outcome:
        """Start the server and run it.

        Returns:
            The exit code; in a worker process, its life.

        Raises:
            ConfigError: a step failed.
        """
        settings = self._loaded.settings
        descriptors = systemd.take_descriptors(os.environ, os.getpid())
        manager = systemd.Manager(os.environ, os.getpid())
        kin = self._kin = self._meet_predecessor(manager)
        self._notices = Notices(manager, waits=bool(kin.predecessor))
        checked = generations.check(settings)
        folder = generations.enter_folder(settings, self._start)
        if settings.umask is not None:
            os.umask(settings.umask)
        self._hold_pidfile(settings, kin)
        if not kin.predecessor:  # which is one already, and waits for this very process
            self._become_daemon(settings)
        logs = self._logs = open_logs(settings, checked.owner)
        _warn(logs, self._loaded, checked.worker_type)
        self._write_pidfile(logs)
        first = Generation(
            1,
            settings,
            self._loaded.hooks,
            folder,
            checked.worker_type,
            checked.workers,
            (),
            logs,
            self._loaded.origins,
            generations.imported(settings),
            generations.preloads(settings, logs.error),
        )
        server = self._server = ServerFacade(settings, logs.error, os.getpid(), first.name)
        server.num_workers = checked.workers.workers
        self._say_starting(first)
        self._run_on_starting(first, server)
        bound, probed = self._listen(settings, checked.owner, descriptors, kin)
        first = replace(first, listeners=bound, status_listeners=probed)
        server.address = [listener.sock.getsockname() for listener in first.listeners]
        self._say_listening(first)
        self._open_control(first, kin)
        return self._make_loop(first, server, kin).run()

    # ------------------------------------------------------------ the steps

    def _meet_predecessor(self, manager: systemd.Manager) -> Kin:
        """Learn how this process can be started again, and what an arbiter before it has left."""
        before = handover.take(os.environ, os.getpid())
        environ = {name: value for name, value in self._environ.items() if name not in _OF_THIS_PROCESS}
        launch = relaunch.of_this_process(self._start, {**environ, **manager.for_successor()})
        return Kin(self._kernel, launch, before)

    def _hold_pidfile(self, settings: Settings, kin: Kin) -> None:
        """Lock it before anything else that a second server could disturb."""
        if settings.pidfile is not None:
            self._pidfile = Pidfile(settings.pidfile + (BESIDE if kin.predecessor else ""))

    def _become_daemon(self, settings: Settings) -> None:
        if not settings.daemon:
            return
        try:
            self._starter = daemonize()
        except OSError as error:
            raise ConfigError(f"cannot go into the background: {error.strerror}") from error

    def _write_pidfile(self, logs: Logs) -> None:
        if self._pidfile is None:
            return
        if self._pidfile.stale is not None:
            logs.error.warning(
                "pidfile %s was left by a server that did not end in peace (pid %d): taken over",
                self._pidfile.path,
                self._pidfile.stale,
            )
        self._pidfile.write(os.getpid())

    def _run_on_starting(self, first: Generation, server: ServerFacade) -> None:
        if first.hooks.on_starting is None:
            return
        try:
            first.hooks.on_starting(server)
        except Exception as error:
            server.log.exception("error in the hook on_starting")
            raise ConfigError(f"the hook on_starting failed: {error!r}") from error

    def _listen(
        self, settings: Settings, owner: Owner | None, descriptors: Sequence[int], kin: Kin
    ) -> tuple[Sequence[Listener], Sequence[Listener]]:
        """Return the listeners of the application, and those of the status process."""
        handed, activated = kin.listeners(settings.backlog)
        if descriptors:
            activated = [adopt(fd, settings.backlog) for fd in descriptors]
        self._opened += activated
        self._inherited = activated
        if activated and self._logs is not None:
            _say(self._logs, idle.without_effect(_ACTIVATED, settings, self._loaded.origins))
        bound = activated or self._open(settings.bind, settings, owner, handed)
        probed = self._open(settings.status_bind, settings, owner, handed)
        kin.keep([*bound, *probed])
        return bound, probed

    def _open(
        self, texts: Sequence[str], settings: Settings, owner: Owner | None, handed: Sequence[Listener]
    ) -> Sequence[Listener]:
        for tries_left in reversed(range(TRIES)):
            try:
                opened = generations.open_listeners(texts, settings, owner, handed)
                self._opened += opened
                return opened
            except ConfigError as error:
                in_use = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
                if not in_use or tries_left == 0:
                    raise
                self._log_error(f"{error.message}: trying again")
                time.sleep(WAIT)
        raise AssertionError("the last try returns or raises")

    def _open_control(self, first: Generation, kin: Kin) -> None:
        path = first.settings.control_socket
        if path is None:
            return
        path += BESIDE if kin.predecessor else ""
        # Imported here: few servers have one, and it needs json.
        from prefork.arbiter.control import MODE, open_control

        self._control = open_control(path)
        first.logs.error.info("control socket %s (mode %o)", path, MODE)

    def _make_loop(self, first: Generation, server: ServerFacade, kin: Kin) -> Loop:
        self._inbox = Inbox()
        self._loop = Loop(
            kernel=self._kernel,
            board=Scoreboard(),
            inbox=self._inbox,
            first=first,
            follow=self._follow,
            server=server,
            entry=self._entry,
            drop=self._drop,
            notices=self._notices,
            started=self._say_started,
            control=self._control,
            kin=kin,
            activated=self._inherited,
            promote=self._promote,
        )
        return self._loop

    # ------------------------------------------------------------ what the loop calls

    def _follow(self, old: Generation, number: int) -> Generation:
        """Make the next generation out of all sources of settings, read again."""
        with patching.refused():
            loaded = load(self._argv, self._environ, self._start, registry.contributions)
        new = generations.follow(old, loaded, number, self._start, self._inherited)
        _warn(new.logs, loaded, new.worker_type)
        return new

    def _drop(self) -> None:
        """Close in a child what only the arbiter may hold."""
        if self._pidfile is not None:
            self._pidfile.close_in_child()
        if self._starter is not None:
            self._starter.close()
        if self._control is not None:
            self._control.close_in_child()
        if self._kin is not None:
            self._kin.close_in_child()

    def _promote(self) -> None:
        """Take the predecessor's place at its paths."""
        kin = self._kin
        assert kin is not None
        kin.await_end()
        try:
            if self._pidfile is not None:
                self._pidfile.move(self._pidfile.path.removesuffix(BESIDE), in_use=kin.is_linked)
            if self._control is not None:
                self._control.move(BESIDE, in_use=kin.is_linked)
        except PreforkError as error:
            self._log_error(f"cannot take the predecessor's place: {error}")

    def _say_started(self) -> None:
        """Let the command return that has started a daemon."""
        if self._starter is not None:
            self._starter.tell(0)

    # ------------------------------------------------------------ lines of the log

    def _say_starting(self, first: Generation) -> None:
        first.logs.error.info(
            "prefork %s on Python %s, pid %d: %d %s workers (%s)",
            __version__,
            platform.python_version(),
            os.getpid(),
            first.workers.workers,
            registry.chosen(first.settings.worker_class, first.settings.threads),
            first.workers.why,
        )

    def _say_listening(self, first: Generation) -> None:
        for listener in first.listeners:
            address = listener.address
            detail = " (inherited)" if address.family is Family.FD or listener.is_held else ""
            if address.family is Family.UNIX and not address.host.startswith("\0") and not detail:
                detail = f" (mode {first.settings.unix_socket_mode:o})"
            first.logs.error.info("listening on %s%s", listener.url, detail)
        for listener in first.status_listeners:
            first.logs.error.info("status on %s", listener.url)

    def _log_error(self, text: str) -> None:
        if self._logs is not None:
            self._logs.error.error("%s", text)

    # ------------------------------------------------------------ the end

    def end(self, code: int) -> None:
        """Leave nothing behind.

        Args:
            code: what the server exits with.
        """
        server, loop = self._server, self._loop
        if server is None or loop is None:
            return
        server.log.info("stopped: exit code %d", code)
        run_hook(loop.generations[-1].hooks, "on_exit", server.log, server)
        self._step_down(loop, code)
        if self._starter is not None:
            self._starter.tell(code, "prefork: error: no worker could boot, see errorlog\n" if code else "")
        for generation in loop.generations:
            generations.close_listeners((*generation.listeners, *generation.status_listeners))
        self._let_go()
        for generation in loop.generations:
            generation.logs.close()
        if self._control is not None:
            self._control.farewell(code, self._kernel.now())

    def _step_down(self, loop: Loop, code: int) -> None:
        """Give this one's place to a successor; or say why there is none for a predecessor."""
        kin, kinship = self._kin, loop.fleet.kinship
        if kin is None:
            return
        if code:
            kin.tell_failed("no worker could boot, see its error log")
        if kinship.has_ready:
            # Only now: a successor that ends before it is the main process does not end the service.
            self._notices.hand_over(kinship.other)
            kin.step_down()

    def fail(self, error: BaseException) -> None:
        """Undo the steps before the one that failed.

        Args:
            error: why; it is told where the start was asked for, and in the error log if that is elsewhere.
        """
        code = error.exit_code if isinstance(error, PreforkError) else ExitCode.CRASH
        if self._logs is not None and self._loaded.settings.errorlog != "-":
            self._log_error(f"could not start: {error}")
        if self._kin is not None:
            self._kin.tell_failed(error.message if isinstance(error, PreforkError) else repr(error))
        if self._starter is not None:
            self._starter.tell(code, f"prefork: error: {error}\n")
        generations.close_listeners(self._opened)
        self._let_go()
        if self._logs is not None:
            self._logs.close()

    def _let_go(self) -> None:
        if self._inbox is not None:
            self._inbox.close()
        if self._control is not None:
            self._control.shut()
        if self._pidfile is not None:
            self._pidfile.remove()


def _warn(logs: Logs, loaded: Loaded, worker: type[Worker]) -> None:
    notices = (worker.notice,) if worker.notice else ()
    _say(logs, (*loaded.warnings, *registry.without_effect(worker, loaded), *notices))


def _say(logs: Logs, warnings: Iterable[str]) -> None:
    for warning in warnings:
        logs.error.warning("%s", warning)


def start_folder(environ: Mapping[str, str]) -> str:
    """Return the folder that the server was started in, with the symbolic links that led there.

    A deploy that moves a link such as `current` means the next reload to follow it.

    Args:
        environ: PWD is read; a shell sets it.
    """
    real = os.getcwd()
    shown = environ.get("PWD", "")
    try:
        return shown if shown and os.path.samefile(shown, real) else real
    except OSError:
        return real
