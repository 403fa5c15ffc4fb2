# SPDX-License-Identifier: MIT
"""The arbiter's living templates: how one is forked, ordered to fork, and forgotten.

It decides what a template is given, and what ends it. When one is started or stopped, and which
worker it is to fork, is not known here.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from prefork.process import template, variables
from prefork.process.channel import End, Hangup
from prefork.supervisor.messages import TemplateFailed, TemplateForked, TemplateReady

if TYPE_CHECKING:
    import selectors
    import socket
    from collections.abc import Callable, Iterator

    from prefork.arbiter.generation import Generation
    from prefork.process.kernel import Kernel
    from prefork.supervisor.messages import Event, Spawn
    from prefork.workers.template import Live

_READ: Final = 1
"""selectors.EVENT_READ."""


class Life(Protocol):
    """What a template process does with its life; `prefork.workers.template.run` does it for real."""

    def __call__(self, **inherited: Any) -> int:
        """Live; return the exit status of a worker that has been forked."""


@dataclass(slots=True)
class Template:
    """One living template."""

    number: int
    generation: Generation
    pid: int
    line: End
    requests: int | None = None
    """How many it has answered when it was a worker; None when it never was."""


class Nursery:
    """The living templates of one arbiter.

    Args:
        kernel: kills; in a template, forks.
        selector: shared with the loop; the arbiter's ends are registered with their template.
        life: what a template does.
    """

    def __init__(self, *, kernel: Kernel, selector: selectors.BaseSelector, life: Life) -> None:
        self._kernel = kernel
        self._selector = selector
        self._life = life
        self._by_number: dict[int, Template] = {}

    def __iter__(self) -> Iterator[Template]:
        return iter(list(self._by_number.values()))

    def get(self, number: int) -> Template | None:
        """Return a template, None when it is not here."""
        return self._by_number.get(number)

    def start(
        self,
        number: int,
        generation: Generation,
        fork: Callable[[End], int],
        be_born: Callable[[Callable[[], int]], NoReturn],
        live: Live,
    ) -> Event:
        """Fork a template.

        Args:
            number: of the template.
            generation: whose application it is to load.
            fork: forks with what is the arbiter's closed in the child, given the new arbiter's end.
            be_born: leaves the arbiter's loop, in the child, for a life.
            live: the life of a worker that the template forks.

        Returns:
            `TemplateForked` or `TemplateFailed`.
        """
        try:
            ours, theirs = template.make()
        except OSError as error:
            return TemplateFailed(number, str(error.strerror))
        try:
            pid = fork(ours)
        except OSError as error:
            ours.close()
            theirs.close()
            return TemplateFailed(number, str(error.strerror))
        if pid == 0:
            be_born(partial(self._live, generation, theirs, live))
        theirs.close()
        self.adopt(Template(number, generation, pid, ours))
        return TemplateForked(number, pid)

    def adopt(self, found: Template) -> None:
        """Take in a template that lives."""
        self._by_number[found.number] = found
        self._selector.register(found.line, _READ, found)

    def _live(self, generation: Generation, line: socket.socket, live: Live) -> int:
        variables.take_on(generation.settings.raw_env)
        return self._life(
            settings=generation.settings,
            line=line,
            logs=generation.logs,
            worker_type=generation.worker_type,
            fork=self._kernel.fork,
            live=live,
        )

    def order(self, wanted: Spawn, channel: socket.socket, stacks: int) -> None:
        """Order a fork.

        Args:
            wanted: which template, and the worker's serial number and slot.
            channel: its end of the channel to the arbiter.
            stacks: the descriptor where it shows its stacks.

        Raises:
            OSError: there is no template that takes the order.
        """
        found = self.get(wanted.template)
        if found is None:
            raise ProcessLookupError(0, "there is no template")
        template.order(found.line, wanted.serial, wanted.slot, channel, stacks)

    def listen(self, found: Template) -> Event | None:
        """Take in what a template says: `TemplateReady`, or nothing."""
        try:
            return TemplateReady(found.number) if template.has_said_ready(found.line) else None
        except Hangup:
            # It is ending, or the application has closed its descriptors; then it is of no use.
            self._deafen(found)
            self._kernel.kill(found.pid, signal.SIGKILL)
            return None

    def stop(self, number: int) -> None:
        """Tell a template to end."""
        found = self.get(number)
        if found is not None:
            self._deafen(found)
            found.line.close()
            self._kernel.kill(found.pid, signal.SIGTERM)  # it may be in an import

    def kill(self, number: int, what: signal.Signals) -> None:
        """Send a template a signal."""
        found = self.get(number)
        if found is not None:
            self._kernel.kill(found.pid, what)

    def take(self, pid: int) -> Template | None:
        """Forget the template of a pid that has been reaped, and return it; None for a stranger's."""
        for found in self:
            if found.pid == pid:
                self._deafen(found)
                found.line.close()
                del self._by_number[found.number]
                return found
        return None

    def let_go(self) -> None:
        """Close, in a child, what is the arbiter's."""
        for found in self:
            found.line.close()

    def _deafen(self, found: Template) -> None:
        number = found.line.fileno()
        if number >= 0 and number in self._selector.get_map():  # not closed, and not done before
            self._selector.unregister(found.line)
