# SPDX-License-Identifier: MIT
"""The table of cases: what is asked of whom, and which answer counts. It starts and measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from servers import Setup

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET: Final = "/catalogue/17/items?page=3&sort=price"
SLOW_CLIENTS: Final = {"drip": 200, "send": 50, "read": 50}
IDLE: Final = 10_000


class Fields(Enum):
    """What a request carries beside its first line; `Host` and `Connection` always."""

    FEW = 2
    BROWSER = 9
    VARIED = "9, two of them different in every request"


class Measure(Enum):
    """How a case is measured."""

    LOAD = "load"
    """wrk, as fast as the server answers."""
    IDLE = "idle"
    """wrk, without and then with a crowd of idle connections."""
    SLOW = "slow"
    """Requests at a modest rate, without and then with a crowd of slow clients."""
    CPU_BOUND = "cpu-bound"
    """Requests that compute, all at once, beside plain processes that compute the same."""
    LONG = "long"
    """Requests at a modest rate beside one that takes very long."""
    OVERLOAD = "overload"
    """Requests at twice the rate that the server can answer."""
    CHECKED = "checked"
    """Clients that leave at random, every answer checked."""


DURATION: Final = {
    Measure.LOAD: 3.1,
    Measure.IDLE: 7.5,
    Measure.SLOW: 7.5,
    Measure.CPU_BOUND: 5.3,
    Measure.LONG: 7.5,
    Measure.OVERLOAD: 7.0,
    Measure.CHECKED: 2.5,
}
"""About how many seconds a run takes with two seconds of load, its start and end included."""


def exactly(body: bytes) -> Callable[[bytes], bool]:
    """Return a check for one body."""
    return body.__eq__


def rows(count: int) -> Callable[[bytes], bool]:
    """Return a check for the framework's page with so many rows."""
    return lambda body: body.count(b"</tr>") == count and body.endswith(b"</table></body></html>")


HELLO: Final = exactly(b"Hello, world!")


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured.

    Args:
        group: a name of `report.GROUPS`, under which it is shown.
        name: unique.
        servers: those that can serve it and are worth the time.
        application: `module:callable`.
        target: path and query.
        correct: whether a body is the right one.
        fields: of the requests.
        persistent: whether connections are kept open.
        body: bytes of an upload, 0 for a GET.
        connections: clients at once.
        workers: processes; with more than one nothing is pinned, because two use both cores.
        threads: of each worker.
        measure: how.
        queue_timeout: seconds, None for ever.
        limit: connections that the server must be able to hold.
        longer: times the seconds of load of other cases.
    """

    group: str
    name: str
    servers: tuple[str, ...]
    application: str = "plain:hello"
    target: str = TARGET
    correct: Callable[[bytes], bool] = HELLO
    fields: Fields = Fields.BROWSER
    persistent: bool = True
    body: int = 0
    connections: int = 16
    workers: int = 1
    threads: int = 4
    measure: Measure = Measure.LOAD
    queue_timeout: float | None = None
    limit: int = 1_000
    longer: int = 1

    @property
    def setup(self) -> Setup:
        """What it wants of a server."""
        return Setup(
            self.application, self.persistent, self.workers, self.threads, self.limit, self.queue_timeout
        )


PAIR: Final = ("prefork", "gunicorn-gthread")
THREE: Final = (*PAIR, "granian-threads")
FOUR: Final = (*PAIR, "granian", "granian-threads")
KEEPING: Final = (*FOUR, "uwsgi", "waitress", "cheroot", "bjoern")
CLOSING: Final = (*KEEPING, "prefork-sync", "gunicorn-sync")
TEN: Final = b"t" * 10_240
MEGABYTE: Final = b"m" * 1_048_576
ECHO: Final = exactly(b"token")

CASES: Final = (
    Case("hello", "hello-9-keepalive", KEEPING),
    Case("hello", "hello-9-close", CLOSING, persistent=False),
    Case("hello", "hello-2-keepalive", THREE, fields=Fields.FEW),
    Case("hello", "hello-2-close", THREE, fields=Fields.FEW, persistent=False),
    # Whoever remembers the fields of earlier requests saves nothing on these.
    Case("hello", "hello-varied-keepalive", FOUR, fields=Fields.VARIED),
    Case("hello", "hello-varied-close", FOUR, fields=Fields.VARIED, persistent=False),
    Case("sizes", "response-1k", THREE, application="plain:kilobyte", correct=exactly(b"k" * 1_024)),
    Case("sizes", "response-10k", THREE, application="plain:ten_kilobytes", correct=exactly(TEN)),
    Case("sizes", "response-1m", (*THREE, "bjoern"), application="plain:megabyte", correct=exactly(MEGABYTE)),
    Case("sizes", "upload-10k", THREE, application="plain:upload", body=10_240, correct=exactly(b"10240")),
    Case(
        "sizes",
        "upload-1m",
        (*THREE, "waitress"),
        application="plain:upload",
        body=1_048_576,
        correct=exactly(b"1048576"),
    ),
    Case("frameworks", "flask-hello", (*FOUR, "uwsgi"), application="flask_site:app", target="/"),
    Case("frameworks", "flask-rows", THREE, application="flask_site:app", target="/rows", correct=rows(50)),
    Case("frameworks", "django-hello", (*THREE, "uwsgi"), application="django_site:app", target="/"),
    Case("frameworks", "django-rows", THREE, application="django_site:app", target="/rows", correct=rows(50)),
    Case("threads", "threads-1", THREE, threads=1),
    Case("threads", "threads-2", THREE, threads=2),
    Case("threads", "threads-8", THREE, threads=8),
    Case("workers", "workers-2", THREE, workers=2),
    Case(
        "sleep",
        "sleep-4",
        THREE,
        application="plain:sleep",
        correct=exactly(b"slept"),
        connections=512,
        longer=2,
    ),
    Case(
        "sleep",
        "sleep-32",
        THREE,
        application="plain:sleep",
        correct=exactly(b"slept"),
        connections=512,
        longer=2,
        threads=32,
    ),
    Case("memory", "memory-flask-4", (*THREE, "uwsgi"), application="flask_site:app", target="/", workers=4),
    Case(
        "crowds",
        "idle-10000",
        (*PAIR, "granian", "bjoern"),
        application="plain:site",
        target="/echo?token",
        correct=ECHO,
        measure=Measure.IDLE,
        limit=11_000,
    ),
    Case(
        "crowds",
        "slow-clients",
        FOUR,
        application="plain:site",
        target="/echo?token",
        correct=ECHO,
        measure=Measure.SLOW,
    ),
    Case(
        "fairness",
        "cpu-bound",
        THREE,
        application="plain:site",
        target="/echo?token",
        correct=ECHO,
        persistent=False,
        workers=2,
        connections=8,
        measure=Measure.CPU_BOUND,
    ),
    Case(
        "fairness",
        "long-request",
        THREE,
        application="plain:site",
        target="/echo?token",
        correct=ECHO,
        persistent=False,
        workers=2,
        threads=1,
        measure=Measure.LONG,
    ),
    Case(
        "overload",
        "overload-sleep-keepalive",
        PAIR,
        application="plain:site",
        target="/sleep?token",
        correct=ECHO,
        queue_timeout=0.1,
        limit=11_000,
        measure=Measure.OVERLOAD,
    ),
    Case(
        "overload",
        "overload-compute-close",
        PAIR,
        application="plain:site",
        target="/work?token",
        correct=ECHO,
        persistent=False,
        queue_timeout=0.1,
        limit=11_000,
        measure=Measure.OVERLOAD,
    ),
    Case(
        "checked",
        "checked-aborts",
        PAIR,
        application="plain:site",
        target="/echo?token",
        correct=ECHO,
        connections=64,
        measure=Measure.CHECKED,
    ),
)
