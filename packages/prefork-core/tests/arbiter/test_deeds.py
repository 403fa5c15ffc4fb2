# SPDX-License-Identifier: MIT
"""What becomes of actions, with stand-ins for all that they reach. Whole servers: test_boot."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from prefork.arbiter.deeds import Deeds, failure
from prefork.supervisor.messages import (
    Abort,
    Action,
    Event,
    Explain,
    ForkFailed,
    Kill,
    KillTemplate,
    Order,
    Reason,
    Send,
    Spawn,
    StartStatus,
    StartTemplate,
    StatusFailed,
    TemplateFailed,
)


class Scene:
    """One worker, with the serial number 1, and a list of what was done."""

    def __init__(self, *, is_last: bool = False) -> None:
        self.done: list[Any] = []
        done = self.done.append
        facade = SimpleNamespace(aborted=False)
        worker = SimpleNamespace(facade=facade, generation=None, late=[], tell=done)
        anything: Any = SimpleNamespace
        self.deeds = Deeds(
            fleet=anything(templates=anything(get=lambda number: f"template {number}")),
            brood=anything(
                get=lambda serial: worker if serial == 1 else None,
                kill=lambda _, number: done(number),
                nursery=anything(kill=lambda *given: done(given)),
            ),
            statuses=anything(),
            succession=anything(is_last_on_a_listener=lambda _: is_last),
            inquests=anything(
                ask=lambda *_, **more: done(("asked", more.get("number"))),
                tell=lambda *_, doing: done(doing),
            ),
            board=anything(count_kill=done),
            server=anything(log=logging.getLogger("test.deeds")),
            register=anything,
        )


@pytest.mark.parametrize(
    ("action", "event"),
    [
        (Spawn(7, 0, 1), ForkFailed(7, "OSError('full')")),
        (StartTemplate(3, 2), TemplateFailed(3, "OSError('full')")),
        (StartStatus(2), StatusFailed(2, "OSError('full')")),
        (Send(7, Order.LEAVE), None),
    ],
)
def test_the_machine_hears_of_a_failure_if_it_waits_for_something(
    action: Action, event: Event | None
) -> None:
    assert failure(action, OSError("full")) == event


@pytest.mark.parametrize(
    ("is_last", "order", "told"),
    [
        (False, Order.LEAVE, Order.LEAVE),
        (True, Order.LEAVE, Order.DRAIN),
        (True, Order.QUICK, Order.QUICK),
    ],
)
def test_who_is_the_last_on_a_listener_takes_what_is_queued_there(
    is_last: bool, order: Order, told: Order
) -> None:
    scene = Scene(is_last=is_last)
    scene.deeds.to_worker(Send(1, order))
    assert scene.done == [told]


def test_a_worker_is_aborted_with_the_signal_that_shows_its_stacks_and_counted_once() -> None:
    scene = Scene()
    scene.deeds.to_worker(Abort(1, "is stuck", Reason.TIMEOUT))
    assert scene.done == [Reason.TIMEOUT, ("asked", signal.SIGABRT)]
    scene.done.clear()
    scene.deeds.to_worker(Kill(1, "did not end on SIGABRT", Reason.TIMEOUT))
    assert scene.done == [": sending SIGKILL", signal.SIGKILL]


def test_a_worker_that_was_explained_is_not_asked_again() -> None:
    scene = Scene()
    scene.deeds.to_worker(Abort(1, "has nothing left", Reason.TIMEOUT, explained=True))
    assert scene.done == [Reason.TIMEOUT, ": sending SIGABRT", signal.SIGABRT]


def test_nothing_is_done_to_a_worker_that_is_gone() -> None:
    scene = Scene()
    for action in (
        Send(2, Order.QUICK),
        Explain(2, "is slow", Reason.TIMEOUT),
        Abort(2, "is stuck", Reason.TIMEOUT),
        Kill(2, "is stuck", Reason.TIMEOUT),
    ):
        scene.deeds.to_worker(action)
    assert scene.done == []


def test_a_template_is_killed_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.deeds.to_template(KillTemplate(3, "did not stop in time"))
    assert scene.done == [(3, signal.SIGKILL)]
    assert "template 3 did not stop in time: sending SIGKILL" in caplog.text
