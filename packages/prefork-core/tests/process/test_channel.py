# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from prefork.process import channel
from prefork.process.channel import Hangup
from prefork.supervisor.messages import Order, Report
from prefork.worker import StopReason

if TYPE_CHECKING:
    from prefork.process.channel import ArbiterEnd


def readable(end: socket.socket | ArbiterEnd) -> bool:
    return bool(select.select([end], [], [], 1.0)[0])


def told(end: socket.socket) -> Order | None:
    found = channel.read_order(end)
    return None if found is None else found.order


def test_a_silent_channel_has_no_word_on_either_side() -> None:
    ours, theirs = channel.make()
    assert ours.receive() == []
    assert told(theirs) is None


@pytest.mark.parametrize("order", Order)
def test_an_order_arrives_and_wakes_the_worker(order: Order) -> None:
    ours, theirs = channel.make()
    assert ours.send(order)
    assert readable(theirs)
    assert told(theirs) is order


def test_the_newest_of_several_orders_counts() -> None:
    ours, theirs = channel.make()
    ours.send(Order.DRAIN)
    ours.send(Order.QUICK)
    assert told(theirs) is Order.QUICK


def test_reports_arrive_in_order_and_unknown_words_are_left_out() -> None:
    ours, theirs = channel.make()
    channel.report(theirs, Report.READY)
    theirs.send(b"?")
    channel.report(theirs, Report.RETIRE)
    assert ours.receive() == [Report.READY, Report.RETIRE]


def test_the_arbiters_death_is_an_order_to_drain() -> None:
    ours, theirs = channel.make()
    ours.close()
    assert readable(theirs)
    assert told(theirs) is Order.DRAIN
    assert not channel.report(theirs, Report.READY)


def test_the_arbiters_death_in_another_process_is_seen() -> None:
    ours, theirs = channel.make()
    pid = os.fork()
    if pid == 0:
        os._exit(0)  # takes its copy of our end with it
    ours.close()
    os.waitpid(pid, 0)
    assert readable(theirs)


def test_a_dead_worker_hangs_up_after_its_last_word() -> None:
    ours, theirs = channel.make()
    channel.report(theirs, Report.READY)
    theirs.close()
    assert ours.receive() == [Report.READY]
    with pytest.raises(Hangup):
        ours.receive()


def test_an_order_to_a_dead_worker_is_not_an_error() -> None:
    ours, theirs = channel.make()
    theirs.close()
    assert not ours.send(Order.DRAIN)


def test_a_worker_that_dies_with_orders_unread_hangs_up() -> None:
    ours, theirs = channel.make()
    ours.send(Order.DRAIN)
    theirs.close()
    with pytest.raises(Hangup):
        ours.receive()


def test_hanging_up_wakes_the_worker_but_it_can_still_report() -> None:
    ours, theirs = channel.make()
    channel.hang_up(theirs)
    assert readable(theirs)
    assert told(theirs) is Order.DRAIN
    assert channel.report(theirs, Report.READY)
    assert ours.receive() == [Report.READY]
    assert not ours.send(Order.LEAVE)


def test_the_worker_can_tell_the_arbiters_death_from_an_order_or_its_own_hang_up() -> None:
    arbiter, worker = channel.make()
    assert not channel.arbiter_is_gone(worker)
    arbiter.send(Order.DRAIN)
    assert not channel.arbiter_is_gone(worker)
    channel.hang_up(worker)
    assert not channel.arbiter_is_gone(worker)
    arbiter.close()
    assert channel.arbiter_is_gone(worker)


def test_hanging_up_after_the_arbiters_death_is_not_an_error() -> None:
    ours, theirs = channel.make()
    ours.close()
    channel.hang_up(theirs)
    assert told(theirs) is Order.DRAIN


def test_each_order_has_the_reason_that_worker_classes_see() -> None:
    assert {order.reason for order in Order} == set(StopReason)


def test_a_worker_of_a_template_is_known_by_the_pid_that_the_kernel_tells() -> None:
    ours, theirs = channel.make(by_template=True)
    assert ours.receive_pid() is None
    pid = os.fork()
    if pid == 0:
        channel.say_pid(theirs)
        channel.report(theirs, Report.READY)
        os._exit(0)
    os.waitpid(pid, 0)
    assert ours.receive_pid() == pid
    assert ours.receive() == [Report.READY]


def test_a_worker_that_never_was_is_a_hangup() -> None:
    ours, theirs = channel.make(by_template=True)
    theirs.close()
    with pytest.raises(Hangup):
        ours.receive_pid()


def test_a_worker_says_its_pid_to_a_dead_arbiter_in_vain() -> None:
    ours, theirs = channel.make(by_template=True)
    ours.close()
    channel.say_pid(theirs)
    assert told(theirs) is Order.DRAIN


# The line of a template


def test_a_line_comes_with_the_order_to_be_a_template() -> None:
    ours, theirs = channel.make()
    line, end = socket.socketpair()
    assert ours.send(Order.REFORK, end)
    end.close()
    found = channel.read_order(theirs)
    assert found is not None
    assert found.order is Order.REFORK
    assert found.line is not None
    assert not found.line.get_inheritable()
    found.line.send(b"x")
    assert line.recv(1) == b"x"


def test_an_order_that_follows_comes_after_it() -> None:
    ours, theirs = channel.make()
    line, end = socket.socketpair()
    ours.send(Order.REFORK, end)
    ours.send(Order.QUICK)
    end.close()
    first, second = channel.read_order(theirs), channel.read_order(theirs)
    assert first is not None
    assert second == channel.Told(Order.QUICK)
    assert first.line is not None
    first.line.close()
    assert line.recv(1) == b"", "nobody else has it"
