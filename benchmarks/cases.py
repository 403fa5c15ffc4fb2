# SPDX-License-Identifier: MIT
"""The table of cases: what is asked of whom, and which answer counts. It starts and measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from fields import Fields
from servers import Setup

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET: Final = "/catalogue/17/items?page=3&sort=price"
SLOW_CLIENTS: Final = {"drip": 200, "send": 50, "read": 50}
IDLE: Final = 10_000
VISITS: Final = 500
"""Requests of which the workers' memory is the result; and as many before them, for who has to get ready."""


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
    SPREAD = "spread"
    """Connections that stay: which worker gets each, and how many are woken for it."""
    SHARING = "sharing"
    """Some hundred requests for several pages, and then what each worker has of memory for itself."""


DURATION: Final = {
    Measure.LOAD: 3.1,
    Measure.IDLE: 18.5,
    Measure.SLOW: 7.5,
    Measure.CPU_BOUND: 5.7,
    Measure.LONG: 7.5,
    Measure.OVERLOAD: 9.5,
    Measure.CHECKED: 2.5,
    Measure.SPREAD: 4.5,
    Measure.SHARING: 10.0,
}
"""About how many seconds a run takes with two seconds of load, its start and end included."""


def exactly(body: bytes) -> Callable[[bytes], bool]:
    """Return a check for one body."""
    return body.__eq__


def rows(count: int) -> Callable[[bytes], bool]:
    """Return a check for the framework's page with so many rows."""
    return lambda body: body.count(b"</tr>") == count and body.endswith(b"</table></body></html>")


HELLO: Final = exactly(b"Hello, world!")


class Sense(Enum):
    """On which side of a bound a figure has to be."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


@dataclass(frozen=True, slots=True)
class Bound:
    """What prefork has to reach in a case.

    Args:
        metric: a name of `report.METRICS`.
        sense: at most or at least.
        value: of the figure, or of its ratio to the peer's.
        against: the peer, or prefork run in another way; empty if the figure itself counts.
        of: prefork as it is run for this.
    """

    metric: str
    sense: Sense
    value: float
    against: str = ""
    of: str = "prefork"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured.

    Args:
        group: a name of `report.GROUPS`, under which it is shown.
        name: unique.
        servers: those that can serve it and are worth the time.
        application: `module:callable`.
        worker: a key of `servers.WORKERS`.
        target: path and query.
        pages: more of these, where several are asked for; those that are warmed up, where that is done.
        prepare: module of `applications/` that is run first; the folder `BENCH_FOLDER` is kept for the run.
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
        enough: rounds beyond which nothing is learnt, because what is measured is no time.
        bounds: what prefork has to reach.
    """

    group: str
    name: str
    servers: tuple[str, ...]
    application: str = "plain:hello"
    worker: str = "gthread"
    target: str = TARGET
    pages: tuple[str, ...] = ()
    prepare: str = ""
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
    enough: int | None = None
    bounds: tuple[Bound, ...] = ()

    @property
    def setup(self) -> Setup:
        """What it wants of a server."""
        return Setup(
            self.application,
            self.worker,
            self.persistent,
            self.workers,
            self.threads,
            self.limit,
            self.queue_timeout,
            self.pages,
        )


at_most: Final = partial(Bound, sense=Sense.AT_MOST)
at_least: Final = partial(Bound, sense=Sense.AT_LEAST)


def cpu_of_peers(share: float) -> tuple[Bound, ...]:
    """Return the bounds of the CPU time per request: a share of gunicorn's, and no more than Granian's."""
    return (
        at_most("cpu_us", value=share, against="gunicorn-gthread"),
        at_most("cpu_us", value=1.0, against="granian"),
        at_most("cpu_us", value=1.0, against="granian-threads"),
    )


PAIR: Final = ("prefork", "gunicorn-gthread")
THREE: Final = (*PAIR, "granian-threads")
FOUR: Final = (*PAIR, "granian", "granian-threads")
KEEPING: Final = (*FOUR, "uwsgi", "waitress", "cheroot", "bjoern")
CLOSING: Final = (*KEEPING, "prefork-sync", "gunicorn-sync")
TEN: Final = b"t" * 10_240
MEGABYTE: Final = b"m" * 1_048_576
SHOP: Final = ("/", "/?page=3", "/items/7", "/search?q=item&most=40", "/figures", "/admin/login/")
ADMIN: Final = (
    "/admin/",
    "/admin/shop/item/",
    "/admin/shop/item/7/change/",
    "/admin/shop/order/",
    "/admin/auth/user/",
)

# Those of one application that differ in little else.
flask: Final = partial(Case, "frameworks", application="flask_site:app")
django: Final = partial(Case, "frameworks", application="django_site:app")
upload: Final = partial(Case, "sizes", application="plain:upload")
sleeping: Final = partial(
    Case,
    "sleep",
    servers=THREE,
    application="plain:sleep",
    correct=exactly(b"slept"),
    connections=512,
    longer=2,
)
echo: Final = partial(Case, application="plain:site", target="/echo?token", correct=exactly(b"token"))
overload: Final = partial(
    echo,
    "overload",
    servers=PAIR,
    queue_timeout=0.1,
    limit=11_000,
    measure=Measure.OVERLOAD,
    bounds=(at_least("goodput", value=0.95), at_most("p99_of_limit", value=1.0)),
)
spread: Final = partial(
    echo, "spread", servers=(*PAIR, "granian"), connections=200, measure=Measure.SPREAD, enough=3
)
shop: Final = partial(
    Case,
    "sharing",
    servers=(
        "prefork-sync",
        "prefork-preload",
        "prefork-warmup",
        "prefork-refork",
        "gunicorn-sync",
        "gunicorn-preload",
    ),
    application="shop.wsgi:application",
    prepare="shop.prepare",
    target="/count",
    correct=exactly(b'{"items": 100}'),
    persistent=False,
    workers=4,
    measure=Measure.SHARING,
    enough=3,
    bounds=(
        at_most("private_mib", value=0.33, against="prefork-sync", of="prefork-preload"),
        at_most("private_mib", value=0.20, against="prefork-sync", of="prefork-refork"),
    ),
)


def worker_class(
    worker: str, peer: str, application: str, share: float | None = None, target: str = TARGET
) -> tuple[Case, Case]:
    """Return the cases of a worker class beside what its users have now, with connections kept and closed.

    Args:
        worker: a key of `servers.WORKERS`.
        peer: a name of `servers.SERVERS`.
        application: `module:callable`.
        share: of the peer's CPU time that may be taken at most, None for whatever it is.
        target: path and query.
    """
    bounds = () if share is None else (at_most("cpu_us", value=share, against=peer),)
    made = partial(
        Case,
        "classes",
        servers=("prefork", peer),
        application=application,
        worker=worker,
        target=target,
        bounds=bounds,
    )
    return made(f"{worker}-keepalive"), made(f"{worker}-close", persistent=False)


idle: Final = partial(
    echo, "crowds", measure=Measure.IDLE, limit=11_000, enough=3, bounds=(at_most("idle_bytes", value=8_192),)
)

CASES: Final = (
    Case("hello", "hello-9-keepalive", KEEPING, bounds=cpu_of_peers(1 / 8)),
    Case("hello", "hello-9-close", CLOSING, persistent=False, bounds=cpu_of_peers(1 / 5)),
    Case("hello", "hello-2-keepalive", THREE, fields=Fields.FEW),
    Case("hello", "hello-2-close", THREE, fields=Fields.FEW, persistent=False),
    # Whoever remembers the fields of earlier requests saves nothing on these.
    Case("hello", "hello-varied-keepalive", FOUR, fields=Fields.VARIED),
    Case("hello", "hello-varied-close", FOUR, fields=Fields.VARIED, persistent=False),
    Case("sizes", "response-1k", THREE, application="plain:kilobyte", correct=exactly(b"k" * 1_024)),
    Case("sizes", "response-10k", THREE, application="plain:ten_kilobytes", correct=exactly(TEN)),
    Case("sizes", "response-1m", THREE, application="plain:megabyte", correct=exactly(MEGABYTE)),
    upload("upload-10k", THREE, body=10_240, correct=exactly(b"10240")),
    upload("upload-1m", (*THREE, "waitress"), body=1_048_576, correct=exactly(b"1048576")),
    flask(
        "flask-hello",
        (*FOUR, "uwsgi"),
        target="/",
        bounds=(at_least("rate", value=1.5, against="gunicorn-gthread"),),
    ),
    flask("flask-rows", THREE, target="/rows", correct=rows(50)),
    django("django-hello", (*THREE, "uwsgi"), target="/"),
    django("django-rows", THREE, target="/rows", correct=rows(50)),
    *(Case("threads", f"threads-{count}", THREE, threads=count) for count in (1, 2, 8)),
    Case("workers", "workers-2", THREE, workers=2),
    sleeping("sleep-4"),
    sleeping("sleep-32", threads=32),
    Case(
        "memory",
        "memory-flask-4",
        (*THREE, "uwsgi"),
        application="flask_site:app",
        target="/",
        workers=4,
        enough=3,
    ),
    shop("django-orm", pages=("/count", "/admin/login/")),
    shop("django-admin", pages=(*SHOP, *ADMIN)),
    echo(
        "crowds",
        "idle-10000",
        (*PAIR, "granian"),
        measure=Measure.IDLE,
        limit=11_000,
        bounds=(at_most("idle_bytes", value=4_096), at_most("p99_ratio", value=1.5)),
    ),
    echo(
        "crowds",
        "slow-clients",
        (*PAIR, "granian"),
        measure=Measure.SLOW,
        bounds=(at_most("p99_ratio", value=3.0), at_most("unanswered", value=0)),
    ),
    idle("idle-10000-gevent", ("prefork", "gunicorn-gevent"), worker="gevent"),
    idle("idle-10000-aio", ("prefork", "uvicorn"), worker="aio-uvloop", application="asgi_site:site"),
    *worker_class("gevent", "gunicorn-gevent", "plain:hello", 1 / 3),
    *worker_class("aiohttp-asyncio", "gunicorn-aiohttp", "aiohttp_site:app", 1.0, target="/"),
    *worker_class("aiohttp-uvloop", "gunicorn-aiohttp-uvloop", "aiohttp_site:app", 1.0, target="/"),
    *worker_class("aio-uvloop", "uvicorn", "asgi_site:site", 0.8, target="/"),
    *worker_class("tornado", "gunicorn-tornado", "tornado_site:app", target="/"),
    echo(
        "fairness",
        "cpu-bound",
        THREE,
        persistent=False,
        workers=2,
        connections=8,
        measure=Measure.CPU_BOUND,
        bounds=(at_most("over_plain", value=1.15),),
    ),
    echo(
        "fairness",
        "long-request",
        THREE,
        persistent=False,
        workers=2,
        threads=1,
        measure=Measure.LONG,
        bounds=(at_most("p95_us", value=20_000), at_most("unanswered", value=0)),
    ),
    *(spread(f"spread-{count}", workers=count) for count in (1, 4, 16)),
    overload("overload-sleep-keepalive", target="/sleep?token"),
    overload("overload-compute-close", servers=PAIR[:1], target="/work?token", persistent=False),
    echo(
        "checked",
        "checked-aborts",
        PAIR,
        connections=64,
        measure=Measure.CHECKED,
        bounds=(at_most("wrong", value=0), at_most("unanswered", value=0)),
    ),
)
