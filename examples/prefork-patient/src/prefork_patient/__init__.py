# SPDX-License-Identifier: MIT
"""`-k patient`: a thread for each connection, from its first byte to its last."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefork.worker import Context, Worker, kinds, option

if TYPE_CHECKING:
    from prefork.settings import Settings


@dataclass(frozen=True, slots=True)
class PatientSettings:
    """The options of the worker class."""

    patient_stack_size: int = option(
        kinds.size(0, 2**30), 0, help="Bytes of stack that each thread has; 0 for what the system gives it."
    )


class PatientWorker(Worker):
    """A thread for each connection."""

    api = 1
    settings = PatientSettings

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        threading.stack_size(ctx.settings.of(PatientSettings).patient_stack_size)
        while (accepted := ctx.accept()) is not None:
            threading.Thread(target=accepted.serve, daemon=True).start()
