# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from supervised import KILLED, MIB, Server, of

from prefork.supervisor.children import State
from prefork.supervisor.force import HEED
from prefork.supervisor.messages import (
    Abort,
    Discard,
    Exit,
    Explain,
    HungUp,
    Kill,
    Order,
    Overdue,
    Plight,
    Reason,
    Report,
    Reported,
    Resize,
    RolledBack,
    Send,
    Spawn,
    Stop,
    Weighed,
)
from prefork.supervisor.reloading import PROOF

# ---------------------------------------------------------------- stuck


def test_a_worker_whose_threads_are_all_stuck_is_replaced_aborted_and_then_killed() -> None:
    server = Server.running(2)
    actions = server.tell(Overdue(1))
    why = "made no progress within timeout"
    assert of(Abort, actions) == [Abort(1, why, Reason.TIMEOUT)]
    assert [type(action) for action in actions if isinstance(action, Spawn | Abort)] == [Spawn, Abort]
    assert of(Kill, server.wait(0.9)) == []
    assert of(Kill, server.wait(0.1)) == [Kill(1, "did not end on SIGABRT", Reason.TIMEOUT)]


def stuck(plight: Plight = Plight.SERVES, serial: int = 1) -> Overdue:
    return Overdue(serial, Reason.TIMEOUT, plight)


def test_a_worker_with_one_stuck_thread_is_explained_and_serves_until_its_successor_is_ready() -> None:
    server = Server.running(2)
    actions = server.tell(stuck())
    assert of(Explain, actions) == [Explain(1, "made no progress within timeout", Reason.TIMEOUT)]
    assert of(Spawn, actions) == [Spawn(3, 2, 1)]
    assert of(Abort, actions) == of(Send, actions) == []
    assert server.serving == [1, 2]
    assert of(Send, server.ready(3)) == [Send(1, Order.LEAVE)]


def test_a_worker_with_a_stuck_thread_is_explained_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert server.tell(stuck()) == []


def test_what_is_left_in_a_stuck_worker_may_finish_and_then_it_is_aborted() -> None:
    server = Server.running(2)
    server.tell(stuck())
    server.ready(3)
    server.wait(HEED + 1.0)
    assert server.tell(stuck(Plight.LEAVES)) == []
    actions = server.tell(stuck(Plight.EMPTY))
    assert actions == [Abort(1, "has nothing left but what is stuck", Reason.TIMEOUT, explained=True)]


def test_a_stuck_worker_is_aborted_after_graceful_timeout_at_the_latest() -> None:
    server = Server.running(2, graceful_timeout=9.0)
    server.tell(stuck())
    server.ready(3)
    assert of(Abort, server.wait(8.9)) == []
    assert of(Abort, server.wait(0.2)) == [Abort(1, "did not stop in time", Reason.TIMEOUT, explained=True)]


def test_a_stuck_worker_that_does_not_begin_to_leave_is_aborted() -> None:
    """C code has the interpreter's lock, so nobody there reads the order."""
    server = Server.running(2)
    server.tell(stuck())
    server.ready(3)
    server.wait(HEED - 0.1)
    assert server.tell(stuck()) == []
    server.wait(0.2)
    assert of(Abort, server.tell(stuck())) == [
        Abort(1, "does not begin to leave", Reason.TIMEOUT, explained=True)
    ]


def test_a_stuck_worker_whose_other_threads_get_stuck_too_is_aborted_at_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert len(of(Abort, server.tell(stuck(Plight.LOST)))) == 1


def test_a_stuck_worker_that_nobody_needs_any_more_is_told_to_leave_at_once() -> None:
    server = Server.running(2)
    server.tell(stuck())
    assert Send(1, Order.LEAVE) in server.tell(Resize(-1))


def test_stuck_workers_are_replaced_one_after_the_other_and_before_those_that_are_only_old() -> None:
    server = Server.running(3)
    server.tell(Reported(2, Report.RETIRE))
    server.tell(Reported(1, Report.RETIRE))
    server.tell(stuck(serial=3))
    assert server.serials(State.RETIRING) == [2]
    server.ready_all()
    server.end(2)
    assert server.serials(State.RETIRING) == [3]


def test_a_stuck_request_is_found_while_the_server_stops() -> None:
    server = Server.running(1)
    server.tell(Stop())
    assert of(Explain, server.tell(stuck(Plight.LEAVES))) != []
    assert len(of(Abort, server.tell(stuck(Plight.EMPTY)))) == 1


def test_a_new_worker_with_a_stuck_request_rolls_its_reload_back() -> None:
    server = Server.running(1)
    server.reload()
    server.ready(2)
    server.wait(PROOF / 2)
    assert of(RolledBack, server.tell(stuck(serial=2))) == [RolledBack(2, 1)]


def test_request_timeout_is_named() -> None:
    server = Server.running(1)
    actions = server.tell(Overdue(1, Reason.REQUEST_TIMEOUT, Plight.LOST))
    why = "has a request that takes longer than request_timeout"
    assert of(Abort, actions) == [Abort(1, why, Reason.REQUEST_TIMEOUT)]


def test_a_worker_that_is_overdue_twice_is_aborted_once() -> None:
    server = Server.running(1)
    server.tell(Overdue(1))
    assert server.tell(Overdue(1)) == []


# ---------------------------------------------------------------- too heavy


def test_a_worker_that_has_grown_too_large_leaves_when_its_successor_is_ready() -> None:
    server = Server.running(2, memory=400 * MIB)
    server.tell(Weighed(1, 100 * MIB))
    actions = server.tell(Weighed(1, 512 * MIB))
    assert (len(of(Spawn, actions)), of(Send, actions), of(Abort, actions)) == (1, [], [])
    assert server.has_said(
        "worker 1001 (slot 0, generation 1) has 512 MiB of its own (max_worker_memory 400 MiB):"
        " starting its successor"
    )
    assert of(Send, server.ready_all()) == [Send(1, Order.LEAVE)]


def test_a_worker_above_the_hard_limit_is_aborted_replaced_and_then_killed() -> None:
    server = Server.running(2, memory_hard=400 * MIB)
    actions = server.tell(Weighed(1, 512 * MIB))
    why = "has 512 MiB of its own (max_worker_memory_hard 400 MiB)"
    assert (of(Abort, actions), len(of(Spawn, actions))) == ([Abort(1, why, Reason.MEMORY)], 1)
    assert of(Kill, server.wait(1.0)) == [Kill(1, "did not end on SIGABRT", Reason.MEMORY)]


def test_a_worker_that_leaves_is_killed_above_the_hard_limit_too() -> None:
    server = Server.running(2, memory_hard=400 * MIB)
    server.tell(Resize(-1))
    (leaving,) = server.leaving
    assert len(of(Abort, server.tell(Weighed(leaving, 512 * MIB)))) == 1
    assert of(Abort, server.tell(Weighed(leaving, 512 * MIB))) == [], "once"


def test_workers_that_are_too_large_at_once_are_started_ever_more_slowly() -> None:
    server = Server.running(1, memory_hard=400 * MIB, memory=300 * MIB)
    starts = []
    for _ in range(5):
        server.tell(Weighed(server.serving[0], 512 * MIB))
        began = server.now
        while not server.booting:
            server.wait(0.05)
        starts.append(server.now - began)
        server.ready_all()
        server.wait(1.0)
    assert starts[0] == 0.0, "the first one had lived"
    assert starts[4] > 2 * starts[2] > 0.0


def test_a_new_generation_that_is_too_large_is_rolled_back() -> None:
    server = Server.running(2)
    server.reload(memory_hard=400 * MIB)
    new = server.booting[0]
    server.ready(new)
    server.wait(0.5)
    server.tell(Weighed(new, 512 * MIB))
    assert server.has_said("reload rolled back: worker 1003 (slot 2, generation 2): has 512 MiB of its own")
    assert server.generations_serving() == [1, 1]


def test_a_weight_of_nobody_changes_nothing() -> None:
    server = Server(1, memory_hard=400 * MIB)
    assert server.tell(Weighed(1, 512 * MIB)) == server.tell(Weighed(77, 512 * MIB)) == []


# ---------------------------------------------------------------- given up, by the operator or by itself


@pytest.mark.parametrize("state", [State.BOOTING, State.READY, State.RETIRING, State.STOPPING])
def test_a_worker_that_the_operator_gives_up_is_aborted_whatever_it_does(state: State) -> None:
    server = Server(1) if state is State.BOOTING else Server.running(1)
    if state is State.RETIRING:
        server.tell(Reported(1, Report.RETIRE))
    elif state is State.STOPPING:
        server.tell(Stop())
    assert server.serials(state) == [1]
    assert of(Abort, server.tell(Discard(1))) == [Abort(1, "was given up by the operator", Reason.OPERATOR)]
    assert server.tell(Discard(1)) == []
    assert of(Kill, server.wait(1.0)) == [Kill(1, "did not end on SIGABRT", Reason.OPERATOR)]
    assert server.tell(Discard(1)) == []


def test_its_successor_starts_at_once_and_nobody_has_failed() -> None:
    """It is no boot that failed: neither a first start nor a reload ends by it."""
    first = Server(2)
    assert len(of(Spawn, first.tell(Discard(1)))) == 1
    assert of(Exit, first.end(1, KILLED)) == []
    server = Server.running(2)
    server.reload()
    (new,) = server.booting
    assert len(of(Spawn, server.tell(Discard(new)))) == 1
    assert of(RolledBack, server.end(new, KILLED)) == []
    server.finish_reload()
    assert server.generations_serving() == [2, 2]


def test_a_worker_that_loses_its_channel_but_lives_is_killed_after_the_grace_and_replaced() -> None:
    server = Server.running(1, graceful_timeout=7.0)
    server.tell(HungUp(1))
    assert of(Kill, server.wait(6.9)) == []
    actions = server.wait(0.2)
    assert of(Kill, actions) == [Kill(1, "has closed its channel and does not end", Reason.HANGUP)]
    assert len(of(Spawn, actions)) == 1
