# SPDX-License-Identifier: MIT
"""What ends a worker, and what becomes of its requests: stops, reloads, recycling, an arbiter's death."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from prefork.testing import client, processes
from prefork.testing.client import Replies, RequestFailed, connect, render, send
from prefork.testing.load import Load
from prefork.testing.subject import Held, Subject, deploy
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.testing.server import Server

_MANY: Final = 20
_NEVER: Final = ("--graceful-timeout", "600")
"""A stop that waits for this long has failed."""


class Lifetime(Subject):
    """The end of a worker."""

    # Stops

    def test_a_stop_does_not_wait_for_idle_clients(self, tmp_path: Path) -> None:
        """Connections without a request are closed, without a reset; nothing is left behind."""
        path = str(tmp_path / "s")
        with (
            self.start(tmp_path, "-w", "1", *_NEVER, address=path) as server,
            ExitStack() as stack,
        ):
            idle = [stack.enter_context(connect(path)) for _ in range(_MANY)]
            if self.keeps_alive:
                for sock in idle:
                    send(sock, render("/first"))
                    assert not Replies(sock).next().closing
            server.stop()
            for sock in idle:
                with pytest.raises(RequestFailed) as failure:
                    Replies(sock).next()
                assert failure.value.kind == "empty"
            check_nothing_left(server)
            assert not os.path.exists(path)

    def test_a_stop_finishes_what_is_in_hand_and_what_is_queued(self, tmp_path: Path) -> None:
        """A request in the application is answered, and so is who has connected before the stop."""
        flags = ("-w", "1", "--worker-connections", "2", *_NEVER)
        with self.start(tmp_path, *flags) as server, ExitStack() as stack:
            busy = [stack.enter_context(Held(server)) for _ in range(2 if self.concurrent else 1)]
            queued = [stack.enter_context(connect(server.address)) for _ in range(_MANY)]
            for sock in queued:
                send(sock, render("/queued", "GET", b"", "Connection: close"))
            server.signal(signal.SIGTERM)
            server.wait_log("stopping")
            for held in busy:
                answer = held.finish()
                assert answer.text.endswith(f" {held.path}\n")
                assert answer.closing
                assert held.kept.ended()
                held.kept.close()
            for sock in queued:
                with sock:
                    assert Replies(sock).next().text.endswith(" /queued\n")
            assert server.wait_exit() == 0
            check_nothing_left(server)

    def test_a_stop_of_all_processes_finishes_too(self, tmp_path: Path) -> None:
        """A worker that gets SIGTERM itself, as from a service manager, answers what it has in hand."""
        with self.start(tmp_path, "-w", "1", *_NEVER) as server, Held(server) as held:
            server.signal(signal.SIGTERM, to_all=True)
            server.wait_log("stopping")
            assert held.finish().status == 200
            held.kept.close()
            assert server.wait_exit() == 0

    def test_a_quick_stop_drops_what_is_in_hand(self, tmp_path: Path) -> None:
        """SIGINT to the arbiter waits for no request."""
        with self.start(tmp_path, "-w", "1", *_NEVER) as server, Held(server) as held:
            server.stop(signal.SIGINT)
            with pytest.raises(RequestFailed):
                held.kept.read()

    def test_what_outlasts_graceful_timeout_is_named_and_dropped(self, tmp_path: Path) -> None:
        """A stop ends, and the log says which request it has not waited for."""
        with (
            self.start(tmp_path, "-w", "1", "--graceful-timeout", "1") as server,
            Held(server) as held,
        ):
            server.stop()
            assert f"GET {held.path}" in server.log()
            with pytest.raises(RequestFailed):
                held.kept.read()

    def test_workers_finish_and_leave_when_the_arbiter_dies(self, tmp_path: Path) -> None:
        """After `kill -9` of the arbiter a request in hand is answered, and nothing is left behind."""
        with (
            self.start(tmp_path, "-w", "1", *_NEVER, expect=-signal.SIGKILL) as server,
            connect(server.address),
            Held(server) as held,
        ):
            os.kill(server.pid, signal.SIGKILL)
            assert server.wait_exit() == -signal.SIGKILL
            assert held.finish().status == 200
            held.kept.close()
            until(lambda: not processes.is_running(held.pid), "the end of the worker")
            check_nothing_left(server)

    # Replacements

    def test_a_reload_loses_nothing(self, tmp_path: Path) -> None:
        """HUP under load: every request is answered, soon by the new code alone."""
        with (
            self.start(tmp_path, "-w", "2") as server,
            Load(server.address, clients=2) as closing,
            Load(server.address, clients=2, keep=True, first=10) as keeping,
        ):
            for load in (closing, keeping):
                load.wait(50)
            deploy(tmp_path, "two")
            server.signal(signal.SIGHUP)
            for load in (closing, keeping):
                load.wait_only_version("two")
            server.wait_log("2 of 2 replaced")
            for load in (closing, keeping):
                load.finish()
                load.check()

    def test_a_reload_lets_requests_in_hand_end(self, tmp_path: Path) -> None:
        """A worker that is replaced answers what it has, and leaves; idle clients do not keep it."""
        with (
            self.start(tmp_path, "-w", "1", *_NEVER) as server,
            Held(server) as held,
            connect(server.address),
        ):
            deploy(tmp_path, "two")
            server.signal(signal.SIGHUP)
            server.wait_log("1 of 1 replaced")
            assert server.ask("/new").text.startswith("two ")
            assert held.finish().text.startswith(f"one {held.pid} ")
            held.kept.close()
            until(lambda: held.pid not in server.workers(), "the end of the old worker")

    def test_recycling_loses_nothing(self, tmp_path: Path) -> None:
        """Workers are replaced after max_requests, under load, and every request is answered."""
        flags = ("-w", "2", "--max-requests", "100", "--max-requests-jitter", "50")
        with (
            self.start(tmp_path, *flags) as server,
            Load(server.address, clients=2) as closing,
            Load(server.address, clients=2, keep=True, first=10) as keeping,
        ):
            until(lambda: len({*closing.pids, *keeping.pids}) >= 5, "answers of five workers")
            for load in (closing, keeping):
                load.finish()
                load.check()
            assert "unexpectedly" not in server.log()


def check_nothing_left(server: Server) -> None:
    """Check that a server's processes are gone, and that nobody listens any more."""
    until(
        lambda: not [found for found in server.belonging() if not found.is_zombie], "the end of all processes"
    )
    with pytest.raises(RequestFailed) as failure:
        client.ask(server.address)
    assert failure.value.kind == "refused"
