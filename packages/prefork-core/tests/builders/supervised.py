# SPDX-License-Identifier: MIT
"""A supervisor's machine with a clock that moves by hand, and children that do what the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prefork.supervisor.children import SERVING, State
from prefork.supervisor.machine import Machine
from prefork.supervisor.messages import (
    Death,
    Forked,
    ForkFailed,
    Policy,
    Reaped,
    Reload,
    Report,
    Reported,
    Say,
    Spawn,
    Start,
    StartTemplate,
    TemplateForked,
    TemplateReady,
    Tick,
)
from prefork.supervisor.reloading import PROOF

if TYPE_CHECKING:
    from prefork.supervisor.messages import Action, Event, Level

CLEAN: Final = Death(code=0)
KILLED: Final = Death(signal=9, signal_name="SIGKILL")
SEGFAULT: Final = Death(signal=11, signal_name="SIGSEGV")
MIB: Final = 1024**2


class Server:
    """A machine whose forks succeed at once; those of a template when the worker is to be ready.

    Each method returns the actions of its step. `booting`, `serving`, `leaving` are serials.
    """

    def __init__(self, workers: int = 2, *, slots: int = 1024, predecessor: int = 0, **policy: Any) -> None:
        self.policy = Policy(workers, **policy)
        self.machine = Machine(self.policy, slots=slots, predecessor=predecessor)
        self.fleet = self.machine.fleet
        self.now = 100.0
        self.said: list[Say] = []
        self.forks_fail = False
        self.generation = 1
        self.first = self.tell(Start())

    @classmethod
    def running(cls, workers: int = 2, **policy: Any) -> Server:
        """Return a server whose workers have been ready for a minute."""
        server = cls(workers, **policy)
        server.tell(TemplateReady(1))
        server.ready_all()
        server.wait(60.0)
        return server

    def tell(self, event: Event) -> list[Action]:
        actions = self.machine.step(event, self.now)
        self.said += [action for action in actions if isinstance(action, Say)]
        for action in list(actions):
            if isinstance(action, StartTemplate):
                actions += self.tell(TemplateForked(action.number, 500 + action.number))
            elif isinstance(action, Spawn) and self.forks_fail:
                actions += self.tell(ForkFailed(action.serial, "no memory"))
            elif isinstance(action, Spawn) and not self.fleet.policy.preload:
                actions += self.fork(action.serial)
        return actions

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, with a tick whenever the machine wants one."""
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.machine.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            actions += self.tell(Tick())
        self.now = end
        return actions + self.tell(Tick())

    def fork(self, serial: int) -> list[Action]:
        return self.tell(Forked(serial, 1000 + serial))

    def ready(self, serial: int) -> list[Action]:
        child = self.fleet.children.get(serial)
        forked = [] if child is None or child.pid else self.fork(serial)
        return forked + self.tell(Reported(serial, Report.READY))

    def ready_all(self) -> list[Action]:
        return [action for serial in self.booting for action in self.ready(serial)]

    def end(self, serial: int, death: Death = CLEAN) -> list[Action]:
        return self.tell(Reaped(serial, death))

    def end_all_leaving(self) -> list[Action]:
        return [action for serial in self.leaving for action in self.end(serial)]

    def reload(self, **changes: Any) -> list[Action]:
        self.generation += 1
        policy = {"workers": self.policy.workers, "preload": self.policy.preload, **changes}
        return self.tell(Reload(self.generation, Policy(**policy)))

    def finish_reload(self) -> list[Action]:
        """Let every new worker boot, and every old one end."""
        actions = []
        for _ in range(self.fleet.target + 1):
            actions += self.ready_all()
            actions += self.wait(PROOF)
            actions += self.end_all_leaving()
        return actions

    def serials(self, *states: State) -> list[int]:
        return [child.serial for child in self.fleet.children.among(*states)]

    @property
    def booting(self) -> list[int]:
        return self.serials(State.BOOTING)

    @property
    def serving(self) -> list[int]:
        return self.serials(*SERVING)

    @property
    def leaving(self) -> list[int]:
        return self.serials(State.STOPPING)

    def generations_serving(self) -> list[int]:
        return [child.generation for child in self.fleet.children.among(*SERVING)]

    def has_said(self, words: str, level: Level | None = None) -> bool:
        return any(words in said.text and level in {None, said.level} for said in self.said)


def of(kind: type[Action], actions: list[Action]) -> list[Action]:
    """Return the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]
