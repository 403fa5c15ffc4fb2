# SPDX-License-Identifier: MIT
"""What an operator sees of a worker: access log, counters, requests in hand, errors, why it was killed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefork.testing import control
from prefork.testing.client import RequestFailed
from prefork.testing.subject import Held, Subject, needs
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from prefork.testing.server import Server

_REQUESTS: Final = 10
_STORM: Final = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT)
"""Signals that a worker gets and that mean nothing to it."""


class Sight(Subject):
    """The view from outside."""

    def test_it_says_that_it_is_ready(self, server: Server) -> None:
        """A worker that can serve is shown as ready."""
        server.wait_log("ready after")
        found = control.ask(server.folder, "status")["workers"]
        assert (found["target"], found["ready"]) == (1, 1)

    # The access log

    def test_each_request_has_a_line_in_the_access_log(self, server: Server) -> None:
        """A line has the status, the bytes of the body and the request line as it was sent."""
        answer = server.ask("/logged?with=query")
        server.wait_log(f"access 200 {len(answer.body)} GET /logged?with=query HTTP/1.1\n")
        server.ask("/echo?logged", method="POST", body=b"12345")
        server.wait_log("access 200 5 POST /echo?logged HTTP/1.1\n")
        server.ask("/empty?logged")
        server.wait_log("access 204 0 GET /empty?logged HTTP/1.1\n")
        server.ask("/logged?head", method="HEAD")
        server.wait_log("access 200 0 HEAD /logged?head HTTP/1.1\n")
        assert server.log().count("/logged?with=query") == 1

    # Counters

    def test_requests_are_counted(self, server: Server) -> None:
        """`preforkctl status` counts each request that was answered."""
        before = control.ask(server.folder, "status")["requests"]
        for _ in range(_REQUESTS):
            server.ask("/counted")
        # More, when one of another test was answered just now.
        until(
            lambda: control.ask(server.folder, "status")["requests"] >= before + _REQUESTS,
            f"{before} and {_REQUESTS} requests",
        )

    def test_a_request_in_hand_is_shown(self, server: Server) -> None:
        """`preforkctl workers` has the oldest request of a worker, as long as it is in the application."""
        with Held(server) as held:
            seen = {"method": "GET", "target": held.path, "phase": "application"}
            until(lambda: seen.items() <= (_worker(server)["oldest"] or {}).items(), f"{seen} in hand")
            assert _worker(server)["busy"] == 1
            assert held.finish().status == 200
        until(lambda: _worker(server)["oldest"] is None, "no request in hand")

    def test_where_a_request_waits_is_shown(self, server: Server) -> None:
        """The stacks that `preforkctl stacks` and the error log show go to where the application waits."""
        module = self.app.partition(":")[0].rpartition(".")[2]
        with Held(server):
            [found] = control.ask(server.folder, "stacks")["workers"]
            assert f'/{module}.py", line ' in found["stacks"]

    # Errors of the application

    def test_an_exception_is_logged_and_answered_with_500(self, server: Server) -> None:
        """An exception of the application costs its request only, and its traceback is in the log."""
        [pid] = server.wait_workers(1)
        assert server.ask("/raise").status == 500
        server.wait_log("RaisedOnPurpose: /raise")
        assert server.ask("/after").status == 200
        assert server.workers() == [pid]

    def test_an_exit_in_the_application_ends_no_worker(self, server: Server) -> None:
        """`sys.exit` in a request is answered with 500."""
        [pid] = server.wait_workers(1)
        assert server.ask("/exit").status == 500
        assert server.ask("/after").status == 200
        assert server.workers() == [pid]

    def test_signals_that_mean_nothing_change_nothing(self, server: Server) -> None:
        """A worker that gets many foreign signals answers as before."""
        [pid] = server.wait_workers(1)
        with Held(server) as held:
            for _ in range(100):
                for number in _STORM:
                    os.kill(pid, number)
            assert held.finish().status == 200
        assert server.ask("/after").status == 200
        assert server.workers() == [pid]

    # A request that holds up its worker

    @needs("ends_blocked")
    def test_a_call_that_blocks_its_worker_is_explained_and_ended(self, tmp_path: Path) -> None:
        """After `timeout` the log has the request and the stack, and another worker serves."""
        with (
            self.start(tmp_path, "-w", "1", "--timeout", "1", "--graceful-timeout", "5") as server,
            Held(server, "block") as held,
        ):
            server.wait_log(f"GET {held.path}")
            server.wait_log("in block\n")
            until(lambda: server.workers() and held.pid not in server.workers(), "another worker instead")
            assert server.ask("/after").status == 200
            with pytest.raises(RequestFailed):
                held.kept.read()


def _worker(server: Server) -> Any:
    """Return what is shown of the one worker."""
    [found] = control.ask(server.folder, "workers")["workers"]
    return found
