# SPDX-License-Identifier: MIT
"""When there is a status process, and for which generation. What always holds: `test_machine_lifetimes`."""

from __future__ import annotations

from supervised import KILLED, Server, of

from prefork.supervisor.messages import (
    Death,
    Exit,
    Gone,
    KillStatus,
    Policy,
    Reload,
    Spawn,
    StartStatus,
    StatusEnded,
    StatusFailed,
    StatusForked,
    StatusSilent,
    Stop,
    StopStatus,
)
from prefork.supervisor.statuses import STOP_GRACE


def serving() -> Server:
    """Return a running server with a status process."""
    server = Server.running(2, status=True)
    server.tell(StatusForked(1, 4711))
    return server


def test_it_starts_with_the_server_and_so_tells_of_the_start() -> None:
    server = Server(1, status=True)
    assert len(server.machine.fleet.statuses) == 1
    assert server.booting


def test_there_is_none_that_was_not_asked_for() -> None:
    assert not len(Server(1).machine.fleet.statuses)


def test_one_that_ends_is_started_again_later_each_time() -> None:
    server = serving()
    waits = []
    for _ in range(4):
        assert of(StartStatus, server.tell(StatusEnded(1, KILLED))) == []
        ended = server.now
        while not of(StartStatus, server.wait(0.05)):
            pass
        waits.append(server.now - ended)
    assert waits == sorted(waits)
    assert waits[3] > 4 * waits[0] > 0
    end = "ended: killed by SIGKILL; the next one starts in 0.1 s"
    assert server.has_said(f"status process 4711 (generation 1) {end}")


def test_one_that_cannot_be_started_is_tried_again() -> None:
    server = Server(1, status=True)
    server.tell(StatusFailed(1, "no memory"))
    assert server.has_said("cannot start a status process: no memory; the next one starts in 0.1 s")
    assert of(StartStatus, server.wait(0.2)) == [StartStatus(1)]


def test_one_that_gives_no_sign_of_life_is_killed_once_and_another_follows() -> None:
    server = serving()
    assert server.tell(StatusSilent(1)) == [KillStatus(1, "does not answer any more")]
    assert server.tell(StatusSilent(1)) == []
    server.tell(StatusEnded(1, KILLED))
    assert of(StartStatus, server.wait(1.0)) == [StartStatus(1)]


def test_during_a_reload_the_old_one_answers_and_afterwards_the_new_one() -> None:
    """The new one starts before the old one is told to end."""
    server = serving()
    actions = server.reload(status=True)
    assert of(Spawn, actions)
    assert not of(StartStatus, actions)
    while server.machine.fleet.rollout is not None:
        assert server.machine.fleet.statuses.generations() == {1}
        actions = server.ready_all() + server.wait(0.5)
        server.end_all_leaving()
    assert [*of(StartStatus, actions), *of(StopStatus, actions)] == [StartStatus(2), StopStatus(1)]
    assert actions.index(StartStatus(2)) < actions.index(StopStatus(1))


def test_a_reload_that_is_rolled_back_changes_nothing() -> None:
    server = serving()
    server.reload(status=False)
    actions = server.end(server.booting[0], Death(code=3)) + server.wait(60.0)
    assert not [*of(StartStatus, actions), *of(StopStatus, actions)]
    assert server.machine.fleet.statuses.generations() == {1}


def test_a_reload_can_end_it_and_begin_it() -> None:
    server = serving()
    server.reload(status=False)
    server.finish_reload()
    server.tell(StatusEnded(1, Death(code=0)))
    assert not len(server.machine.fleet.statuses)
    server.reload(status=True)
    server.finish_reload()
    assert server.machine.fleet.statuses.generations() == {3}


def test_its_generation_is_not_gone_before_it_has_ended() -> None:
    """Its listener is closed then."""
    server = serving()
    server.tell(Reload(2, Policy(2, status=True)))
    while server.machine.fleet.rollout is not None:
        server.ready_all()
        server.wait(0.5)
        assert not of(Gone, server.end_all_leaving())
    server.end_all_leaving()
    assert of(Gone, server.tell(StatusEnded(1, Death(code=0)))) == [Gone(1)]


def test_it_answers_until_the_last_worker_has_ended_and_then_the_server_waits_for_it() -> None:
    server = serving()
    assert not of(StopStatus, server.tell(Stop()))
    first, second = server.leaving
    assert not of(StopStatus, server.end(first))
    actions = server.end(second)
    assert of(StopStatus, actions) == [StopStatus(1)]
    assert not of(Exit, actions)
    assert of(Exit, server.tell(StatusEnded(1, Death(code=0)))) == [Exit(0)]


def test_one_that_dies_while_the_server_stops_is_started_again() -> None:
    server = serving()
    server.tell(Stop())
    server.tell(StatusEnded(1, KILLED))
    assert of(StartStatus, server.wait(1.0)) == [StartStatus(1)]


def test_one_that_dies_when_a_stop_has_ended_a_reload_is_followed_by_one_of_the_new_generation() -> None:
    """Of the old one's listeners none may be left by then."""
    server = serving()
    server.tell(Reload(2, Policy(workers=2, status=True)))
    server.tell(Stop(quick=False))
    actions = [*server.tell(StatusEnded(1, KILLED)), *server.wait(1.0)]
    assert of(StartStatus, actions) == [StartStatus(2)]


def test_one_that_does_not_stop_is_killed_and_one_that_does_not_die_is_left_behind() -> None:
    server = serving()
    server.tell(Stop())
    server.end_all_leaving()
    assert of(KillStatus, server.wait(STOP_GRACE)) == [KillStatus(1, "did not stop in time")]
    assert of(Exit, server.wait(60.0)) == [Exit(0)]
    assert server.has_said("does not end on SIGKILL: stuck in the kernel")


def test_a_first_boot_that_fails_ends_the_server_with_it() -> None:
    server = Server(1, status=True)
    actions = server.end(server.booting[0], Death(code=3))
    assert of(StopStatus, actions) == [StopStatus(1)]
    assert of(Exit, server.tell(StatusEnded(1, Death(code=0)))) == [Exit(3)]
