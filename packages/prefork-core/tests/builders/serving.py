# SPDX-License-Identifier: MIT
"""A worker's loop over real sockets: in a thread of the test, or in a process of its own.

The thread shares its application with the test, so that one sees what the application sees. The
process is for what belongs to a process: limits, signals, the arbiter's death.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

import setproctitle
from deadlines import PATIENCE, eventually
from raw_client import Client

from prefork.hooks import Hooks
from prefork.net.listener import open_listener, parse_bind
from prefork.observe.log import open_logs
from prefork.process import channel
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.settings import Settings
from prefork.supervisor.messages import Order, Report
from prefork.workers.alone import Alone
from prefork.workers.context import WorkerContext
from prefork.workers.greens import Greens
from prefork.workers.threads import Threads
from prefork.wsgi.takeover import Takeovers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from prefork.worker import Worker as WorkerClass

ACCESS_FORMAT: Final = "%(O)s %(s)s %(B)s %(r)s"


class Worker:
    """What a worker is made of, with its listener open: the part that thread and process share.

    Args:
        app: the application.
        folder: where logs and sockets go.
        keepalive: seconds that a connection may be idle between requests, 0 to close after each response.
        hooks: of the configuration.
        settings: what differs from the defaults, which are one bind to a free port, and a log of each kind.
        at_once: how many requests there may be in hand at once, 0 for one in each thread.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        folder: Path,
        *,
        keepalive: float = 0.0,
        hooks: Hooks | None = None,
        settings: Mapping[str, Any] | None = None,
        at_once: int = 0,
    ) -> None:
        defaults: dict[str, Any] = {
            "bind": ("127.0.0.1:0",),
            "workers": 1,
            "errorlog": str(folder / "error.log"),
            "accesslog": str(folder / "access.log"),
            "access_log_format": ACCESS_FORMAT,
        }
        self.app = app
        self.folder = folder
        self.keepalive = keepalive
        self.hooks = hooks or Hooks()
        self.settings = Settings(**{**defaults, **(settings or {})})
        self.listeners = [
            open_listener(parse_bind(bind), self.settings.backlog, self.settings.unix_socket_mode)
            for bind in self.settings.bind
        ]
        self.address = self.listeners[0].sock.getsockname()
        self.slot = Scoreboard(1).slot(0)
        self.slot.clear(1, Stage.BOOTING, at_once or self.settings.threads)
        self.arbiter, self.end = channel.make()
        self.words: list[Report] = []
        self.logs = open_logs(self.settings)

    def make_context(self, arbiter: int) -> WorkerContext:
        """Return what a worker class is given.

        Args:
            arbiter: whom the worker takes for its arbiter.
        """
        return WorkerContext(
            app=self.app,
            settings=self.settings,
            hooks=self.hooks,
            facade=self,
            slot=self.slot,
            siblings=list,
            end=self.end,
            shared=self.listeners,
            logs=self.logs,
            arbiter=arbiter,
        )

    def make_loop(self, arbiter: int) -> Alone | Threads | Greens:
        """Return what serves, as a worker class makes it.

        Args:
            arbiter: whom the worker takes for its arbiter.
        """
        context = self.make_context(arbiter)
        alone = self.settings.threads == 1
        takeovers = Takeovers(context.stop_fd) if alone else None
        service = context.service(keepalive=self.keepalive, takeovers=takeovers)
        serves = Alone(context, service) if alone else Threads(context, service)
        context.on_abort = serves.aborted
        return serves

    def client(self, receive_buffer: int = 0) -> Client:
        """Return a new connection to the first listener."""
        return Client(self.address, receive_buffer)

    def order(self, order: Order) -> None:
        """Say a word as the arbiter."""
        self.arbiter.send(order)

    def heard(self, report: Report) -> int:
        """Return how often the worker has said a word to the arbiter."""
        try:
            self.words += self.arbiter.receive()
        except (channel.Hangup, OSError):
            pass
        return self.words.count(report)

    def access(self, count: int) -> list[str]:
        """Return the lines of the access log, once there are so many."""
        eventually(lambda: len(self._lines("access.log")) >= count)
        return self._lines("access.log")

    def errors(self) -> str:
        """Return the error log."""
        return (self.folder / "error.log").read_text()

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


class Serving(Worker):
    """A worker in a thread of the test; use it in a `with`, which ends it."""

    def __enter__(self) -> Self:
        self._title = setproctitle.getproctitle()
        self._crash: BaseException | None = None
        self._loop = self.make_loop(os.getppid())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        eventually(lambda: self.heard(Report.READY))
        setproctitle.setproctitle(self._title)  # it is the test's process, not a worker's
        return self

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:  # noqa: BLE001 (shown by the test's thread)
            self._crash = error

    @property
    def running(self) -> bool:
        """Whether the worker has not ended yet."""
        return self._thread.is_alive()

    def ended(self) -> None:
        """Wait for the worker's end."""
        self._thread.join(PATIENCE)
        assert not self.running, "the worker did not stop"
        if self._crash is not None:
            raise self._crash

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.order(Order.QUICK)
        try:
            if kind is None:
                self.ended()
        finally:
            for listener in self.listeners:
                listener.close(unlink=True)
            self.end.close()
            self.arbiter.close()
            self.logs.close()


class Forked:
    """A process of its own; use it in a `with`, which kills it if need be.

    Args:
        life: what it does; returns its exit status.
    """

    def __init__(self, life: Callable[[], int]) -> None:
        self._life = life
        self._status: int | None = None

    def __enter__(self) -> Self:
        self.pid = os.fork()
        if self.pid == 0:
            self._live()
        return self

    def _live(self) -> None:
        status = 99
        try:
            status = self._life()
        except BaseException:  # noqa: BLE001 (a child must never run on as a second pytest)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._reap()

    def _reap(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is not None

    def status(self) -> int:
        """Wait for its end; return its exit status, negative for a signal."""
        eventually(self._reap)
        assert self._status is not None
        return self._status

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._reap():
            self.signal(signal.SIGKILL)
            self.status()


class Living:
    """A worker class that serves in a process of its own; use it in a `with`.

    Args:
        parts: what it serves with.
        kind: the class.
        begins: whether it becomes ready by itself, which is waited for.
    """

    def __init__(self, parts: Worker, kind: type[WorkerClass], *, begins: bool = True) -> None:
        self.parts = parts
        self._kind = kind
        self._begins = begins
        self._process = Forked(self._live)

    def _live(self) -> int:
        self.parts.arbiter.close()
        self._kind().run(self.parts.make_context(os.getppid()))
        return 0

    def __enter__(self) -> Self:
        self._process.__enter__()
        self.parts.end.close()
        eventually(lambda: not self._begins or self.parts.slot.stage is Stage.READY)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def status(self) -> int:
        """Wait for its end; return its exit status."""
        return self._process.status()

    def leaves(self, order: Order) -> bool:
        """Order the end; say whether it comes."""
        self.parts.order(order)
        return self.status() == 0
