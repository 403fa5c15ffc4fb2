# SPDX-License-Identifier: MIT
"""The worker classes under which a test runs, and how a server is told which one it is to have."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


WSGI: Final = "WSGI"
ASGI: Final = "ASGI"
WEB: Final = "aiohttp.web"


class WorkerClass(NamedTuple):
    """A worker class."""

    name: str
    threads: int
    """How many requests one worker has in the application at once."""
    variables: Mapping[str, str]
    """What the environment tells a server; a command line that says something else has precedence."""
    interface: str = WSGI
    """Of the applications that it is tried with."""


SYNC: Final = WorkerClass("sync", 1, {})  # the default
GTHREAD: Final = WorkerClass("gthread", 4, {"PREFORK_WORKER_CLASS": "gthread", "PREFORK_THREADS": "4"})
BUILT_IN: Final = (SYNC, GTHREAD)
GEVENT: Final = WorkerClass("gevent", 1000, {"PREFORK_WORKER_CLASS": "gevent"})
EVENTLET: Final = WorkerClass("eventlet", 1000, {"PREFORK_WORKER_CLASS": "eventlet"})
GREEN: Final = (GEVENT, EVENTLET)
TORNADO: Final = WorkerClass("tornado", 4, {"PREFORK_WORKER_CLASS": "tornado", "PREFORK_THREADS": "4"})
AIOHTTP: Final = WorkerClass("aiohttp", 1000, {"PREFORK_WORKER_CLASS": "aiohttp"}, WEB)
AIO: Final = WorkerClass("aio", 1000, {"PREFORK_WORKER_CLASS": "aio"}, ASGI)
OF_PACKAGES: Final = (*GREEN, TORNADO, AIOHTTP, AIO)

UNDER_BOTH: Final = pytest.mark.usefixtures("worker_class")
"""Runs a test, or a module's, under every built-in worker class."""


def only(worker_class: WorkerClass) -> pytest.MarkDecorator:
    """Return what runs a test of `UNDER_BOTH` under one only, because it says what only that one does."""
    return pytest.mark.parametrize(
        "worker_class", [worker_class], indirect=True, ids=lambda found: found.name
    )


_present: list[WorkerClass] = []


@contextlib.contextmanager
def present(worker_class: WorkerClass) -> Iterator[WorkerClass]:
    """Have every server that is made in between run under a worker class."""
    _present.append(worker_class)
    try:
        yield worker_class
    finally:
        _present.remove(worker_class)


def variables() -> Mapping[str, str]:
    """Return what the environment tells a server now; nothing outside of `present`."""
    return _present[-1].variables if _present else {}
