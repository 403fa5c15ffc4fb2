# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from supervised import KILLED, Server, of

from prefork.supervisor.fleet import Mode
from prefork.supervisor.messages import (
    Exit,
    Gone,
    Kill,
    Order,
    Park,
    Reason,
    Resize,
    Resized,
    RolledBack,
    Say,
    Send,
    Spawn,
    Stop,
    Stopping,
    StopQueueing,
)


def test_a_graceful_stop_drains_waits_and_exits_with_zero() -> None:
    server = Server.running(2)
    actions = server.tell(Stop())
    done = [action for action in actions if not isinstance(action, Say)]
    assert done == [Stopping(), StopQueueing(), Send(1, Order.DRAIN), Send(2, Order.DRAIN)]
    assert server.said[-1].text == "stopping: 2 workers to finish what is in hand, within 30.0 s"
    server.end(1)
    assert server.end(2)[-1] == Exit(0)


def test_what_is_left_after_graceful_timeout_is_killed() -> None:
    server = Server.running(2, graceful_timeout=8.0)
    server.tell(Stop())
    server.end(1)
    assert of(Kill, server.wait(7.9)) == []
    assert of(Kill, server.wait(0.1)) == [Kill(2, "did not stop in time", Reason.GRACEFUL_TIMEOUT)]
    assert server.end(2, KILLED)[-1] == Exit(0)


def test_without_graceful_timeout_a_stop_waits_for_ever_but_a_second_one_does_not() -> None:
    server = Server.running(1, graceful_timeout=0.0)
    server.tell(Stop())
    assert of(Kill, server.wait(10_000.0)) == []
    server.tell(Stop())
    assert len(of(Kill, server.wait(2.0))) == 1


def test_a_worker_that_was_told_to_leave_without_limit_has_one_when_the_server_stops() -> None:
    server = Server.running(2, graceful_timeout=0.0)
    server.tell(Resize(-1))
    server.reload(graceful_timeout=8.0)
    server.tell(Stop())
    assert {kill.serial for kill in server.wait(8.0) if isinstance(kill, Kill)} == {1, 2, 3}


def test_drain_delay_serves_on_for_a_while_and_starts_nobody() -> None:
    server = Server.running(2, drain_delay=5.0)
    assert of(Send, server.tell(Stop())) == []
    assert of(Spawn, server.end(1, KILLED)) == []
    assert of(Send, server.wait(4.9)) == []
    assert of(Send, server.wait(0.1)) == [Send(2, Order.DRAIN)]


@pytest.mark.parametrize("drain_delay", [0.0, 5.0])
def test_a_second_signal_makes_the_stop_quick(drain_delay: float) -> None:
    server = Server.running(1, drain_delay=drain_delay)
    server.tell(Stop())
    server.wait(1.0)
    assert of(Send, server.tell(Stop())) == [Send(1, Order.QUICK)]
    assert of(Kill, server.wait(2.0)) == [Kill(1, "did not stop in time", Reason.GRACEFUL_TIMEOUT)]


def test_the_echo_of_a_signal_is_no_second_one_but_another_signal_is() -> None:
    server = Server.running(1)
    server.tell(Stop())
    server.wait(0.9)
    assert server.tell(Stop()) == []
    assert of(Send, server.tell(Stop(quick=True))) == [Send(1, Order.QUICK)]


def test_a_quick_stop_is_quick_from_the_start() -> None:
    server = Server.running(1, drain_delay=60.0)
    stopping, _, send = server.tell(Stop(quick=True))
    assert (stopping, send) == (Stopping(), Send(1, Order.QUICK))
    assert server.said[-1].text == "stopping: 1 worker to drop everything, within 2.0 s"


def test_a_stop_during_a_reload_stops_both_generations() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.tell(Stop())
    assert server.leaving == [1, 2, 3]
    assert server.has_said("reload to generation 2 given up: stopping")


def test_a_worker_that_boots_gets_one_second_unless_it_became_ready_just_now() -> None:
    server = Server.running(1)
    server.tell(Resize(2))
    server.tell(Stop())
    server.ready(2)
    assert of(Kill, server.wait(1.0)) == [Kill(3, "was still booting", Reason.GRACEFUL_TIMEOUT)]
    assert server.leaving == [1, 2]


def test_a_stop_before_anything_is_ready_exits_with_zero() -> None:
    server = Server(1)
    server.tell(Stop())
    server.wait(1.0)
    assert server.end(1, KILLED)[-1] == Exit(0)


def test_a_process_that_not_even_kill_ends_does_not_keep_the_server() -> None:
    server = Server.running(1)
    server.tell(Stop(quick=True))
    server.wait(2.0)
    assert of(Exit, server.wait(5.0)) == [Exit(0)]
    assert server.has_said("stuck in the kernel")


def test_reload_and_resize_during_a_stop_change_nothing() -> None:
    server = Server.running(1)
    server.tell(Stop())
    actions = server.reload()
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert of(Gone, actions) == [Gone(2)]
    assert of(Resized, server.tell(Resize(1))) == []
    assert of(Resized, server.tell(Park())) == []


def test_after_the_exit_nothing_is_done_any_more() -> None:
    server = Server.running(1)
    server.tell(Stop())
    server.end(1)
    assert server.fleet.mode is Mode.ENDED
    assert server.tell(Stop()) == []
