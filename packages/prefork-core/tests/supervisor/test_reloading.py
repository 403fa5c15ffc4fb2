# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from supervised import KILLED, SEGFAULT, Server, of

from prefork.supervisor.messages import (
    Abort,
    Death,
    Exit,
    Gone,
    Order,
    Reloaded,
    Report,
    Reported,
    Resize,
    Resized,
    RolledBack,
    Send,
    Spawn,
    Stop,
)
from prefork.supervisor.reloading import PROOF


def test_a_reload_starts_a_batch_and_an_old_worker_leaves_for_each_new_one() -> None:
    server = Server.running(4, reload_batch=1)
    actions = server.reload(reload_batch=1)
    assert (len(of(Spawn, actions)), of(Send, actions)) == (1, [])
    server.ready_all()
    actions = server.wait(PROOF)
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    assert len(of(Spawn, actions)) == 1
    assert of(Send, server.ready_all()) == [Send(2, Order.LEAVE)]


def test_the_batch_is_a_quarter_of_the_workers_unless_the_settings_say_more() -> None:
    server = Server.running(8)
    assert len(of(Spawn, server.reload())) == 2
    server = Server.running(2)
    assert len(of(Spawn, server.reload())) == 1
    server = Server.running(2)
    assert len(of(Spawn, server.reload(reload_batch=2))) == 2


def test_no_old_worker_goes_before_the_first_new_one_has_lived_for_a_second() -> None:
    server = Server.running(1)
    server.reload()
    assert of(Send, server.ready_all()) == []
    assert of(Send, server.wait(PROOF - 0.1)) == []
    assert of(Send, server.wait(0.1)) == [Send(1, Order.LEAVE)]


def test_a_complete_reload_says_so_and_lets_the_old_generation_go() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(1.0)
    actions = server.ready_all()
    assert of(Reloaded, actions) == [Reloaded(2)]
    assert server.has_said("reload: generation 2 ready, 2 of 2 replaced, took 1.0 s")
    assert of(Gone, server.end_all_leaving()) == [Gone(1)]


def test_a_slow_boot_only_makes_the_reload_slow() -> None:
    server = Server.running(2)
    server.reload()
    assert of(Send, server.wait(50.0)) == []
    assert server.serving == [1, 2]


@pytest.mark.parametrize("death", [Death(code=3), Death(code=4), SEGFAULT, Death(code=0)])
def test_a_new_worker_that_cannot_boot_rolls_the_reload_back(death: Death) -> None:
    server = Server.running(4)
    server.reload()
    actions = server.end(server.booting[0], death)
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert of(Gone, actions) == [Gone(2)]
    assert of(Spawn, actions) == of(Send, actions) == []
    assert server.serving == [1, 2, 3, 4]
    assert server.has_said("reload rolled back: worker 1005 (slot 4, generation 2)")


def test_a_new_worker_that_hangs_rolls_the_reload_back() -> None:
    server = Server.running(1)
    server.reload(boot_timeout=5.0)
    assert of(RolledBack, server.wait(5.0)) == [RolledBack(2, 1)]


def test_a_new_worker_that_cannot_be_forked_rolls_the_reload_back() -> None:
    server = Server.running(1)
    server.forks_fail = True
    assert of(RolledBack, server.reload()) == [RolledBack(2, 1)]
    assert server.fleet.rolled_back == "a worker could not be started: no memory"
    server.forks_fail = False
    server.reload()
    assert server.fleet.rolled_back == ""
    assert server.serving == [1]


def test_a_quick_crash_rolls_back_and_replaced_workers_come_again_in_the_old_generation() -> None:
    server = Server.running(4)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.end_all_leaving()
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1, 2, 2]
    crashed = server.serving[-1]
    actions = server.end(crashed, SEGFAULT)
    assert of(RolledBack, actions) == [RolledBack(2, 1)]
    assert [spawn.generation for spawn in actions if isinstance(spawn, Spawn)] == [1, 1]
    assert server.generations_serving() == [1, 1, 2], (
        "the new one that works serves until its successor is ready"
    )
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1, 1, 1]


def test_a_roll_back_whose_workers_cannot_boot_either_keeps_what_serves() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.end_all_leaving()
    server.end(server.booting[0], Death(code=3))
    assert server.generations_serving() == [1, 2]
    for _ in range(5):
        server.end(server.booting[0], Death(code=3))
        server.wait(30.0)
    assert server.generations_serving() == [1, 2]


def test_a_roll_back_restores_the_number_of_workers() -> None:
    server = Server.running(2)
    server.reload(workers=5)
    assert of(Resized, server.end(server.booting[0], Death(code=3))) == [Resized(2, 5)]


def test_a_roll_back_keeps_what_the_operator_asked_for_meanwhile() -> None:
    server = Server.running(2)
    server.reload()
    server.tell(Resize(1))
    server.end(server.booting[0], Death(code=3))
    assert server.fleet.target == 3


def test_a_new_worker_that_lived_may_die_without_rolling_back() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(30.0)
    new = server.serving[-1]
    actions = server.end(new, SEGFAULT)
    assert of(RolledBack, actions) == []
    assert server.fleet.rollout is not None


def test_fewer_workers_in_the_new_settings_still_replace_one_by_one() -> None:
    server = Server.running(4)
    server.reload(workers=2)
    server.ready_all()
    assert of(Send, server.wait(PROOF)) == [Send(1, Order.LEAVE)]
    assert of(Send, server.ready_all()) == [Send(serial, Order.LEAVE) for serial in (2, 3, 4)]


def test_a_reload_during_a_reload_returns_to_the_last_complete_generation() -> None:
    server = Server.running(2)
    server.reload()
    server.ready_all()
    server.wait(PROOF)
    server.reload()
    assert server.has_said("reload to generation 2 given up for a newer one")
    assert of(RolledBack, server.end(server.booting[-1], Death(code=3))) == [RolledBack(3, 1)]
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [1, 1]


def test_a_reload_during_a_reload_completes() -> None:
    server = Server.running(4, reload_batch=1)
    server.reload(reload_batch=1)
    server.ready_all()
    server.reload(reload_batch=1)
    server.finish_reload()
    assert server.generations_serving() == [3, 3, 3, 3]
    assert server.fleet.rollout is None


def test_a_reload_before_the_first_worker_is_ready_starts_over() -> None:
    server = Server(2)
    server.reload()
    assert server.leaving == [1, 2]
    server.ready_all()
    assert server.generations_serving() == [2, 2]


def test_a_worker_may_ask_for_a_successor_during_a_reload() -> None:
    server = Server.running(2)
    server.reload()
    server.tell(Reported(1, Report.RETIRE))
    server.ready_all()
    server.tell(Reported(3, Report.RETIRE))
    server.finish_reload()
    assert server.generations_serving() == [2, 2]
    assert 3 not in server.serving


# ---------------------------------------------------------------- by watched files


def watched(workers: int) -> Server:
    """Return a server whose code is watched, and whose workers have been ready for a minute."""
    server = Server(workers, watched=True, reload_batch=workers)
    server.ready_all()
    server.ready_all()
    server.wait(60.0)
    return server


def test_watched_the_first_worker_is_tried_before_the_others() -> None:
    """So that what is wrong with the code is said once."""
    server = Server(3, watched=True)
    assert server.booting == [1]
    assert len(of(Spawn, server.ready(1))) == 2


@pytest.mark.parametrize("death", [Death(code=3), Death(code=4), SEGFAULT])
def test_watched_a_first_boot_that_fails_waits_for_a_change(death: Death) -> None:
    server = Server(2, watched=True)
    assert of(Exit, server.end(1, death)) == []
    assert server.has_said("nobody serves; waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []
    assert server.machine.next_deadline() is None
    assert len(of(Spawn, server.reload(watched=True))) == 1
    server.ready_all()
    server.ready_all()
    assert server.generations_serving() == [2, 2]


def test_watched_a_first_boot_that_hangs_waits_for_a_change() -> None:
    server = Server(1, watched=True, boot_timeout=5.0)
    assert len(of(Abort, server.wait(5.0))) == 1
    server.end(1, KILLED)
    assert of(Spawn, server.wait(1000.0)) == []
    assert len(of(Spawn, server.reload(watched=True))) == 1


def test_a_server_that_waits_for_a_change_stops_in_peace() -> None:
    server = Server(1, watched=True)
    server.end(1, Death(code=3))
    assert server.tell(Stop())[-1] == Exit(0)


def test_watched_an_old_worker_leaves_as_soon_as_a_new_one_is_ready() -> None:
    server = watched(1)
    server.reload(watched=True)
    actions = server.ready_all()
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    assert of(Reloaded, actions) == [Reloaded(2)]


def test_watched_a_reload_that_fails_says_so_once_and_waits_for_a_change() -> None:
    server = watched(3)
    server.reload(watched=True, reload_batch=3)
    (new,) = server.booting
    server.end(new, Death(code=3))
    assert server.has_said("serving the old code on (generation 1); waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []
    assert server.generations_serving() == [1, 1, 1]


def test_watched_all_others_follow_the_first_new_worker_at_once() -> None:
    server = watched(3)
    server.reload(watched=True, reload_batch=3)
    assert len(of(Spawn, server.ready_all())) == 2
    server.ready_all()
    server.end_all_leaving()
    assert server.generations_serving() == [2, 2, 2]


def test_watched_a_successor_that_cannot_boot_is_not_tried_again_without_a_change() -> None:
    """It imports what is on disk by then, and that can be half an edit."""
    server = watched(2)
    server.end(1, KILLED)
    server.end(server.booting[0], Death(code=3))
    assert server.has_said("1 of 2 workers serve on; waiting for a change")
    assert of(Spawn, server.wait(1000.0)) == []


def test_watched_a_worker_that_dies_in_service_is_replaced() -> None:
    server = watched(1)
    server.reload(watched=True)
    server.ready_all()
    server.end(2, SEGFAULT)
    assert len(of(Spawn, server.wait(1.0))) == 1
