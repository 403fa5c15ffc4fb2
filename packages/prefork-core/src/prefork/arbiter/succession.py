# SPDX-License-Identifier: MIT
"""Generations of a running server: which one is the present one, and what is closed when one is gone.

It decides when a listener stops queueing and is closed, and whose settings hooks and the log see. What a
generation is, and how the next one is made, is `generation`; when one follows is `supervisor.reloading`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork.arbiter.generation import OF_THE_START, close_listeners, quiet
from prefork.errors import PreforkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.arbiter.facade import ServerFacade
    from prefork.arbiter.generation import Generation


class Succession:
    """All generations that have something open.

    Args:
        first: the first one.
        follow: makes the next generation of the present one and its number; raises PreforkError.
        server: what hooks are given as `server`; told of each change.
    """

    def __init__(
        self, first: Generation, follow: Callable[[Generation, int], Generation], server: ServerFacade
    ) -> None:
        self._follow = follow
        self._server = server
        self._log = server.log
        self._by_number = {first.number: first}
        self._last_number = first.number
        self._closing: list[object] = []
        self.present = first
        """The generation that is the server's."""

    def all(self) -> list[Generation]:
        """Return the generations that have something open, oldest first."""
        return list(self._by_number.values())

    def get(self, number: int) -> Generation:
        """Return a generation.

        Raises:
            KeyError: nothing of it is open any more.
        """
        return self._by_number[number]

    def follow(self) -> Generation | str:
        """Make the next generation the present one.

        Returns:
            The new generation; or why there is none, and everything stays as it was.
        """
        old = self.present
        try:
            new = self._follow(old, self._last_number + 1)
        except PreforkError as error:
            self._log.error("reload refused, everything stays as it was: %s", error)
            return str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a Python config file may do anything
            self._log.exception("reload refused, everything stays as it was")
            return f"{error!r}, see the error log"
        for name in OF_THE_START:
            if getattr(new.settings, name) != getattr(old.settings, name):
                self._log.warning("%s has changed: that takes effect at the next start", name)
        self._last_number = new.number
        self._by_number[new.number] = new
        self._adopt(new)
        return new

    def return_to(self, number: int) -> None:
        """Undo for this process what making the next generation has done to it.

        Args:
            number: of the generation that is the present one again.
        """
        left, generation = self.present, self._by_number[number]
        os.chdir(generation.folder)
        if left.logs is not generation.logs:
            generation.logs.install()
        self._adopt(generation)

    def _adopt(self, generation: Generation) -> None:
        """Make a generation the one that hooks and the log see."""
        self.present = generation
        self._server.cfg = generation.settings
        self._server.proc_name = generation.name
        self._server.address = [listener.sock.getsockname() for listener in generation.listeners]

    def leave_removed_listeners(self) -> None:
        """After a reload, let the listeners run dry that are not in `bind` any more."""
        kept = self.present.listeners
        removed = [
            listener
            for generation in self.all()
            for listener in generation.listeners
            if listener not in kept and listener not in self._closing
        ]
        for listener in removed:
            self._log.info("no longer listening on %s", listener.url)
        quiet(removed)
        self._closing += removed

    def is_last_on_a_listener(self, generation: Generation) -> bool:
        """Return whether nobody follows the workers of a generation on a listener of theirs.

        Args:
            generation: whose workers.
        """
        return any(listener in self._closing or listener.is_quiet for listener in generation.listeners)

    def stop_queueing(self) -> None:
        """Let the queues of all listeners run dry."""
        for generation in self.all():
            quiet(generation.listeners)

    def release(self, number: int) -> None:
        """Close what only a generation had whose workers have all ended.

        Args:
            number: of that generation.
        """
        gone, remaining = self._by_number.pop(number), self.all()
        used = [listener for each in remaining for listener in (*each.listeners, *each.status_listeners)]
        opened = (*gone.listeners, *gone.status_listeners)
        close_listeners(listener for listener in opened if listener not in used)
        self._closing = [listener for listener in self._closing if listener not in gone.listeners]
        if all(generation.logs is not gone.logs for generation in remaining):
            gone.logs.close()
