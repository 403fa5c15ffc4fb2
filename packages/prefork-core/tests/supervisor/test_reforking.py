# SPDX-License-Identifier: MIT
"""When a worker becomes the template, and what follows."""

from __future__ import annotations

from typing import Any

from supervised import CLEAN, KILLED, Server, of

from prefork.supervisor.children import Child, State, Warmth
from prefork.supervisor.messages import (
    Action,
    Death,
    Forked,
    Level,
    Order,
    Overdue,
    Plight,
    Promote,
    Reaped,
    Report,
    Reported,
    Resize,
    Send,
    Spawn,
    StartTemplate,
    Stop,
    StopTemplate,
    TemplateEnded,
    TemplateReady,
)
from prefork.supervisor.reforking import MOST_TRIES


def running(workers: int = 2, **policy: Any) -> Server:
    """Return a server whose template has booted, and that has served for a minute."""
    given: dict[str, Any] = {"preload": True, "refork": 500, **policy}
    return Server.running(workers, **given)


def reported(server: Server, serial: int, report: Report) -> list[Action]:
    return server.tell(Reported(serial, report))


def child(server: Server, serial: int) -> Child:
    found = server.fleet.children.get(serial)
    assert found is not None
    return found


def drain_one(server: Server) -> tuple[int, list[Action]]:
    """Let a worker be warm, and its successor be ready; return who it is, and what it is told."""
    serial = server.serving[0]
    reported(server, serial, Report.WARM)
    return serial, server.ready_all()


def refork(server: Server) -> list[Action]:
    serial, _ = drain_one(server)
    return reported(server, serial, Report.TEMPLATE)


def test_a_warm_worker_is_replaced_first_and_then_told_to_be_the_template() -> None:
    server = running(2)
    serial = server.serving[0]
    actions = reported(server, serial, Report.WARM)
    assert len(of(Spawn, actions)) == 1
    assert not of(Send, actions)
    assert server.has_said("is warm and is to be the next template: starting its successor", Level.INFO)
    assert of(Send, server.ready_all()) == [Send(serial, Order.REFORK)]


def test_it_takes_the_place_of_the_old_template_and_leaves_its_slot() -> None:
    server = running(2)
    serial, _ = drain_one(server)
    pid = child(server, serial).pid
    actions = reported(server, serial, Report.TEMPLATE)
    assert of(Promote, actions) == [Promote(serial, 2)]
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    assert server.fleet.children.get(serial) is None
    template = server.fleet.templates.forking(1)
    assert template is not None
    assert (template.number, template.pid, template.is_warm) == (2, pid, True)
    assert server.fleet.reforks == 1


def test_the_other_workers_are_replaced_by_its_own_one_after_the_other() -> None:
    server = running(3)
    old = set(server.serving[1:])
    spawned = [action.template for action in refork(server) if isinstance(action, Spawn)]
    for _ in range(6):
        spawned += [action.template for action in server.ready_all() if isinstance(action, Spawn)]
        for serial in server.leaving:
            spawned += [a.template for a in server.tell(Reaped(serial, CLEAN)) if isinstance(a, Spawn)]
            assert len(server.serving) >= 3
    assert spawned == [2, 2, 2], "those of before, and the first successor"
    assert not old & set(server.serving)
    assert {child(server, serial).template for serial in server.serving} == {2}


def test_one_in_ten_is_replaced_at_once() -> None:
    server = running(30)
    refork(server)
    assert len(server.fleet.children.among(State.RETIRING)) == 3


def test_it_happens_once_in_a_generation() -> None:
    server = running(2)
    refork(server)
    server.finish_reload()
    for serial in server.serving:
        assert not of(Spawn, reported(server, serial, Report.WARM))
    assert server.fleet.reforks == 1


def test_a_reload_begins_with_a_template_that_has_booted_and_it_happens_again() -> None:
    server = running(2)
    refork(server)
    server.finish_reload()
    server.reload(preload=True, refork=500)
    server.tell(TemplateReady(3))
    server.finish_reload()
    assert Promote(server.serving[0], 4) in refork(server)


def test_the_old_template_first_forks_what_it_has_been_ordered() -> None:
    server = running(2)
    serial, _ = drain_one(server)
    actions = server.tell(Resize(1))
    assert [a.template for a in actions if isinstance(a, Spawn)] == [1]
    assert not of(StopTemplate, reported(server, serial, Report.TEMPLATE))
    ordered = server.booting[0]
    assert of(StopTemplate, server.tell(Forked(ordered, 4321))) == [StopTemplate(1)]


def test_without_refork_or_preload_a_warm_worker_is_nothing_special() -> None:
    for changes in ({"refork": 0}, {"preload": False}):
        server = running(2, **changes)
        assert not of(Spawn, reported(server, server.serving[0], Report.WARM))


# What is in the way


def test_one_that_ends_instead_is_counted_and_another_one_is_tried() -> None:
    server = running(2)
    serial, _ = drain_one(server)
    server.tell(Reaped(serial, CLEAN))
    assert server.has_said("is no template, the old one stays; another one is tried", Level.WARNING)
    assert (server.fleet.reforks, server.fleet.failed_reforks) == (0, 1)
    assert server.fleet.templates.forking(1) is not None
    second, actions = drain_one(server)
    assert Send(second, Order.REFORK) in actions


def test_after_some_attempts_there_is_no_other_before_a_reload() -> None:
    server = running(2)
    for _ in range(MOST_TRIES):
        serial, _ = drain_one(server)
        server.tell(Reaped(serial, CLEAN))
    assert server.has_said("no other one is tried before a reload", Level.WARNING)
    assert not of(Spawn, reported(server, server.serving[0], Report.WARM))
    server.reload(preload=True, refork=500)
    server.tell(TemplateReady(2))
    server.finish_reload()
    serial, actions = drain_one(server)
    assert Send(serial, Order.REFORK) in actions


def test_one_that_is_killed_on_the_way_counts_as_one_that_is_not_fit() -> None:
    server = running(2, graceful_timeout=5.0)
    serial, _ = drain_one(server)
    server.wait(5.0)
    server.tell(Reaped(serial, KILLED))
    assert server.fleet.failed_reforks == 1


def test_one_that_says_so_though_nobody_asked_is_not_believed() -> None:
    server = running(2)
    serial = server.serving[0]
    assert not of(Promote, reported(server, serial, Report.TEMPLATE))
    assert child(server, serial).state is State.READY


def test_one_with_a_stuck_request_only_leaves() -> None:
    server = running(2)
    serial = server.serving[0]
    reported(server, serial, Report.WARM)
    server.tell(Overdue(serial, plight=Plight.SERVES))
    assert of(Send, server.ready_all()) == [Send(serial, Order.LEAVE)]
    assert server.fleet.failed_reforks == 0


def test_while_the_template_is_away_nobody_is_chosen() -> None:
    server = running(2)
    server.tell(TemplateEnded(1, KILLED))
    serial = server.serving[0]
    reported(server, serial, Report.WARM)
    assert child(server, serial).warmth is Warmth.WARM
    server.wait(1.0)
    server.tell(TemplateReady(2))
    assert child(server, serial).warmth is Warmth.CHOSEN


def test_one_that_dies_later_is_booted_again_and_the_next_warm_worker_follows() -> None:
    server = running(2)
    refork(server)
    server.finish_reload()
    server.tell(TemplateEnded(1, CLEAN))
    actions = server.tell(TemplateEnded(2, KILLED)) + server.wait(1.0)
    assert of(StartTemplate, actions) == [StartTemplate(3, 1)]
    server.tell(TemplateReady(3))
    serial, actions = drain_one(server)
    assert Send(serial, Order.REFORK) in actions


def test_the_old_one_may_die_when_there_is_a_new_one() -> None:
    """Nothing is started in its place."""
    server = running(2)
    serial, _ = drain_one(server)
    server.tell(Resize(1))
    reported(server, serial, Report.TEMPLATE)
    actions = server.tell(TemplateEnded(1, KILLED)) + server.wait(5.0)
    assert not of(StartTemplate, actions)


# Reloads and stops meanwhile


def test_a_reload_before_it_is_told_only_has_it_leave() -> None:
    server = running(2)
    serial = server.serving[0]
    reported(server, serial, Report.WARM)
    server.reload(preload=True, refork=500)
    server.tell(TemplateReady(2))
    orders = [action for _ in range(5) for action in (*server.ready_all(), *server.wait(1.0))]
    assert Send(serial, Order.LEAVE) in orders
    assert Send(serial, Order.REFORK) not in orders


def test_a_reload_afterwards_has_it_stand_by_for_a_roll_back() -> None:
    server = running(2)
    serial, _ = drain_one(server)
    server.reload(preload=True, refork=500)
    actions = reported(server, serial, Report.TEMPLATE)
    assert of(Promote, actions) == [Promote(serial, 3)]
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    server.tell(TemplateEnded(2, Death(code=3)))
    template = server.fleet.templates.forking(1)
    assert template is not None
    assert template.is_warm


def test_a_stop_ends_one_that_comes_too_late() -> None:
    server = running(1)
    serial, _ = drain_one(server)
    server.tell(Stop())
    actions = reported(server, serial, Report.TEMPLATE)
    assert of(StopTemplate, actions) == [StopTemplate(2)]
    assert server.fleet.failed_reforks == 0


def test_one_that_ends_because_the_server_stops_has_not_failed() -> None:
    server = running(1)
    serial, _ = drain_one(server)
    server.tell(Stop())
    server.tell(Reaped(serial, CLEAN))
    assert server.fleet.failed_reforks == 0
