# SPDX-License-Identifier: MIT
"""`-k gevent`: each request in a greenlet; what waits for a database or a service lets the others run.

This module is imported in the arbiter, so it imports nothing of gevent; `prefork_gevent.library` does, in
the worker process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

from prefork.worker import Context, Worker, kinds, no_gil, option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.settings import Settings


_GREENLET: Final = (3, 2, 2)
"""What the oldest gevent asks for that this package takes."""


@dataclass(frozen=True)
class Options:
    """What can be set for this worker class only."""

    gevent_post_patch: Callable[..., object] | None = option(
        kinds.function(),
        None,
        help="Called in each worker, without arguments, when the standard library is patched and before"
        " the application is imported; for what has to be patched too, as psycogreen.gevent:patch_psycopg.",
    )


class GeventWorker(Worker):
    """Requests in greenlets, up to `worker_connections` at once."""

    api = 1
    settings = Options
    ignored: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"threads": "requests have greenlets, up to worker_connections of them"}
    )

    @classmethod
    def at_once(cls, settings: Settings) -> int:
        """Return how many requests a worker may have in hand at once: one per connection."""
        return settings.worker_connections

    @classmethod
    def lacks(cls, settings: Settings) -> str | None:  # noqa: ARG003
        """Return what gevent needs of this Python and does not have."""
        return no_gil("gevent") or _old_greenlet()

    @classmethod
    def prepare(cls, settings: Settings, /) -> None:
        """Patch the standard library, before the application imports it."""
        from prefork_gevent import library

        library.patch()
        post_patch = settings.of(Options).gevent_post_patch
        if post_patch is not None:
            post_patch()

    def run(self, ctx: Context) -> None:
        """Serve until `ctx.stop_fd` is readable; return when drained."""
        from prefork_gevent import library

        ctx.serve_in_greenlets(library.Gevent(ctx.log))


def _old_greenlet() -> str | None:
    """Return that greenlet is too old for gevent, which pip allows: another package may ask for that.

    gevent starts with it, and is not made for it.
    """
    try:
        found = version("greenlet")
    except PackageNotFoundError:
        return None  # that is said by the import
    if tuple(map(int, re.findall(r"\d+", found)[:3])) >= _GREENLET:
        return None
    needed = ".".join(map(str, _GREENLET))
    return f"gevent needs greenlet {needed} or later, and {found} is installed (pip check says for whom)"
