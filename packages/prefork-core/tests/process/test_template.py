# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import socket

import pytest

from prefork.process import channel, stacks, template
from prefork.process.channel import Hangup
from prefork.supervisor.messages import Order, Report


def give(
    line: channel.End, serial: int = 1, slot: int = 0, worker: socket.socket | None = None
) -> stacks.StackEnd:
    """Order a worker; return where its stacks will come."""
    shown, shows = stacks.make()
    try:
        template.order(line, serial, slot, worker or channel.make()[1], shows)
    finally:
        os.close(shows)
    return shown


def test_the_workers_stacks_come_to_the_arbiter() -> None:
    line, end = template.make()
    shown = give(line)
    order = template.next_order(end)
    assert order is not None
    os.write(order.stacks, b"Stack")
    order.close()
    assert not shown.receive(1.0), "nobody else has the other end"
    assert shown.take() == "Stack"


def test_an_order_arrives_with_the_workers_end_of_its_channel() -> None:
    line, end = template.make()
    arbiter, worker = channel.make()
    give(line, 7, 3, worker)
    worker.close()
    order = template.next_order(end)
    assert order is not None
    assert (order.serial, order.slot) == (7, 3)
    assert channel.report(order.channel, Report.READY)
    assert arbiter.receive() == [Report.READY]


def test_orders_arrive_one_by_one() -> None:
    line, end = template.make()
    for serial in (1, 2, 3):
        give(line, serial)
    orders = [template.next_order(end) for _ in range(3)]
    assert [order and order.serial for order in orders] == [1, 2, 3]


def test_programs_do_not_inherit_the_channel() -> None:
    line, end = template.make()
    give(line)
    order = template.next_order(end)
    assert order is not None
    assert not os.get_inheritable(order.channel.fileno())
    assert not os.get_inheritable(order.stacks)


def test_an_order_is_late_when_the_worker_has_been_told_to_stop() -> None:
    line, end = template.make()
    arbiter, worker = channel.make()
    give(line, worker=worker)
    order = template.next_order(end)
    assert order is not None
    assert not order.is_late
    arbiter.send(Order.LEAVE)
    assert order.is_late


def test_an_order_is_late_when_the_arbiter_has_forgotten_it() -> None:
    line, end = template.make()
    arbiter, worker = channel.make()
    give(line, worker=worker)
    arbiter.close()
    order = template.next_order(end)
    assert order is not None
    assert order.is_late


def test_when_nobody_has_read_an_order_its_channel_ends() -> None:
    """So a template that dies cannot leave the arbiter waiting."""
    line, end = template.make()
    arbiter, worker = channel.make(by_template=True)
    give(line, worker=worker)
    worker.close()
    assert arbiter.receive_pid() is None
    end.close()
    with pytest.raises(Hangup):
        arbiter.receive_pid()


def test_the_template_ends_when_the_line_does() -> None:
    line, end = template.make()
    line.close()
    assert template.next_order(end) is None


def test_what_is_no_order_ends_the_template() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(b"?")
    assert template.next_order(theirs) is None


def test_ready_is_heard_once() -> None:
    line, end = template.make()
    assert not template.has_said_ready(line)
    template.say_ready(end)
    assert template.has_said_ready(line)
    assert not template.has_said_ready(line)


def test_the_death_of_the_template_is_heard() -> None:
    line, end = template.make()
    end.close()
    with pytest.raises(Hangup):
        template.has_said_ready(line)
    with pytest.raises(OSError, match="Broken pipe"):
        give(line)


def test_a_dead_arbiter_is_no_error_to_who_becomes_ready() -> None:
    line, end = template.make()
    line.close()
    template.say_ready(end)


def test_so_many_orders_as_the_machine_gives_fit_in() -> None:
    """A template that is busy reads none of them."""
    from prefork.supervisor.machine import MOST_ASKED

    line, _end = template.make()
    _, worker = channel.make()
    for serial in range(MOST_ASKED):
        give(line, serial, serial, worker)
