# SPDX-License-Identifier: MIT
"""The table of templates: the processes that load the application and fork the workers of a generation.

It decides which templates there are and in which state. What follows when one fails is
`failures`. A generation has one template at most, so its number names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import ABORT_GRACE, REAP_GRACE, TRANSITIONS, State
from prefork.supervisor.messages import AbortTemplate, KillTemplate, StartTemplate, StopTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork.supervisor.messages import Action

STOP_GRACE: Final = 2.0
"""Seconds that a template gets to stop. It has nothing in hand."""


@dataclass(slots=True)
class Template:
    """One template process. Times are monotonic seconds."""

    generation: int
    born: float
    deadline: float
    """When the present state has lasted too long."""
    state: State = State.BOOTING
    """As a worker's; a template never retires."""
    pid: int = 0
    ready_at: float | None = None

    def enter(self, state: State, deadline: float = inf) -> None:
        """Change the state.

        Args:
            state: the next one.
            deadline: when that one has lasted too long.

        Raises:
            ValueError: there is no way from here to there.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.deadline = deadline

    def __str__(self) -> str:
        return f"template {self.pid} (generation {self.generation})"


class Templates:
    """Every template that is not reaped yet.

    Args:
        do: takes an action down.
    """

    def __init__(self, do: Callable[[Action], None]) -> None:
        self._do = do
        self._by_generation: dict[int, Template] = {}
        self.backoff = Backoff()

    def get(self, generation: int) -> Template | None:
        """Return the template of a generation, or None when it is not here."""
        return self._by_generation.get(generation)

    def can_fork(self, generation: int) -> bool:
        """Say whether the template of a generation has loaded the application, and is to stay."""
        template = self.get(generation)
        return template is not None and template.state is State.READY

    def tend(self, present: int | None, kept: int | None, now: float, boot_timeout: float) -> None:
        """Start the template that is missing, and stop those that nobody needs.

        Args:
            present: the generation whose workers are to be forked; None for none.
            kept: another generation, whose template stays if it is there: once ended, it could only load the
                code that is on disk now.
            now: the time.
            boot_timeout: how long the new one may take, in seconds.
        """
        for template in self:
            unwanted = template.generation not in {present, kept}
            if unwanted and template.state in {State.BOOTING, State.READY}:
                template.enter(State.STOPPING, now + STOP_GRACE)
                self._do(StopTemplate(template.generation))
        if present is not None and present not in self._by_generation and now >= self.backoff.next_at:
            self._by_generation[present] = Template(present, now, now + boot_timeout)
            self._do(StartTemplate(present))

    def ready(self, generation: int, now: float) -> Template | None:
        """Note that a template is ready; return it, or None when that has come too late."""
        template = self.get(generation)
        if template is None or template.state is not State.BOOTING:
            return None
        template.enter(State.READY)
        template.ready_at = now
        return template

    def abort(self, template: Template, why: str, now: float) -> None:
        """Have a template show where it is, and end."""
        template.enter(State.ABORTED, now + ABORT_GRACE)
        self._do(AbortTemplate(template.generation, why))

    def kill(self, template: Template, why: str, now: float) -> None:
        """End a template that does not end otherwise."""
        template.enter(State.KILLED, now + REAP_GRACE)
        self._do(KillTemplate(template.generation, why))

    def remove(self, generation: int) -> Template | None:
        """Take a template out; None when it is not here."""
        return self._by_generation.pop(generation, None)

    def next_deadline(self, present: int | None) -> float:
        """Return when a state has lasted too long, or the next start is due; infinity for never.

        Args:
            present: the generation whose workers are to be forked; None for none.
        """
        times = [template.deadline for template in self]
        if present is not None and present not in self._by_generation:
            times.append(self.backoff.next_at)
        return min(times, default=inf)

    def generations(self) -> set[int]:
        """Return the generations that have a template."""
        return set(self._by_generation)

    def __iter__(self) -> Iterator[Template]:
        return iter(list(self._by_generation.values()))

    def __len__(self) -> int:
        return len(self._by_generation)
