# SPDX-License-Identifier: MIT
"""The server's figures in the text format of Prometheus (version 0.0.4).

It decides the names of metrics and how they are written. It is given the facts, see `report`.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.control.report import STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork.control.report import Snapshot


class Sample(NamedTuple):
    """One value.

    Args:
        value: a count, or seconds.
        labels: names and values.
        suffix: of the metric's name.
    """

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


class Metric(NamedTuple):
    """One metric with its values.

    Args:
        name: its name.
        kind: "counter", "gauge" or "summary".
        help: what it is, in a sentence.
        samples: the values.
    """

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def text(snapshot: Snapshot) -> str:
    """Return all metrics of a server as text.

    Args:
        snapshot: the facts.
    """
    return render([*_of_the_server(snapshot), *_of_requests(snapshot), *_of_workers(snapshot)])


def render(metrics: Iterable[Metric]) -> str:
    """Return metrics as text, which ends with an end of line.

    Args:
        metrics: in the order in which they are written.
    """
    return "".join(line for metric in metrics for line in _lines(metric))


def _of_the_server(snapshot: Snapshot) -> Iterator[Metric]:
    version = (("version", snapshot.version),)
    yield Metric("prefork_info", "gauge", "The version that runs; always 1.", (Sample(1, version),))
    started = (Sample(snapshot.started),)
    yield Metric("prefork_start_time_seconds", "gauge", "When the arbiter started, since the epoch.", started)
    generation = (Sample(snapshot.generation),)
    yield Metric("prefork_generation", "gauge", "The generation that serves; a reload raises it.", generation)
    queues = tuple(
        Sample(listening.waiting, (("listener", listening.url),))
        for listening in snapshot.listeners
        if listening.waiting is not None
    )
    yield Metric("prefork_listener_queue", "gauge", "Connections that nobody has accepted yet.", queues)


def _of_requests(snapshot: Snapshot) -> Iterator[Metric]:
    totals = snapshot.totals
    yield Metric("prefork_requests_total", "counter", "Requests finished.", (Sample(totals.requests),))
    yield Metric(
        "prefork_request_errors_total",
        "counter",
        "Requests that were answered with an error of the server's own.",
        (Sample(totals.errors),),
    )
    yield Metric(
        "prefork_requests_shed_total",
        "counter",
        "Requests turned away because they had waited longer than queue_timeout.",
        (Sample(totals.shed),),
    )
    yield Metric(
        "prefork_request_queue_seconds",
        "summary",
        "How long the measured requests have waited for a thread.",
        (Sample(totals.queued, suffix="_sum"), Sample(totals.measured, suffix="_count")),
    )


def _of_workers(snapshot: Snapshot) -> Iterator[Metric]:
    seats = snapshot.seats
    target = (Sample(snapshot.target),)
    yield Metric("prefork_workers_target", "gauge", "How many workers there should be.", target)
    states = tuple(Sample(snapshot.count(state), (("state", state),)) for state in STATES)
    yield Metric("prefork_workers", "gauge", "Worker processes by their state.", states)
    kills = tuple(Sample(count, (("reason", reason),)) for reason, count in snapshot.kills.items())
    yield Metric("prefork_worker_kills_total", "counter", "Workers that were ended by force.", kills)
    templates = (Sample(len(snapshot.templates)),)
    yield Metric("prefork_templates", "gauge", "Processes that fork workers.", templates)
    reforks = tuple(Sample(count, (("outcome", name),)) for name, count in snapshot.reforks._asdict().items())
    yield Metric("prefork_reforks_total", "counter", "Workers that were to be a template.", reforks)
    threads = (Sample(sum(seat.threads for seat in seats)),)
    yield Metric("prefork_threads", "gauge", "Threads of all workers.", threads)
    busy = (Sample(sum(seat.busy for seat in seats)),)
    yield Metric("prefork_threads_busy", "gauge", "Threads that have a request in hand.", busy)
    connections = (Sample(sum(seat.connections for seat in seats)),)
    yield Metric("prefork_connections", "gauge", "Connections that are open.", connections)
    idle = (Sample(sum(seat.idle for seat in seats)),)
    yield Metric("prefork_connections_idle", "gauge", "Those of them that wait for their client.", idle)
    memory = tuple(
        Sample(seat.memory, (("slot", str(seat.slot)),)) for seat in seats if seat.memory is not None
    )
    yield Metric("prefork_worker_memory_bytes", "gauge", "Memory that a worker has for itself.", memory)


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help.translate(_IN_HELP)}\n"
    yield f"# TYPE {metric.name} {metric.kind}\n"
    for sample in metric.samples:
        yield f"{metric.name}{sample.suffix}{_labels(sample)} {sample.value!r}\n"


def _labels(sample: Sample) -> str:
    if not sample.labels:
        return ""
    pairs = [f'{name}="{value.translate(_IN_LABELS)}"' for name, value in sample.labels]
    return "{" + ",".join(pairs) + "}"


_IN_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABELS: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
