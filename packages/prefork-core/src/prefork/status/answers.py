# SPDX-License-Identifier: MIT
"""What the status listener answers to which path.

It decides status, type and body of each answer. It is given the facts, and knows nothing of connections.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.control import metrics, report
from prefork.http import check_head
from prefork.status.health import LATE, live, ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.control.report import Snapshot
    from prefork.http import ResponseHead
    from prefork.status.health import Health

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Facts(NamedTuple):
    """What is known when somebody asks."""

    idle: float
    """Seconds since the arbiter turned for the last time."""
    snapshot: Snapshot | None
    """None before the arbiter has said anything."""


class Answer(NamedTuple):
    """One response."""

    head: ResponseHead
    body: bytes


def answer(method: str, path: str, facts: Callable[[], Facts]) -> Answer:
    """Return the answer to a request.

    Args:
        method: of the request.
        path: without the query.
        facts: looks at the server.
    """
    if method not in {"GET", "HEAD"}:
        return _answer("405 Method Not Allowed", _TEXT, "only GET and HEAD\n", ("Allow", "GET, HEAD"))
    found = _PATHS.get(path)
    if found is None:
        return _answer("404 Not Found", _TEXT, f"there is {', '.join(_PATHS)}\n")
    return found(facts())


def _livez(facts: Facts) -> Answer:
    return _verdict(live(facts.idle))


def _readyz(facts: Facts) -> Answer:
    if facts.snapshot is None:
        return _nothing_yet(facts)
    return _verdict(ready(facts.snapshot))


def _status(facts: Facts) -> Answer:
    snapshot = facts.snapshot
    if snapshot is None:
        return _nothing_yet(facts)
    said = {
        "live": live(facts.idle).good,
        "ready": ready(snapshot).good,
        **report.status(_without_what_is_old(snapshot, facts.idle)),
    }
    return _answer("200 OK", _JSON, json.dumps(said) + "\n")


def _metrics(facts: Facts) -> Answer:
    if facts.snapshot is None:
        return _nothing_yet(facts)
    return _answer("200 OK", _PROMETHEUS, metrics.text(_without_what_is_old(facts.snapshot, facts.idle)))


_PATHS: Final[Mapping[str, Callable[[Facts], Answer]]] = {
    "/livez": _livez,
    "/readyz": _readyz,
    "/status": _status,
    "/metrics": _metrics,
}


def _verdict(health: Health) -> Answer:
    return _answer("200 OK" if health.good else "503 Service Unavailable", _TEXT, f"{health.why}\n")


def _nothing_yet(_: Facts) -> Answer:
    return _answer("503 Service Unavailable", _TEXT, "starting\n")


def _without_what_is_old(snapshot: Snapshot, idle: float) -> Snapshot:
    """Leave out the queues, which only the arbiter can look at, when it has not done so for long."""
    if idle <= LATE:
        return snapshot
    unknown = tuple(listening._replace(waiting=None) for listening in snapshot.listeners)
    return snapshot._replace(listeners=unknown)


def _answer(status: str, kind: str, text: str, *more: tuple[str, str]) -> Answer:
    fields = [("Content-Type", kind), ("Cache-Control", "no-store"), *more]
    return Answer(check_head(status, fields), text.encode())
