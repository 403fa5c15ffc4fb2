# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from serving import Worker

from prefork.net.poller import READ, Poller
from prefork.supervisor.messages import Order
from prefork.workers.acceptor import DRAINING, NO, QUEUE_GRACE, YES, Acceptor
from prefork.workers.ending import Ending

if TYPE_CHECKING:
    from pathlib import Path


class Serving:
    """A worker whose connections are numbers, of which the odd ones have a request."""

    def __init__(self, folder: Path, *connections: int, **settings: Any) -> None:
        self.parts = Worker(print, folder, settings=settings)
        context = self.parts.make_context(os.getppid())
        self.poller = Poller()
        self.acceptor = Acceptor(context, self.poller)
        self.open = set(connections)
        self.told: list[str] = []
        self.ending: Ending[int] = Ending(
            context, self.acceptor, self.poller, self.open, wind_down=self._wind_down, drop=self._drop
        )
        self.poller.watch(context.stop_fd, READ)
        self.acceptor.take()

    def _wind_down(self) -> None:
        self.told.append(f"wind down while the listeners are {self.acceptor.state.value}")

    def _drop(self, connection: int) -> bool:
        self.told.append(f"drop {connection}")
        return connection % 2 == 1

    def ordered(self, order: Order) -> bool:
        """Order the stop; return whether it has begun."""
        self.parts.order(order)
        return self.ending.begin()


def test_without_an_order_nothing_ends(tmp_path: Path) -> None:
    worker = Serving(tmp_path)
    assert not worker.ending.begin()
    assert worker.acceptor.state is YES
    assert not worker.told


@pytest.mark.parametrize(("order", "left"), [(Order.DRAIN, DRAINING), (Order.LEAVE, NO)])
def test_an_order_winds_down_what_is_open_and_then_decides_about_the_queue(
    tmp_path: Path, order: Order, left: object
) -> None:
    worker = Serving(tmp_path, 1)
    assert worker.ordered(order)
    assert worker.told == ["wind down while the listeners are yes"]
    assert worker.acceptor.state is left


def test_an_order_is_reported_once(tmp_path: Path) -> None:
    """The arbiter's death would be, for ever."""
    worker = Serving(tmp_path)
    assert worker.ordered(Order.LEAVE)
    worker.parts.arbiter.close()
    assert worker.poller.wait(0.0) == []


def test_it_is_over_when_the_last_connection_has_gone(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 1)
    worker.ordered(Order.LEAVE)
    assert not worker.ending.is_over()
    worker.open.clear()
    assert worker.ending.is_over()


def test_it_is_not_over_while_the_queue_is_drained(tmp_path: Path) -> None:
    worker = Serving(tmp_path)
    worker.ordered(Order.DRAIN)
    assert not worker.ending.is_over()
    while worker.acceptor.state is DRAINING:
        worker.acceptor.leave_drained(empty=True)
    assert worker.ending.is_over()


def test_a_queue_counts_as_dry_when_nothing_has_come_for_a_while(tmp_path: Path) -> None:
    """A handshake may be half done when it stops growing, and whoever looks may have had no time to wait."""
    worker = Serving(tmp_path)
    began = time.monotonic()
    worker.ordered(Order.DRAIN)
    while worker.acceptor.state is DRAINING:
        worker.acceptor.leave_drained(empty=True)
    assert time.monotonic() - began >= QUEUE_GRACE


def test_it_is_over_when_its_time_is(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 1, graceful_timeout=1e-9)
    worker.ordered(Order.LEAVE)
    assert worker.ending.is_over()


def test_quick_is_over_at_once_and_winds_nothing_down(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 1)
    assert worker.ordered(Order.QUICK)
    assert worker.ending.is_over()
    assert not worker.told


def test_quick_counts_after_another_order(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 1)
    worker.ordered(Order.LEAVE)
    worker.parts.order(Order.QUICK)
    assert worker.ending.is_over()


def test_what_is_open_at_the_end_is_dropped_and_requests_are_counted(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 1, 2, 3)
    worker.ordered(Order.QUICK)
    worker.ending.close_all()
    assert sorted(worker.told) == ["drop 1", "drop 2", "drop 3"]
    assert "stopped with unfinished requests: 2" in worker.parts.errors()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(worker.parts.address)


def test_an_end_that_drops_no_request_says_nothing(tmp_path: Path) -> None:
    worker = Serving(tmp_path, 2)
    worker.ordered(Order.QUICK)
    worker.ending.close_all()
    assert "unfinished" not in worker.parts.errors()
