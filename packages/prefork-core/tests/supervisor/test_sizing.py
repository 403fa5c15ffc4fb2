# SPDX-License-Identifier: MIT
from __future__ import annotations

from supervised import Server, of

from prefork.supervisor.messages import (
    Action,
    Death,
    Order,
    Park,
    Policy,
    Reload,
    Resize,
    Resized,
    Sampled,
    Send,
    Spawn,
)

# ---------------------------------------------------------------- by hand


def test_one_worker_more_and_one_fewer() -> None:
    server = Server.running(2)
    actions = server.tell(Resize(1))
    assert of(Resized, actions) == [Resized(3, 2)]
    assert len(of(Spawn, actions)) == 1
    server.ready_all()
    assert of(Send, server.tell(Resize(-1))) == [Send(1, Order.LEAVE)]


def test_a_worker_that_boots_goes_before_one_that_serves() -> None:
    server = Server.running(2)
    server.tell(Resize(1))
    assert of(Send, server.tell(Resize(-1))) == [Send(3, Order.LEAVE)]


def test_the_last_worker_stays() -> None:
    server = Server.running(1)
    assert server.tell(Resize(-1)) == []


def test_there_are_never_more_workers_than_slots() -> None:
    server = Server(3, slots=4)
    server.ready_all()
    server.tell(Resize(10))
    assert server.fleet.target == 4


def test_a_parked_server_has_no_worker_and_wakes_on_a_reload_or_on_more() -> None:
    for wake in (Reload(2, Policy(2)), Resize(1)):
        server = Server.running(2)
        assert len(of(Send, server.tell(Park()))) == 2
        server.end_all_leaving()
        assert server.tell(Resize(-1)) == []
        assert server.machine.next_deadline() is None
        assert len(of(Spawn, server.tell(wake))) == 1


def test_a_changed_number_survives_a_reload_that_does_not_change_it() -> None:
    server = Server.running(2)
    server.tell(Resize(2))
    server.ready_all()
    server.reload()
    assert server.fleet.target == 4


def test_a_reload_that_changes_the_number_of_workers_sets_it() -> None:
    server = Server.running(2)
    server.tell(Resize(2))
    server.ready_all()
    assert of(Resized, server.reload(workers=3)) == [Resized(3, 4)]


# ---------------------------------------------------------------- by load


def sample(server: Server, requests: int, waiting: int = 0, *, times: int = 3) -> list[Action]:
    """Return what follows from looking at a server of one thread for each worker a few times."""
    actions = []
    for _ in range(times):
        server.wait(0.25)
        serving = len(server.serving)
        actions += server.tell(Sampled(serving, serving, min(requests, serving), waiting))
    return actions


def test_a_saturated_server_starts_all_that_it_may_and_says_why() -> None:
    server = Server.running(2, min_workers=1, max_workers=4)
    actions = sample(server, 2, waiting=50)
    assert (len(of(Spawn, actions)), of(Resized, actions)) == (2, [Resized(4, 2)])
    assert server.has_said("workers: 4 (were 2): 100% of the threads busy, 50 connections waiting")


def test_an_idle_server_lets_one_worker_go_after_the_other() -> None:
    server = Server.running(3, min_workers=1, max_workers=4)
    actions = sample(server, 0, times=4 * 30 + 4)
    assert of(Send, actions) == [Send(1, Order.LEAVE)]
    actions = sample(server, 0, times=4 * 30)
    assert of(Send, actions) == [Send(2, Order.LEAVE)]
    assert server.serving == [3]


def test_without_max_workers_the_load_changes_nothing() -> None:
    server = Server.running(2)
    assert sample(server, 2, waiting=50, times=20) == []


def test_more_and_fewer_move_the_bounds_and_the_number() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(1))
    assert server.fleet.target == 3
    assert server.has_said("workers: 2 to 4 as the load asks for")
    server.ready_all()
    sample(server, 3, waiting=50)
    assert server.fleet.target == 4
    server.tell(Resize(-2))
    assert server.fleet.target == 2
    sample(server, 2, waiting=50)
    assert server.fleet.target == 2, "the operator does not want more"


def test_the_bounds_that_the_operator_moved_and_the_number_survive_a_reload() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(2))
    server.ready_all()
    server.reload(min_workers=1, max_workers=3)
    server.finish_reload()
    assert server.fleet.target == len(server.serving) == 4
    sample(server, 4, waiting=50)
    assert server.fleet.target == 5


def test_new_bounds_replace_moved_ones_and_hold_at_once() -> None:
    server = Server.running(4, min_workers=1, max_workers=6)
    server.tell(Resize(1))
    server.reload(workers=4, min_workers=1, max_workers=3)
    assert server.fleet.target == 3
    server.finish_reload()
    sample(server, 3, waiting=50, times=9)
    assert server.fleet.target == 3


def test_a_roll_back_restores_the_bounds_that_the_operator_had_moved() -> None:
    server = Server.running(2, min_workers=1, max_workers=3)
    server.tell(Resize(2))
    server.ready_all()
    server.reload(min_workers=1, max_workers=2)
    server.end(server.booting[0], Death(code=3))
    assert server.fleet.target == len(server.serving) == 4
    sample(server, 4, waiting=50)
    assert server.fleet.target == 5


def test_a_reload_that_turns_scaling_off_returns_to_workers() -> None:
    server = Server.running(2, min_workers=1, max_workers=8)
    sample(server, 2, waiting=50)
    server.ready_all()
    assert server.fleet.target == 8
    server.reload()
    assert server.fleet.target == 2


def test_during_a_reload_the_number_stays() -> None:
    server = Server.running(2, min_workers=1, max_workers=8)
    server.reload(min_workers=1, max_workers=8)
    assert of(Resized, sample(server, 2, waiting=50)) == []


def test_a_parked_server_stays_parked_and_wakes_with_what_the_bounds_say() -> None:
    server = Server.running(2, min_workers=2, max_workers=8)
    server.tell(Park())
    sample(server, 0)
    server.tell(Resize(-1))
    assert server.fleet.target == 0
    server.tell(Resize(1))
    server.ready_all()
    sample(server, 0)
    assert server.fleet.target == 2
