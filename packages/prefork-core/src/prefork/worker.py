# SPDX-License-Identifier: MIT
"""The worker plugin API, version 1: what a worker class is, and all it may use.

A worker is a class named by an entry point of the group `prefork.workers`. The module
that the entry point names is imported in the arbiter (for `settings` and `api`), so it
must not import its event loop at the top: do that in `prepare` or `run`, which only ever
run in the worker process.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

from prefork.settings import kinds
from prefork.settings.option import Group
from prefork.settings.option import option as declare

if TYPE_CHECKING:
    import logging
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import BinaryIO

    from prefork.http import Request
    from prefork.http.forwarded import Forwarded
    from prefork.settings import Settings
    from prefork.settings.kinds import Kind

__all__ = [
    "API_VERSION",
    "Accepted",
    "Arrival",
    "Context",
    "Exchange",
    "Exchanges",
    "Greenlets",
    "Group",
    "Interface",
    "Reception",
    "Record",
    "StopReason",
    "Worker",
    "kinds",
    "no_gil",
    "option",
]

API_VERSION: Final = 1
"""The version of all that is here. Within it names are added; none is taken away or changes its meaning."""

T = TypeVar("T")


def option(kind: Kind[T], default: T, *, help: str) -> T:  # noqa: A002 (as in prefork's own table)
    """Declare one option of a worker class, as a field of the frozen dataclass that is its `settings`.

    The field's name is the option's, so `aio_loop` is also the flag `--aio-loop` and the variable
    `PREFORK_AIO_LOOP`. Begin it with the name of the worker class: a name that prefork or another installed
    worker class has makes the class unusable. Worker classes may share options by inheritance of dataclasses.

    Args:
        kind: how its values are read, from `kinds`.
        default: its value when nothing gives one.
        help: what it does, one or more sentences, unit included.

    Returns:
        A dataclass field (typed as the default, as `dataclasses.field` is).
    """
    return declare("", kind, default, help=help)


def no_gil(library: str) -> str | None:
    """Return why a library that needs the GIL cannot be used in this Python, None when it can.

    For `Worker.lacks`: a library that switches stacks or keeps state in C may do harm without it.

    Args:
        library: how to call it.
    """
    has_gil = getattr(sys, "_is_gil_enabled", None)  # since Python 3.13
    if has_gil is None or has_gil():
        return None
    return f"this Python runs without the GIL, which {library} needs (PYTHON_GIL=1, or a build that has it)"


class Interface(Enum):
    """The kind of application that a worker serves."""

    WSGI = "wsgi"
    """WSGI (PEP 3333). prefork refuses what is no such application, and can warm one up."""
    OTHER = "other"
    """Any other. The worker says which applications it refuses: `Worker.refuses`."""


class StopReason(Enum):
    """Why a worker is to stop, and so what becomes of connections still in the queue."""

    DRAIN = "drain"
    """The server stops: take everything the kernel has queued, then finish."""
    LEAVE = "leave"
    """Another worker takes over: stop accepting at once, finish what is running."""
    QUICK = "quick"
    """Drop everything."""


class Greenlets(Protocol):
    """A library of greenlets, as far as prefork has to know it."""

    def defer(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call a function in a greenlet of its own, as soon as the calling greenlet waits for something.

        Args:
            call: the function. It lets no exception out.

        Returns:
            What takes that back; without effect once the calling greenlet has waited.
        """

    def pause(self) -> None:
        """Let the other greenlets run that can."""

    def wait(self, fd: int, timeout: float, *, to_write: bool) -> bool:
        """Let other greenlets run until a descriptor is ready.

        Args:
            fd: the descriptor. No other greenlet waits for it at the same time.
            timeout: seconds, infinity for no limit.
            to_write: wait until it can be written; else until it can be read.

        Returns:
            False when it was not ready in time.
        """

    def waits_for(self, fd: int) -> Callable[[float], object]:
        """Return a quick way to wait for the same descriptor again and again.

        Args:
            fd: the descriptor. One greenlet waits for it at a time, but not always the same.

        Returns:
            A function of a timeout in seconds. It returns when the descriptor can be read, at the timeout, or
            a little earlier. Others run meanwhile, also when the timeout is 0.
        """

    def current(self) -> Any:
        """Return the calling greenlet; while it waits, its `gr_frame` is where."""

    def offered(self, sock: socket.socket) -> Mapping[str, object]:
        """Return more entries for the environ of a request that asks for an upgrade.

        Args:
            sock: what the application may take its connection over with; in the environ it is called
                `prefork.socket` and `gunicorn.socket` already.
        """


class Accepted(Protocol):
    """A connection that the worker has taken."""

    def serve(self) -> None:
        """Serve the WSGI application on it, request after request, until it is closed; to be called once.

        The calling thread waits for the client and for the application. Limits of time, the access log,
        hooks, counters and the end of idle connections when the worker stops are seen to.
        """


class Record(Protocol):
    """A request in hand, of a worker that has an HTTP of its own: for the scoreboard and the access log."""

    def waiting(self, *, to_write: bool) -> None:
        """Say that the request waits for its client, whose time is not counted for `request_timeout`.

        Args:
            to_write: whether for it to take bytes; else to send some.
        """

    def progress(self) -> None:
        """Say that it waits no more."""

    def taken(self) -> None:
        """Say that the connection speaks another protocol from now on, for as long as it likes."""

    def end(
        self, status: int, sent: int, fields: Iterable[tuple[str, str]] = (), *, outcome: str = "ok"
    ) -> None:
        """Say that it is over, which counts it and writes its line of the access log; to be called once.

        Args:
            status: the status sent, 0 for none.
            sent: bytes of the response's body that were sent.
            fields: names and values of the response's fields.
            outcome: as the access log has it: "ok", "rejected", "aborted", "timeout" or "error".
        """


class Arrival(Protocol):
    """A connection that a worker with an HTTP of its own has got."""

    @property
    def sock(self) -> socket.socket:
        """The connected socket, in blocking mode, which event loops change. The worker closes it."""

    @property
    def address(self) -> str:
        """The IP address of the peer, "" on a Unix socket."""

    @property
    def port(self) -> int:
        """The port of the peer, 0 on a Unix socket."""

    def when_late(self, close: Callable[[], object]) -> None:
        """Say how the connection is closed when its time is up: idle for too long, or half a head.

        Args:
            close: the function; it may be called again as long as `closed` was not. Without it the socket is
                shut for reading, so that its reader finds the end of it.
        """

    def began(self) -> None:
        """Say that a part of a head has come: from now on `header_timeout` runs.

        May be left out when the head is whole already: then `request` is called soon.
        """

    def request(self, method: str, target: str, version: str, fields: Iterable[tuple[str, str]]) -> Record:
        """Say that the head of a request has come. One request at a time: the one before has ended.

        Args:
            method: of the request line.
            target: of the request line, as received.
            version: of the request line, "HTTP/1.1".
            fields: names and values, as received; looked at as late as when the request ends.
        """

    def forwarded(self, fields: Iterable[tuple[str, str]]) -> Forwarded:
        """Return what a trusted proxy says of a request; of anybody else nothing is believed.

        Args:
            fields: names and values, as received.

        Raises:
            ProtocolError: the fields contradict each other, or one of them is to be refused.
        """

    def closed(self) -> None:
        """Say that the socket is closed."""


class Reception(Protocol):
    """New connections for a worker with an event loop, by the rules that hold for every worker.

    No method waits. `keepalive`, `header_timeout` and the end of idle connections when the worker stops are
    seen to, if the worker says what happens on each connection: see `Arrival`.
    """

    @property
    def fd(self) -> int:
        """A descriptor that is readable while `turn` has something to do, to be watched by the event loop."""

    def begin(self) -> None:
        """Take connections from now on. Says `Context.ready`."""

    def turn(self) -> Sequence[Arrival]:
        """Do what there is to do; return the new connections.

        To be called when `fd` is readable, and `within` seconds after the last call at the latest: also
        before `begin`, since the worker may be told to stop while its application starts. If it is not
        called the worker counts as blocked, and is killed after `timeout`.
        """

    @property
    def within(self) -> float:
        """Seconds after which `turn` is to be called again at the latest."""

    @property
    def keeps(self) -> bool:
        """Whether connections stay open after a response; else it announces its end."""

    @property
    def ended(self) -> bool:
        """Whether the worker has drained, or its time is up: then `run` is to return. Ask after each turn."""

    def close(self) -> None:
        """Close all listeners and connections: the last that a worker does."""


class Exchange(Protocol):
    """A request and its response, over prefork's HTTP, for a worker with an event loop.

    No method waits. Where one would have to, `wake` is called when it need not any more.
    """

    wake: Callable[[], object]
    """To be set by the worker: called when `read` has something, when the client is no longer behind, and
    when it is gone. It may be called for no reason, and calls no method of the exchange itself."""

    @property
    def request(self) -> Request:
        """The head of the request."""

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other end of the connection, "" and 0 on a Unix socket."""

    @property
    def server(self) -> tuple[str, int] | None:
        """Host and port of the listener; None on a Unix socket."""

    def forwarded(self) -> Forwarded:
        """Return what a trusted proxy says of the request; of anybody else nothing is believed.

        Raises:
            ProtocolError: the fields contradict each other, or one of them is to be refused: see `fail`.
        """

    def client(self) -> str:
        """Return the address of the client: of the peer, or as trusted proxies say in X-Forwarded-For.

        It is "" when only a Unix socket is known of it.
        """

    def extend_deadline(self, seconds: float) -> None:
        """Say that the request may take so long from now on, whatever `request_timeout` is.

        Raises:
            ValueError: that is no time.
        """

    @property
    def is_gone(self) -> bool:
        """Whether the client sends no more, or has gone away; noticed when it happens."""

    def read(self, limit: int = 65536) -> bytes | None:
        """Return bytes of the request's body, b"" at its end, None when none have arrived yet.

        Args:
            limit: return so many at most.

        Raises:
            ClientDisconnected: an OSError; the client went away, stalled or broke its body.
        """

    def start(self, status: str, fields: list[tuple[str, str]], /) -> object:
        """Begin the response; it goes out with the first bytes of body.

        Args:
            status: "200 OK".
            fields: names and values of latin-1 characters.

        Raises:
            ValueError, TypeError: status or fields break the rules.
            AssertionError: it has begun already.
        """

    def close_afterwards(self) -> None:
        """Close the connection after the response, and announce that in it."""

    def write(self, data: bytes) -> None:
        """Send bytes of body, however many. Should not be called while the client `is_behind`.

        Args:
            data: the bytes; b"" sends the head, if it is not out yet.

        Raises:
            ClientDisconnected: an OSError; the client went away, or takes the response too slowly.
            AssertionError: the response was not begun.
        """

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the client that the application should too, until `wake` is called."""

    def finish(self, data: bytes = b"") -> None:
        """End the response, and with it the exchange.

        Args:
            data: the last bytes of body. If they are all, they go out with the head in one write.

        Raises:
            As `write`.
        """

    def finish_with_file(self, file: BinaryIO) -> None:
        """Send what is left of a file as the whole body, and end the exchange; the file is closed later.

        A regular file is sent by sendfile(2), however long it is. Any other is read here.

        Raises:
            OSError: the client went away, or the file cannot be read. The exchange has failed with it.
        """

    def fail(self, error: BaseException) -> None:
        """Give the exchange up, because the application has raised, or its request is to be refused.

        Args:
            error: the reason. A `ProtocolError` is answered with its status, and all else, if the client is
                still there, logged and answered with 500. A response that has begun visibly breaks off.
        """

    def take_over(self) -> tuple[socket.socket, bytes]:
        """Take the connection, to speak another protocol on it.

        Returns:
            The connected socket, non-blocking and the caller's, who closes it and then calls `left`; and what
            has arrived behind the request.

        Raises:
            RuntimeError: the response has begun.
        """

    def left(self, error: BaseException | None = None) -> None:
        """Say that a connection that was taken over is closed, which ends the exchange.

        Args:
            error: what the application has raised on it, to be logged; None for nothing.
        """


class Exchanges(Protocol):
    """Requests for a worker with an event loop, over prefork's HTTP.

    No method waits. All deadlines, the access log, hooks, counters and the end of connections when the worker
    stops are seen to. What an application does after its response is not waited for.
    """

    @property
    def fd(self) -> int:
        """A descriptor that is readable while `turn` has something to do, to be watched by the event loop."""

    def begin(self) -> None:
        """Take connections from now on. Says `Context.ready`."""

    def turn(self) -> None:
        """Do what there is to do.

        To be called when `fd` is readable, and `within` seconds after the last call at the latest: also
        before `begin`, since the worker may be told to stop while its application starts. If it is not
        called the worker counts as blocked, and is killed after `timeout`.
        """

    @property
    def within(self) -> float:
        """Seconds after which `turn` is to be called again at the latest."""

    @property
    def stops(self) -> bool:
        """Whether the worker has been told to stop. It costs no call, unlike `Context.stopping`."""

    @property
    def ended(self) -> bool:
        """Whether the worker has drained, or its time is up: then `run` is to return. Ask after each turn."""

    def close(self) -> None:
        """Close all listeners and connections: the last that a worker does."""


class Context(Protocol):
    """What prefork gives a worker. Nothing outside of this protocol is promised."""

    @property
    def app(self) -> Any:
        """The loaded application."""

    @property
    def settings(self) -> Settings:
        """The resolved settings, frozen; `settings.of` has the worker's own."""

    @property
    def log(self) -> logging.Logger:
        """The error log."""

    @property
    def listeners(self) -> Sequence[socket.socket]:
        """Bound, listening, non-blocking sockets shared with every other worker."""

    @property
    def stop_fd(self) -> int:
        """A descriptor that becomes readable when the worker must stop."""

    @property
    def stopping(self) -> StopReason | None:
        """Why the worker must stop, or None while it is to serve on."""

    def time_left(self) -> float:
        """Return the seconds left of `graceful_timeout` since the stop began."""

    def ready(self) -> None:
        """Say that the application is loaded and connections can be accepted."""

    def show_waiting(self, waiting: Callable[[], Iterable[tuple[str, object]]]) -> None:
        """Say how to find what waits in no thread: greenlets and tasks.

        The stacks of threads are shown without it when a request is stuck or slow, or an operator asks. In a
        loop they only show that it waits.

        Args:
            waiting: called in a signal handler, between two steps of whatever the main thread does. Returns,
                the oldest first, a name for each, such as its request line, and its frame, its coroutine or
                its asyncio task.
        """

    def accept(self) -> Accepted | None:
        """Wait for a connection, for a worker that serves each in a thread of its own.

        To be called by one thread again and again, as soon as the connection before has its own thread.
        Connections are taken by the rules that hold for every worker: no more than `worker_connections`, and
        at a stop what the kernel has queued. Says `ready` itself.

        Returns:
            The connection, whose `serve` is to be called. None when the worker has drained, which means that
            all connections are closed too, or when its time is up: then `run` is to return.
        """

    def reception(self) -> Reception:
        """Return the way to new connections, for a worker with an event loop; to be called once."""

    def exchanges(self, answer: Callable[[Exchange], object], soon: Callable[[float], object]) -> Exchanges:
        """Return the way to requests, for a worker with an event loop; to be called once.

        Args:
            answer: called in a turn with each request. It waits for nothing, and may finish the exchange or
                see that this is done later. What it raises fails the exchange.
            soon: called, outside of turns, to have the next one earlier than was said: in so many seconds.
        """

    def serve_one_by_one(self) -> None:
        """Serve the WSGI application in this thread, a connection for each request; return when drained.

        Slow clients do not count as a request. Says `ready` itself.
        """

    def serve_in_threads(self) -> None:
        """Serve the WSGI application in as many threads as `threads` says; return when drained.

        To be called by the main thread. A connection costs a thread only while the application has its
        request. Says `ready` itself.
        """

    def serve_in_greenlets(self, greenlets: Greenlets) -> None:
        """Serve the WSGI application, each request in a greenlet; return when the worker has drained.

        Idle connections, half a head and a response that is not taken cost no greenlet. Says `ready` itself.

        Args:
            greenlets: the library, in whose main greenlet this is called.
        """


class Worker(ABC):
    """A way of running an application in one worker process.

    The first line of a worker class's docstring is its help in `prefork --list-workers`.
    """

    api: ClassVar[int]
    """The `API_VERSION` that the worker was written against, as a number: `api = 1`."""
    interface: ClassVar[Interface] = Interface.WSGI
    """The kind of application that it serves."""
    settings: ClassVar[type[Group] | None] = None
    """Its own options: a frozen dataclass whose fields are made with `option`."""
    notice: ClassVar[str] = ""
    """What whoever starts a server with this worker is warned of, "" for nothing."""
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Settings of the server and hooks that it cannot honour, and why: whoever gives one is warned."""
    reforks: ClassVar[bool] = False
    """Whether nothing of it is left in the process when `run` has returned: no thread, no loop, no socket.
    Then the process can fork workers itself, as `refork` asks for."""

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once; more than 1,024 count as so many.

        Called in the arbiter, before the worker is forked.

        Args:
            settings: the resolved settings.
        """
        return settings.threads

    @classmethod
    def lacks(cls, settings: Settings) -> str | None:
        """Return why it cannot serve with some settings on this machine, None when it can.

        Called in the arbiter, before anything is forked for them, and by `prefork --check-config`; so what
        may not be installed is looked for, and not imported.

        Args:
            settings: the resolved settings.
        """

    @classmethod
    def refuses(cls, app: object) -> str | None:
        """Return why an application cannot be served, None when it can; only asked when `interface` is OTHER.

        Called in the worker process, and by `prefork --check-config`.

        Args:
            app: what was found under the application's name; if that is a call, what it has returned.
        """

    @classmethod
    def prepare(cls, settings: Settings, /) -> None:
        """Prepare the process, before the application is imported.

        Called in the worker process, with privileges dropped; in the template when there is one.

        Args:
            settings: the resolved settings.
        """

    @abstractmethod
    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained.

        What it raises before it has said `ready` is logged as a failed boot, as if the application could not
        be imported; a `prefork.errors.PreforkError` without a traceback.

        Args:
            ctx: everything the worker may use.
        """
