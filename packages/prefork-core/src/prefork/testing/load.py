# SPDX-License-Identifier: MIT
"""Clients that ask without a break and check every answer to the last byte.

The application under load answers with a line of version, pid and path, `REPEAT` times. Each request has a
path of its own, so no answer can be taken for another's, and no piece of one for the whole.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from prefork.testing import client
from prefork.testing.client import RequestFailed
from prefork.testing.waiting import PATIENCE, until
from prefork.trial.answers import REPEAT

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from prefork.testing.client import Address
    from prefork.testing.server import Server

CLIENTS: Final = 4
INTERVAL: Final = 0.004
"""Seconds from one request of a client to its next at least: 1,000 requests a second of 4 clients keep
workers busy, and leave the processor to those that are starting."""

AGAIN: Final = "/again"
"""What ends the path of a request that was sent again."""

KEPT: Final = 1.0
"""Seconds for which at least a connection that was just busy is kept by a worker that is to leave."""

_UNANSWERED: Final = frozenset({"reset", "empty"})
_PRINTED: Final = 10


class Loss(NamedTuple):
    """A request that had no right answer."""

    kind: str
    text: str
    at: float
    """Monotonic seconds, when it was noticed."""
    path: str = ""
    port: int = 0
    """Of the client's end of its connection; 0 for a Unix socket, and where there was no connection."""


class _Kept(NamedTuple):
    """A connection over which to ask again."""

    sock: socket.socket
    port: int
    since: float
    """Monotonic seconds, before which it cannot have become idle."""


class Load:
    """Clients in threads, for a `with` statement; leaving it ends them.

    Args:
        address: where they ask.
        clients: how many at once.
        interval: seconds between two requests of one client, at least.
        timeout: seconds for one wait.
        keep: whether to ask again on a connection that the server keeps open.
        first: the number of the first client, with which its paths begin; for two loads on one server.

    Attributes:
        lost: requests that nobody answered, or wrongly.
        refused: attempts to connect where nobody listened. A client ends at its first one.
        again: requests on a kept connection that was closed without a byte of an answer just when they were
            sent. They were sent again on a new one, as RFC 9112 section 9.3.1 has it, with `AGAIN` at the end
            of their path.
        cut_off: kept connections that were closed so shortly after an answer that only a worker that was
            killed may do so, whether or not a request was on its way.
        versions: answers by version.
        pids: answers by pid.
        slowest: the longest time from the attempt to connect to the last byte, in seconds.
        longest_gap: the longest time in which nobody was answered, in seconds.
    """

    def __init__(
        self,
        address: Address,
        *,
        clients: int = CLIENTS,
        interval: float = INTERVAL,
        timeout: float = client.TIMEOUT,
        keep: bool = False,
        first: int = 0,
    ) -> None:
        self.address = address
        self.lost: list[Loss] = []
        self.again: list[Loss] = []
        self.cut_off: list[Loss] = []
        self.refused: list[Loss] = []
        self.versions: Counter[str] = Counter()
        self.pids: Counter[int] = Counter()
        self.slowest = 0.0
        self.longest_gap = 0.0
        self._last_answer = 0.0
        self._interval = interval
        self._timeout = timeout
        self._keep = keep
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(first, first + clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
        print(
            f"--- load: {self.answered} answered, {dict(self.versions.most_common(_PRINTED))}, "
            f"slowest {self.slowest:.3f} s, longest gap {self.longest_gap:.3f} s, {self.retried} retried, "
            f"{len(self.cut_off)} cut off"
        )
        for loss in [*self.lost, *self.refused][:_PRINTED]:
            print(f"    {loss.kind}: {loss.text}")

    def finish(self) -> None:
        """Let every client end its request, and ask no more."""
        self._ending.set()
        for thread in self._threads:
            thread.join(self._timeout + PATIENCE)

    # What has happened

    @property
    def answered(self) -> int:
        """How many requests had their right answer."""
        return sum(self.versions.values())

    @property
    def retried(self) -> int:
        """How many requests are in `again`."""
        return len(self.again)

    def wait(self, count: int = 100, timeout: float = PATIENCE) -> None:
        """Wait until so many more requests are answered."""
        goal = self.answered + count
        until(lambda: self.answered >= goal, f"{count} more answers under load", timeout)

    def wait_version(self, version: str, count: int = 20, timeout: float = PATIENCE) -> None:
        """Wait until so many more answers are of a version."""
        goal = self.versions[version] + count
        until(lambda: self.versions[version] >= goal, f"{count} answers of {version!r}", timeout)

    def wait_only_version(self, version: str, count: int = 50, timeout: float = PATIENCE) -> None:
        """Wait until so many answers in a row are of a version."""

        def only() -> bool:
            others = self.answered - self.versions[version]
            start = self.versions[version]
            until(lambda: self.versions[version] >= start + count, f"{count} answers of {version!r}", timeout)
            return self.answered - self.versions[version] == others

        until(only, f"only answers of {version!r}", timeout)

    def wait_end(self, timeout: float = PATIENCE) -> None:
        """Wait until every client has been refused."""
        threads = self._threads
        until(lambda: not any(map(threading.Thread.is_alive, threads)), "all clients were refused", timeout)

    def outlast(self, server: Server) -> None:
        """Ask until a server that was told to stop has ended well; all must be answered up to its end."""
        assert server.wait_exit(PATIENCE / 2) == 0
        self.wait_end()
        self._check_losses()

    def check(self) -> None:
        """Check that every request was answered, nobody was refused, and no connection was cut off.

        Raises:
            AssertionError: one was not.
        """
        self._check_losses()
        assert not self.refused, f"{len(self.refused)} refused"
        assert self.answered

    def _check_losses(self) -> None:
        assert not self.lost, f"{len(self.lost)} lost: {self.lost[:_PRINTED]}"
        assert not self.cut_off, f"{len(self.cut_off)} cut off: {self.cut_off[:_PRINTED]}"

    # The clients

    def _run(self, number: int) -> None:
        """Be one client."""
        count = 0
        kept: _Kept | None = None
        while not self._ending.is_set() and not self.refused:
            began = time.monotonic()
            count += 1
            path = f"/{number}/{count}"
            try:
                answer, kept = self._ask(path, kept)
                self._note(answer, began)
            except RequestFailed as error:
                kept = None
                with self._lock:
                    (self.refused if error.kind == "refused" else self.lost).append(_loss(error))
            self._ending.wait(max(began + self._interval - time.monotonic(), 0.0))
        if kept is not None:
            kept.sock.close()

    def _ask(self, path: str, kept: _Kept | None) -> tuple[client.Answer, _Kept | None]:
        """Ask, over the connection of the last answer if it was kept; return what to keep for the next."""
        if kept is not None and client.is_closed(kept.sock):
            now = time.monotonic()
            self._note_end(kept, Loss("closed", f"while idle ({path})", now, path, kept.port), now)
            kept.sock.close()
            kept = None
        if kept is not None:
            try:
                return self._ask_over(kept.sock, path, kept)
            except RequestFailed as error:
                if error.kind not in _UNANSWERED:
                    raise
                with self._lock:
                    self.again.append(_loss(error))
            path += AGAIN
        return self._ask_over(client.connect(self.address, self._timeout), path)

    def _ask_over(
        self, sock: socket.socket, path: str, kept: _Kept | None = None
    ) -> tuple[client.Answer, _Kept | None]:
        since = sent = time.monotonic()
        port = _port(sock)
        try:
            client.send(sock, client.render(path))
            sent = time.monotonic()
            answer = client.read_answer(sock)
            _check(answer, path)
        except RequestFailed as error:
            error.path = path
            error.port = port
            sock.close()
            if kept is not None and error.kind in _UNANSWERED:
                self._note_end(kept, _loss(error), sent)
            raise
        if self._keep and not answer.closing:
            return answer, _Kept(sock, port, since)
        sock.close()
        return answer, None

    def _note_end(self, kept: _Kept, loss: Loss, sent: float) -> None:
        if sent - kept.since < KEPT:
            with self._lock:
                self.cut_off.append(loss)

    def _note(self, answer: client.Answer, began: float) -> None:
        version, pid, _ = answer.text.split(" ", 2)
        now = time.monotonic()
        with self._lock:
            self.versions[version] += 1
            self.pids[int(pid)] += 1
            self.slowest = max(self.slowest, now - began)
            if self._last_answer:
                self.longest_gap = max(self.longest_gap, now - self._last_answer)
            self._last_answer = now


def _port(sock: socket.socket) -> int:
    name = sock.getsockname()
    return name[1] if isinstance(name, tuple) else 0


def _check(answer: client.Answer, path: str) -> None:
    """Check that an answer is the right one.

    Raises:
        RequestFailed: wrong.
    """
    line, _, _ = answer.body.partition(b"\n")
    shown = line.decode().split(" ", 2)[-1]
    if answer.status != 200 or shown != path or answer.body != (line + b"\n") * REPEAT:
        raise RequestFailed("wrong", f"{answer.status} {answer.body[:200]!r} to {path}")


def _loss(error: RequestFailed) -> Loss:
    return Loss(error.kind, f"{error} ({error.path})", time.monotonic(), error.path, error.port)
