# SPDX-License-Identifier: MIT
"""The table of templates: the processes that load the application and fork the workers of a generation.

It decides which templates there are and in which state. What follows when one fails is
`failures`. The newest one of a generation forks its workers; another one that is there is about to go.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from prefork.supervisor.backoff import Backoff
from prefork.supervisor.children import ABORT_GRACE, MEMBERS, REAP_GRACE, State, change_state
from prefork.supervisor.messages import AbortTemplate, KillTemplate, StartTemplate, StopTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from prefork.supervisor.messages import Action

STOP_GRACE: Final = 2.0
"""Seconds that a template gets to stop. It has nothing in hand."""


@dataclass(slots=True)
class Template:
    """One template process. Times are monotonic seconds."""

    number: int
    generation: int
    born: float
    deadline: float
    """When the present state has lasted too long."""
    state: State = State.BOOTING
    """As a worker's; a template never retires."""
    pid: int = 0
    ready_at: float | None = None
    is_warm: bool = False
    """Whether it has been a worker, and so has answered requests."""

    enter = change_state

    def __str__(self) -> str:
        return f"template {self.pid} (generation {self.generation})"


class Templates:
    """Every template that is not reaped yet.

    Args:
        do: takes an action down.
    """

    def __init__(self, do: Callable[[Action], None]) -> None:
        self._do = do
        self._by_number: dict[int, Template] = {}
        self._last_number = 0
        self.backoff = Backoff()

    def get(self, number: int) -> Template | None:
        """Return a template, or None when it is not here."""
        return self._by_number.get(number)

    def of(self, generation: int) -> Template | None:
        """Return the newest template of a generation that is to stay; None when there is none."""
        staying = [one for one in self if one.generation == generation and one.state in MEMBERS]
        return staying[-1] if staying else None

    def forking(self, generation: int) -> Template | None:
        """Return the template that forks the workers of a generation; None before it is ready."""
        template = self.of(generation)
        return template if template is not None and template.state is State.READY else None

    def tend(
        self, present: int | None, kept: int | None, busy: Collection[int], now: float, boot_timeout: float
    ) -> None:
        """Start the template that is missing, and stop those that nobody needs.

        Args:
            present: the generation whose workers are to be forked; None for none.
            kept: another generation, whose template stays if it is there: once ended, it could only load the
                code that is on disk now.
            busy: the numbers of those that have been ordered to fork, and have not done so yet.
            now: the time.
            boot_timeout: how long the new one may take, in seconds.
        """
        for template in self:
            is_wanted = template.generation in {present, kept} and (
                template is self.of(template.generation) or template.number in busy
            )
            if not is_wanted and template.state in MEMBERS:
                template.enter(State.STOPPING, now + STOP_GRACE)
                self._do(StopTemplate(template.number))
        if present is not None and present not in self.generations() and now >= self.backoff.next_at:
            template = self._add(present, now, now + boot_timeout)
            self._do(StartTemplate(template.number, present))

    def _add(self, generation: int, now: float, deadline: float) -> Template:
        self._last_number += 1
        template = Template(self._last_number, generation, now, deadline)
        self._by_number[template.number] = template
        return template

    def promote(self, generation: int, pid: int, now: float) -> Template:
        """Enter the process of a worker as a template, which can fork at once; return it."""
        template = self._add(generation, now, inf)
        template.enter(State.READY)
        template.pid = pid
        template.ready_at = now
        template.is_warm = True
        return template

    def ready(self, number: int, now: float) -> Template | None:
        """Note that a template is ready; return it, or None when that has come too late."""
        template = self.get(number)
        if template is None or template.state is not State.BOOTING:
            return None
        template.enter(State.READY)
        template.ready_at = now
        return template

    def abort(self, template: Template, why: str, now: float) -> None:
        """Have a template show where it is, and end."""
        template.enter(State.ABORTED, now + ABORT_GRACE)
        self._do(AbortTemplate(template.number, why))

    def kill(self, template: Template, why: str, now: float) -> None:
        """End a template that does not end otherwise."""
        template.enter(State.KILLED, now + REAP_GRACE)
        self._do(KillTemplate(template.number, why))

    def remove(self, number: int) -> Template | None:
        """Take a template out; None when it is not here."""
        return self._by_number.pop(number, None)

    def next_deadline(self, present: int | None) -> float:
        """Return when a state has lasted too long, or the next start is due; infinity for never.

        Args:
            present: the generation whose workers are to be forked; None for none.
        """
        times = [template.deadline for template in self]
        if present is not None and present not in self.generations():
            times.append(self.backoff.next_at)
        return min(times, default=inf)

    def generations(self) -> set[int]:
        """Return the generations that have a template."""
        return {template.generation for template in self}

    def __iter__(self) -> Iterator[Template]:
        return iter(list(self._by_number.values()))

    def __len__(self) -> int:
        return len(self._by_number)
