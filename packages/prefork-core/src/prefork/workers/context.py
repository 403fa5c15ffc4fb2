# SPDX-License-Identifier: MIT
"""What a running worker is given: `prefork.worker.Context`, and what `workers.loop` has on top of it."""

from __future__ import annotations

import os
import threading
from functools import cached_property, partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from prefork.errors import ConfigError
from prefork.http.forwarded import ForwardPolicy
from prefork.net.listener import stop_queueing
from prefork.net.stream import block
from prefork.process import channel, identity
from prefork.process.scoreboard import Stage
from prefork.supervisor.messages import Report
from prefork.worker import StopReason
from prefork.workers.alone import Alone
from prefork.workers.blocking import Blocking
from prefork.workers.exchanges import Exchanges
from prefork.workers.greens import Greens
from prefork.workers.ledger import Ledger
from prefork.workers.reception import Reception
from prefork.workers.threads import Threads
from prefork.wsgi.application import Application
from prefork.wsgi.queueing import Queueing
from prefork.wsgi.requesthooks import RequestHooks
from prefork.wsgi.serve import Service
from prefork.wsgi.takeover import Takeovers

if TYPE_CHECKING:
    import logging
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from prefork.hooks import Hooks
    from prefork.net.listener import Listener
    from prefork.net.stream import Wait
    from prefork.observe.log import Logs
    from prefork.process.scoreboard import Slot
    from prefork.settings import Settings
    from prefork.worker import Accepted, Greenlets
    from prefork.workers.exchanges import Exchange


class WorkerContext:
    """The context of one worker process; see `prefork.worker.Context` for what is public of it.

    Args:
        app: the loaded application.
        settings: the resolved settings.
        hooks: those of the configuration.
        facade: what hooks are given as `worker`.
        slot: the worker's part of the scoreboard.
        siblings: returns those of the other workers that serve now.
        end: its end of the channel to the arbiter.
        shared: the listeners.
        logs: both logs.
        arbiter: pid of the arbiter.

    Attributes:
        on_abort: called when the worker is about to be killed for a timeout.
        waiting: returns what waits in no thread, see `show_waiting`.
        is_told: whether an order to stop was read, by whoever has asked `stopping`. `stop_fd` is not readable
            any more then.
    """

    def __init__(  # noqa: PLR0913 (each is another seam)
        self,
        *,
        app: Any,
        settings: Settings,
        hooks: Hooks,
        facade: object,
        slot: Slot,
        siblings: Callable[[], list[Slot]],
        end: socket.socket,
        shared: Sequence[Listener],
        logs: Logs,
        arbiter: int,
    ) -> None:
        self.app = app
        self.settings = settings
        self.slot = slot
        self.siblings = siblings
        self.shared = shared
        self._hooks = hooks
        self._facade = facade
        self._end = end
        self._logs = logs
        self._arbiter = arbiter
        self._stopping: StopReason | None = None
        self._ordered: StopReason | None = None
        self._line: socket.socket | None = None
        self._kept: list[socket.socket] = []
        self._deadline = 0.0
        self._shedding = threading.Lock()
        self._blocking: Blocking | None = None
        self.on_abort: Callable[[], None] = lambda: None
        self.waiting: Callable[[], Iterable[tuple[str, object]]] = tuple
        self.is_told = False

    @property
    def log(self) -> logging.Logger:
        """The error log."""
        return self._logs.error

    @property
    def listeners(self) -> Sequence[socket.socket]:
        """The shared listening sockets."""
        return [listener.sock for listener in self.shared]

    def show_waiting(self, waiting: Callable[[], Iterable[tuple[str, object]]]) -> None:
        """See `prefork.worker.Context`."""
        self.waiting = waiting

    @property
    def stop_fd(self) -> int:
        """Readable when the worker must stop."""
        return self._end.fileno()

    @property
    def stopping(self) -> StopReason | None:
        """Why the worker must stop; reads the order if one has come."""
        if self._ordered is not None:
            self._keep(None)
            self._begin_stop(self._ordered)
            self._ordered = None
        elif self._stopping is not StopReason.QUICK:
            told = channel.read_order(self._end)
            if told is not None:
                self._keep(told.line)
                self._begin_stop(told.order.reason)
        return self._stopping

    @property
    def is_to_fork(self) -> bool:
        """Whether the worker is to be a template when it has drained."""
        return self._line is not None

    def _keep(self, line: socket.socket | None) -> None:
        """Note over which line this process is to get orders as a template; None when it is to be none.

        Each order replaces the one before. A worker closes its listeners when it leaves, so copies are kept
        for those that it will fork.
        """
        for sock in (*self._kept, *([] if self._line is None else [self._line])):
            sock.close()
        self._line, self._kept = line, []
        if line is None:
            return
        try:
            for listener in self.shared:
                self._kept.append(listener.sock.dup())
        except OSError as error:
            self.log.warning("cannot become the template: %s", error.strerror)
            self._keep(None)

    def promotion(self) -> socket.socket | None:
        """Return the line over which this process, which has drained, gets orders as a template.

        The listeners are open again then. None when it is to be no template.
        """
        line, self._line = self._line, None
        if line is not None:
            for listener, sock in zip(self.shared, self._kept, strict=True):
                listener.sock = sock
        return line

    def _begin_stop(self, reason: StopReason) -> None:
        self.is_told = True
        if self._stopping is None:
            self._deadline = monotonic() + (self.settings.graceful_timeout or inf)
            self.slot.stage = Stage.STOPPING
            if channel.arbiter_is_gone(self._end):
                self._arbiter_died()
        if self._stopping is None or reason is StopReason.QUICK:
            self._stopping = reason

    def _arbiter_died(self) -> None:
        """Nobody else is left to keep new connections out while the queue runs dry."""
        self.log.error("the arbiter (pid %d) is gone: finishing what is queued, then leaving", self._arbiter)
        for listener in self.shared:
            # A sibling may have been first: a Unix listener that it has shut is already closed here.
            if listener.sock.fileno() >= 0:
                stop_queueing(listener)

    def order(self, reason: StopReason) -> None:
        """Order the stop from inside the process, as its signal handlers do."""
        self._ordered = reason
        channel.hang_up(self._end)

    def time_left(self) -> float:
        """Return the seconds left of `graceful_timeout` since the stop began, infinity for no limit."""
        return max(self._deadline - monotonic(), 0.0)

    def ready(self) -> None:
        """Tell the arbiter that connections are accepted from now on."""
        self.slot.stage = Stage.READY
        identity.set_title("worker", self.settings.proc_name or self.settings.wsgi_app or "")
        channel.report(self._end, Report.READY)

    def _count_shed(self) -> None:
        with self._shedding:
            self.slot.count_shed()

    def _milestones(self) -> dict[int, Callable[[], object]]:
        """Return what the arbiter is told, by how many requests are served then."""
        settings = self.settings
        reports = {
            settings.refork: Report.WARM,
            _with_jitter(settings.max_requests, settings.max_requests_jitter): Report.RETIRE,
        }
        return {
            count: partial(channel.report, self._end, report) for count, report in reports.items() if count
        }

    def service(self, *, keepalive: float, takeovers: Takeovers | None = None, wait: Wait = block) -> Service:
        """Return the application as something that connections can be served with.

        Args:
            keepalive: seconds that a connection may be idle between requests, 0 to close after each response.
            takeovers: has the connections that the application takes over; None for one that needs to be
                told of a stop.
            wait: how the application waits for a client.

        Raises:
            ConfigError: the settings about proxies contradict themselves.
        """
        settings = self.settings
        forward = self.forward
        access = self._logs.access
        queueing = Queueing(
            settings.queue_timeout,
            always=access is not None and access.shows_queue,
            forward=forward,
            log=self.log,
            count=self._count_shed,
        )
        hooks, takeovers = self.request_hooks, takeovers or Takeovers()
        application = Application(self.app, forward, hooks, takeovers, sendfile=settings.sendfile)
        return Service(
            application.answer,
            settings,
            queueing,
            self.log,
            access,
            hooks,
            takeovers,
            keepalive=keepalive,
            milestones=self._milestones(),
            wait=wait,
        )

    @cached_property
    def forward(self) -> ForwardPolicy:
        """What proxies may say.

        Raises:
            ConfigError: the settings about proxies contradict themselves.
        """
        settings = self.settings
        try:
            return ForwardPolicy(
                settings.forwarded_allow_ips,
                settings.secure_scheme_headers,
                settings.forwarder_headers,
                settings.header_map,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def reception(self) -> Reception:
        """See `prefork.worker.Context`."""
        ledger = Ledger(self.slot, self._logs.access, self._milestones())
        reception = Reception(self, ledger, self.forward)
        self.on_abort = reception.aborted
        return reception

    def exchanges(self, answer: Callable[[Exchange], object], soon: Callable[[float], object]) -> Exchanges:
        """See `prefork.worker.Context`."""
        exchanges = Exchanges(self, answer, soon)
        self.on_abort = exchanges.aborted
        return exchanges

    def accept(self) -> Accepted | None:
        """See `prefork.worker.Context`."""
        if self._blocking is None:
            self._blocking = Blocking(self)
            self.on_abort = self._blocking.aborted
            self._blocking.begin()
        return self._blocking.accept()

    def serve_one_by_one(self) -> None:
        """See `prefork.worker.Context`."""
        self._serve(Alone(self, self.service(keepalive=0.0, takeovers=Takeovers(self.stop_fd))))

    def serve_in_threads(self) -> None:
        """See `prefork.worker.Context`."""
        self._serve(Threads(self, self.service(keepalive=self.settings.keepalive)))

    def serve_in_greenlets(self, greenlets: Greenlets) -> None:
        """See `prefork.worker.Context`."""
        self._serve(Greens(self, greenlets))

    def _serve(self, servant: Alone | Threads | Greens) -> None:
        self.on_abort = servant.aborted
        servant.run()

    @property
    def request_hooks(self) -> RequestHooks | None:
        """What runs the hooks of each request, None when there are none."""
        hooks = self._hooks
        if hooks.pre_request is None and hooks.post_request is None:
            return None
        return RequestHooks(self._facade, hooks.pre_request, hooks.post_request, self.log)


def _with_jitter(limit: int, jitter: int) -> int:
    """Return the request limit of this worker, so that not all are replaced at the same moment."""
    if not limit or not jitter:
        return limit
    return limit + int.from_bytes(os.urandom(4), "big") % (jitter + 1)
