# SPDX-License-Identifier: MIT
"""What the machine decides about templates, and about workers that one forks."""

from __future__ import annotations

from typing import Any

import pytest

from prefork.supervisor.children import State
from prefork.supervisor.machine import LIVED, MOST_ASKED, PROOF, Machine
from prefork.supervisor.messages import (
    Abort,
    AbortTemplate,
    Action,
    Death,
    Event,
    Exit,
    Forked,
    ForkFailed,
    Gone,
    KillTemplate,
    Level,
    Order,
    Policy,
    Reaped,
    Reload,
    Reloaded,
    Report,
    Reported,
    Resize,
    RolledBack,
    Say,
    Send,
    Spawn,
    Start,
    StartTemplate,
    Stop,
    StopTemplate,
    TemplateEnded,
    TemplateFailed,
    TemplateForked,
    TemplateReady,
    Tick,
)

KILLED = Death(signal=9, signal_name="SIGKILL")


class Server:
    """A machine whose templates are forked at once, and their workers when the test says so."""

    def __init__(self, workers: int = 2, **policy: Any) -> None:
        self.policy = Policy(workers, **{"preload": True, **policy})
        self.machine = Machine(self.policy)
        self.now = 100.0
        self.said: list[Say] = []
        self.generation = 1
        self.first = self.tell(Start())

    @classmethod
    def running(cls, workers: int = 2, **policy: Any) -> Server:
        """Return a server that has served for a minute."""
        server = cls(workers, **policy)
        server.tell(TemplateReady(1))
        server.bear_all()
        server.wait(60.0)
        return server

    def tell(self, event: Event) -> list[Action]:
        actions = list(self.machine.step(event, self.now))
        self.said += [action for action in actions if isinstance(action, Say)]
        for action in list(actions):
            if isinstance(action, StartTemplate):
                actions += self.tell(TemplateForked(action.generation, 500 + action.generation))
        return [action for action in actions if not isinstance(action, Say)]

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick whenever the machine wants one."""
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.machine.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            actions += self.tell(Tick())
        self.now = end
        return actions + self.tell(Tick())

    def bear_all(self) -> list[Action]:
        """Let every worker that is ordered be forked, and every one that boots be ready."""
        actions = []
        for serial in self.serials(State.BOOTING):
            actions += self.tell(Forked(serial, 1000 + serial))
            actions += self.tell(Reported(serial, Report.READY))
        return actions

    def end_all_leaving(self) -> list[Action]:
        return [
            a for serial in self.serials(State.STOPPING) for a in self.tell(Reaped(serial, Death(code=0)))
        ]

    def reload(self, **changes: Any) -> list[Action]:
        self.generation += 1
        policy = {"workers": self.policy.workers, "preload": True, **changes}
        return self.tell(Reload(self.generation, Policy(**policy)))

    def finish_reload(self) -> list[Action]:
        """Let every new worker boot, and every old one end."""
        actions = []
        for _ in range(self.machine.target + 1):
            actions += self.bear_all()
            actions += self.wait(PROOF)
            actions += self.end_all_leaving()
        return actions

    def serials(self, *states: State) -> list[int]:
        return [child.serial for child in self.machine.children.among(*states)]

    def heard(self, text: str, level: Level = Level.ERROR) -> bool:
        return any(text in say.text and say.level is level for say in self.said)


def of(kind: type[Action], actions: list[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


# The first start


def test_no_worker_is_spawned_before_the_template_is_ready() -> None:
    server = Server(3)
    assert of(StartTemplate, server.first) == [StartTemplate(1)]
    assert not of(Spawn, server.first)
    assert len(of(Spawn, server.tell(TemplateReady(1)))) == 3


def test_without_preload_there_is_no_template() -> None:
    server = Server(2, preload=False)
    assert not of(StartTemplate, server.first)
    assert len(of(Spawn, server.first)) == 2


@pytest.mark.parametrize(("code", "exit_code"), [(3, 3), (4, 4), (7, 3)])
def test_a_template_that_cannot_load_ends_a_start_as_a_worker_would(code: int, exit_code: int) -> None:
    server = Server()
    actions = server.tell(TemplateEnded(1, Death(code=code)))
    assert of(Exit, actions) == [Exit(exit_code)]
    assert server.heard(f"the first worker could not boot: giving up (exit code {exit_code})")


def test_a_template_that_loads_for_too_long_shows_its_stack_and_ends_the_start() -> None:
    server = Server(boot_timeout=5.0)
    actions = server.wait(5.0)
    assert of(AbortTemplate, actions) == [AbortTemplate(1, "is not ready after 5.0 s (boot_timeout)")]
    assert not of(Exit, actions)
    assert of(Exit, server.tell(TemplateEnded(1, Death(signal=6, signal_name="SIGABRT")))) == [Exit(3)]


def test_a_template_that_ignores_the_abort_is_killed() -> None:
    server = Server(boot_timeout=5.0)
    server.wait(5.0)
    assert of(KillTemplate, server.wait(1.0)) == [KillTemplate(1, "did not end on SIGABRT")]


def test_without_memory_for_a_template_the_start_is_tried_again() -> None:
    machine = Machine(Policy(1, preload=True))
    assert StartTemplate(1) in machine.step(Start(), 0.0)
    machine.step(TemplateFailed(1, "no memory"), 0.0)
    due = machine.next_deadline()
    assert due is not None
    assert StartTemplate(1) in machine.step(Tick(), due)


def test_loading_does_not_count_for_the_boot_of_a_worker() -> None:
    server = Server(1, boot_timeout=5.0)
    server.wait(4.0)
    server.tell(TemplateReady(1))
    assert not of(Abort, server.wait(4.9))
    assert of(Abort, server.wait(0.1))


def test_a_template_is_ordered_no_more_forks_at_once_than_a_socket_holds() -> None:
    server = Server(MOST_ASKED + 5)
    assert len(of(Spawn, server.tell(TemplateReady(1)))) == MOST_ASKED
    assert len(of(Spawn, server.tell(Forked(1, 1001)))) == 1


# Workers that are not there yet


def test_a_worker_that_was_not_forked_is_tried_again() -> None:
    server = Server.running(1)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    server.tell(ForkFailed(serial, "no memory"))
    assert server.heard("cannot start a worker: no memory")
    assert len(of(Spawn, server.wait(1.0))) == 1


def test_one_that_was_told_to_go_before_it_was_forked_is_no_failure() -> None:
    server = Server.running(1)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    assert Send(serial, Order.LEAVE) in server.tell(Resize(-1))
    before = len(server.said)
    server.tell(ForkFailed(serial, "the template has not forked it"))
    assert {say.level for say in server.said[before:]} == {Level.DEBUG}
    assert server.machine.children.get(serial) is None


def test_a_template_that_does_not_fork_within_boot_timeout_is_killed_and_started_again() -> None:
    server = Server.running(1, boot_timeout=5.0)
    server.tell(Resize(1))
    (serial,) = server.serials(State.BOOTING)
    actions = server.wait(5.0)
    assert of(KillTemplate, actions) == [KillTemplate(1, "has not forked a worker in time")]
    actions = server.tell(ForkFailed(serial, "")) + server.tell(TemplateEnded(1, KILLED))
    assert of(StartTemplate, actions) == [StartTemplate(1)]


def test_one_that_does_not_even_drop_an_order_is_killed_too() -> None:
    server = Server.running(1)
    server.tell(Resize(1))
    server.tell(Resize(-1))
    actions = server.wait(1.0)
    assert of(KillTemplate, actions) == [KillTemplate(1, "has not forked a worker in time")]


# One that dies later


def test_one_that_dies_is_started_again_while_the_workers_serve() -> None:
    server = Server.running(2)
    actions = server.tell(TemplateEnded(1, KILLED)) + server.wait(1.0)
    assert of(StartTemplate, actions) == [StartTemplate(1)]
    assert len(server.serials(State.READY)) == 2
    assert not of(Send, actions)
    assert server.heard(
        "template 501 (generation 1) ended unexpectedly while it was needed: killed by SIGKILL"
    )


def test_one_that_can_load_no_more_is_tried_ever_more_slowly() -> None:
    server = Server.running(2)
    server.tell(TemplateEnded(1, KILLED))
    tries = 0
    for _ in range(1200):
        actions = server.wait(0.5)
        if of(StartTemplate, actions):
            tries += 1
            server.tell(TemplateEnded(1, Death(code=3)))
    assert 20 <= tries <= 32
    assert len(server.serials(State.READY)) == 2


def test_no_worker_is_spawned_while_the_template_is_away() -> None:
    server = Server.running(2)
    server.tell(TemplateEnded(1, KILLED))
    (first, _) = server.serials(State.READY)
    assert not of(Spawn, server.tell(Reaped(first, KILLED)))
    server.wait(LIVED)
    assert len(of(Spawn, server.tell(TemplateReady(1)))) == 1


# Reloads


def test_a_reload_loads_new_code_and_then_ends_the_old_template() -> None:
    server = Server.running(2)
    actions = server.reload()
    assert of(StartTemplate, actions) == [StartTemplate(2)]
    assert not of(Spawn, actions)
    assert len(of(Spawn, server.tell(TemplateReady(2)))) == 1
    actions = server.finish_reload()
    assert Reloaded(2) in actions
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    assert Gone(1) not in actions
    assert Gone(1) in server.tell(TemplateEnded(1, Death(code=0)))


def test_new_code_that_cannot_be_loaded_is_rolled_back() -> None:
    server = Server.running(2)
    server.reload()
    actions = server.tell(TemplateEnded(2, Death(code=3)))
    assert RolledBack(2, 1) in actions
    assert server.heard(
        "reload rolled back: template 502 (generation 2): exit code 3: it could not boot; "
        "generation 1 serves on"
    )
    assert not of(StopTemplate, actions)
    assert server.machine.templates.can_fork(1)


def test_new_code_that_loads_for_too_long_is_rolled_back() -> None:
    server = Server.running(2)
    server.reload(boot_timeout=3.0)
    actions = server.wait(3.0)
    assert of(AbortTemplate, actions)
    assert RolledBack(2, 1) in actions


def test_after_a_roll_back_the_old_template_replaces_what_was_replaced() -> None:
    """So with the code of before, whatever is on the disk."""
    server = Server.running(4)
    server.reload()
    server.tell(TemplateReady(2))
    (new,) = server.serials(State.BOOTING)
    server.bear_all()
    server.wait(PROOF)
    server.end_all_leaving()
    actions = server.tell(Reaped(new, KILLED))
    assert RolledBack(2, 1) in actions
    spawned = [action for action in of(Spawn, actions) if isinstance(action, Spawn)]
    assert {spawn.generation for spawn in spawned} == {1}
    assert of(StopTemplate, actions) == [StopTemplate(2)]


def test_a_reload_during_a_reload_keeps_the_template_to_return_to() -> None:
    server = Server.running(2)
    server.reload()
    actions = server.reload()
    assert of(StopTemplate, actions) == [StopTemplate(2)]
    assert of(StartTemplate, actions) == [StartTemplate(3)]
    assert server.machine.templates.can_fork(1)


def test_a_reload_can_turn_preload_off_and_on() -> None:
    server = Server.running(2)
    actions = server.reload(preload=False)
    assert of(Spawn, actions)
    assert not of(StartTemplate, actions)
    assert of(StopTemplate, server.finish_reload()) == [StopTemplate(1)]
    server.tell(TemplateEnded(1, Death(code=0)))
    actions = server.reload(preload=True)
    assert of(StartTemplate, actions) == [StartTemplate(3)]
    assert not of(Spawn, actions)


# The end


@pytest.mark.parametrize("quick", [False, True])
def test_a_stop_ends_the_template_at_once_and_waits_for_it(*, quick: bool) -> None:
    server = Server.running(1)
    actions = server.tell(Stop(quick=quick))
    assert of(StopTemplate, actions) == [StopTemplate(1)]
    assert not of(Exit, server.end_all_leaving())
    assert of(Exit, server.tell(TemplateEnded(1, Death(code=0)))) == [Exit(0)]


def test_a_template_that_does_not_stop_is_killed() -> None:
    server = Server.running(1)
    server.tell(Stop())
    assert of(KillTemplate, server.wait(2.0)) == [KillTemplate(1, "did not stop in time")]


def test_a_template_stuck_in_the_kernel_does_not_hold_up_the_end() -> None:
    server = Server.running(1)
    server.tell(Stop())
    server.end_all_leaving()
    assert of(Exit, server.wait(10.0)) == [Exit(0)]
