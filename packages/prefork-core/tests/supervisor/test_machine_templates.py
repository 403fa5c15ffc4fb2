# SPDX-License-Identifier: MIT
"""What the machine decides about templates, and about workers that one forks."""

from __future__ import annotations

from typing import Any

import pytest
from supervised import KILLED, Server, of

from prefork.supervisor.children import State
from prefork.supervisor.failures import LIVED
from prefork.supervisor.machine import MOST_ASKED, Machine
from prefork.supervisor.messages import (
    Abort,
    AbortTemplate,
    Death,
    Exit,
    ForkFailed,
    Gone,
    KillTemplate,
    Level,
    Order,
    Policy,
    Reaped,
    Reloaded,
    Resize,
    RolledBack,
    Send,
    Spawn,
    Start,
    StartTemplate,
    Stop,
    StopTemplate,
    TemplateEnded,
    TemplateFailed,
    TemplateReady,
    Tick,
)
from prefork.supervisor.reloading import PROOF


def running(workers: int, **policy: Any) -> Server:
    """Return a server that a template forks, and that has served for a minute."""
    return Server.running(workers, preload=True, **policy)


# The first start


def test_no_worker_is_spawned_before_the_template_is_ready() -> None:
    server = Server(3, preload=True)
    assert of(StartTemplate, server.first) == [StartTemplate(1, 1)]
    assert not of(Spawn, server.first)
    assert len(of(Spawn, server.tell(TemplateReady(1)))) == 3


def test_without_preload_there_is_no_template() -> None:
    server = Server(2, preload=False)
    assert not of(StartTemplate, server.first)
    assert len(of(Spawn, server.first)) == 2


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (4, 4), (7, 3)])
def test_a_template_that_cannot_load_ends_a_start_as_a_worker_would(code: int, exit_code: int) -> None:
    server = Server(preload=True)
    actions = server.tell(TemplateEnded(1, Death(code=code)))
    assert of(Exit, actions) == [Exit(exit_code)]
    assert server.has_said(f"the first worker could not boot: giving up (exit code {exit_code})")


def test_a_template_that_loads_for_too_long_shows_its_stack_and_ends_the_start() -> None:
    server = Server(boot_timeout=5.0, preload=True)
    actions = server.wait(5.0)
    assert of(AbortTemplate, actions) == [AbortTemplate(1, "is not ready after 5.0 s (boot_timeout)")]
    assert not of(Exit, actions)
    assert of(Exit, server.tell(TemplateEnded(1, Death(signal=6, signal_name="SIGABRT")))) == [Exit(3)]


def test_a_template_that_ignores_the_abort_is_killed() -> None:
    server = Server(boot_timeout=5.0, preload=True)
    server.wait(5.0)
    assert of(KillTemplate, server.wait(1.0)) == [KillTemplate(1, "did not end on SIGABRT")]


def test_without_memory_for_a_template_the_start_is_tried_again() -> None:
    machine = Machine(Policy(1, preload=True))
    assert StartTemplate(1, 1) in machine.step(Start(), 0.0)
    machine.step(TemplateFailed(1, "no memory"), 0.0)
    due = machine.next_deadline()
    assert due is not None
    assert StartTemplate(2, 1) in machine.step(Tick(), due)


def test_loading_does_not_count_for_the_boot_of_a_worker() -> None:
    server = Server(1, boot_timeout=5.0, preload=True)
    server.wait(4.0)
    server.tell(TemplateReady(1))
    assert not of(Abort, server.wait(4.9))
    assert of(Abort, server.wait(0.1))


def test_a_template_is_ordered_no_more_forks_at_once_than_a_socket_holds() -> None:
    server = Server(MOST_ASKED + 5, preload=True)
    assert len(of(Spawn, server.tell(TemplateReady(1)))) == MOST_ASKED
    assert len(of(Spawn, server.fork(1))) == 1


# Workers that are not there yet


def test_a_worker_that_was_not_forked_is_tried_again() -> None:
    server = running(1)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    server.tell(ForkFailed(serial, "no memory"))
    assert server.has_said("cannot start a worker: no memory")
    assert len(of(Spawn, server.wait(1.0))) == 1


def test_one_that_was_told_to_go_before_it_was_forked_is_no_failure() -> None:
    server = running(1)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    assert Send(serial, Order.LEAVE) in server.tell(Resize(-1))
    before = len(server.said)
    server.tell(ForkFailed(serial, "the template has not forked it"))
    assert {say.level for say in server.said[before:]} == {Level.DEBUG}
    assert server.fleet.children.get(serial) is None


def test_a_template_that_does_not_fork_within_boot_timeout_is_killed_and_started_again() -> None:
    server = running(1, boot_timeout=5.0)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    actions = server.wait(5.0)
    assert of(KillTemplate, actions) == [KillTemplate(1, "has not forked a worker in time")]
    actions = server.tell(ForkFailed(serial, "")) + server.tell(TemplateEnded(1, KILLED))
    assert of(StartTemplate, actions) == [StartTemplate(2, 1)]


def test_one_that_does_not_even_drop_an_order_is_killed_too() -> None:
    server = running(1)
    server.tell(Resize(1))
    server.tell(Resize(-1))
    actions = server.wait(1.0)
    assert of(KillTemplate, actions) == [KillTemplate(1, "has not forked a worker in time")]


# One that dies later


def test_one_that_dies_is_started_again_while_the_workers_serve() -> None:
    server = running(2)
    actions = server.tell(TemplateEnded(1, KILLED)) + server.wait(1.0)
    assert of(StartTemplate, actions) == [StartTemplate(2, 1)]
    assert len(server.serials(State.READY)) == 2
    assert not of(Send, actions)
    assert server.has_said(
        "template 501 (generation 1) ended unexpectedly while it was needed: killed by SIGKILL"
    )


def test_one_that_can_load_no_more_is_tried_ever_more_slowly() -> None:
    server = running(2)
    server.tell(TemplateEnded(1, KILLED))
    tries = 0
    for _ in range(1200):
        actions = server.wait(0.5)
        for started in of(StartTemplate, actions):
            assert isinstance(started, StartTemplate)
            tries += 1
            server.tell(TemplateEnded(started.number, Death(code=3)))
    assert 20 <= tries <= 32
    assert len(server.serials(State.READY)) == 2


def test_no_worker_is_spawned_while_the_template_is_away() -> None:
    server = running(2)
    server.tell(TemplateEnded(1, KILLED))
    (first, _) = server.serials(State.READY)
    assert not of(Spawn, server.tell(Reaped(first, KILLED)))
    server.wait(LIVED)
    assert len(of(Spawn, server.tell(TemplateReady(2)))) == 1


# Reloads


def test_a_reload_loads_new_code_and_then_ends_the_old_template() -> None:
    server = running(2)
    actions = server.reload()
    assert of(StartTemplate, actions) == [StartTemplate(2, 2)]
    assert not of(Spawn, actions)
    assert len(of(Spawn, server.tell(TemplateReady(2)))) == 1
    actions = server.finish_reload()
    assert Reloaded(2) in actions
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    assert Gone(1) not in actions
    assert Gone(1) in server.tell(TemplateEnded(1, Death(code=0)))


def test_new_code_that_cannot_be_loaded_is_rolled_back() -> None:
    server = running(2)
    server.reload()
    actions = server.tell(TemplateEnded(2, Death(code=3)))
    assert RolledBack(2, 1) in actions
    assert server.has_said(
        "reload rolled back: template 502 (generation 2): exit code 3: it could not boot; "
        "generation 1 serves on"
    )
    assert not of(StopTemplate, actions)
    assert server.fleet.templates.forking(1)


def test_new_code_that_loads_for_too_long_is_rolled_back() -> None:
    server = running(2)
    server.reload(boot_timeout=3.0)
    actions = server.wait(3.0)
    assert of(AbortTemplate, actions)
    assert RolledBack(2, 1) in actions


def test_after_a_roll_back_the_old_template_replaces_what_was_replaced() -> None:
    """So with the code of before, whatever is on the disk."""
    server = running(4)
    server.reload()
    server.tell(TemplateReady(2))
    (new,) = server.serials(State.BOOTING)
    server.ready_all()
    server.wait(PROOF)
    server.end_all_leaving()
    actions = server.tell(Reaped(new, KILLED))
    assert RolledBack(2, 1) in actions
    spawned = [action for action in of(Spawn, actions) if isinstance(action, Spawn)]
    assert {spawn.generation for spawn in spawned} == {1}
    assert of(StopTemplate, actions) == [StopTemplate(2)]


def test_a_reload_during_a_reload_keeps_the_template_to_return_to() -> None:
    server = running(2)
    server.reload()
    actions = server.reload()
    assert of(StopTemplate, actions) == [StopTemplate(2)]
    assert of(StartTemplate, actions) == [StartTemplate(3, 3)]
    assert server.fleet.templates.forking(1)


def test_a_reload_can_turn_preload_off_and_on() -> None:
    server = running(2)
    actions = server.reload(preload=False)
    assert of(Spawn, actions)
    assert not of(StartTemplate, actions)
    assert of(StopTemplate, server.finish_reload()) == [StopTemplate(1)]
    server.tell(TemplateEnded(1, Death(code=0)))
    actions = server.reload(preload=True)
    assert of(StartTemplate, actions) == [StartTemplate(2, 3)]
    assert not of(Spawn, actions)


# The end


@pytest.mark.parametrize("quick", [False, True])
def test_a_stop_ends_the_template_at_once_and_waits_for_it(*, quick: bool) -> None:
    server = running(1)
    actions = server.tell(Stop(quick=quick))
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    assert not of(Exit, server.end_all_leaving())
    assert of(Exit, server.tell(TemplateEnded(1, Death(code=0)))) == [Exit(0)]


def test_a_template_that_does_not_stop_is_killed() -> None:
    server = running(1)
    server.tell(Stop())
    assert of(KillTemplate, server.wait(2.0)) == [KillTemplate(1, "did not stop in time")]


def test_a_template_stuck_in_the_kernel_does_not_hold_up_the_end() -> None:
    server = running(1)
    server.tell(Stop())
    server.end_all_leaving()
    assert of(Exit, server.wait(10.0)) == [Exit(0)]
