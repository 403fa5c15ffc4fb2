# SPDX-License-Identifier: MIT
"""Templates as the arbiter sees them, without a fork."""

from __future__ import annotations

import os
import selectors
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from deadlines import PATIENCE

from prefork.arbiter.nursery import Nursery, Template
from prefork.process import channel, template
from prefork.supervisor.messages import Spawn, TemplateFailed, TemplateForked, TemplateReady

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Kernel:
    """Notes who is sent what."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, signal.Signals]] = []

    def fork(self) -> int:
        raise AssertionError("the arbiter forks otherwise")

    def kill(self, pid: int, number: signal.Signals) -> None:
        self.sent.append((pid, number))


def _worker(_order: object, _application: object, _promote: object) -> int:
    return 0


class House:
    """A nursery, and the other ends of its lines."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.selector = selectors.DefaultSelector()
        kernel: Any = self.kernel
        self.nursery = Nursery(kernel=kernel, selector=self.selector, life=self._life)

    def _life(self, **inherited: Any) -> int:
        """Be a template that says what it was given by being ready."""
        if os.environ["COLOUR"] == "green" and inherited["live"] is _worker:
            template.say_ready(inherited["line"])
        return 0

    def _be_born(self, live: Callable[[], int]) -> NoReturn:
        try:
            os._exit(live())
        finally:
            os._exit(99)  # a child must never run on as a second pytest

    def start(self, number: int = 1, fork: Callable[[], int] = lambda: 70) -> object:
        settings = SimpleNamespace(raw_env=("COLOUR=green",))
        generation: Any = SimpleNamespace(number=number, settings=settings, logs=None, worker_type=None)
        return self.nursery.start(number, generation, lambda _ours: fork(), self._be_born, _worker)

    @property
    def template(self) -> Template:
        (found,) = self.nursery
        return found

    def order(self, number: int = 1) -> socket.socket:
        _, theirs = channel.make()
        self.nursery.order(Spawn(5, 2, 1, template=number), theirs, 2)
        return theirs


def test_a_template_that_is_forked_is_listened_to() -> None:
    house = House()
    assert house.start() == TemplateForked(1, 70)
    assert house.selector.get_key(house.template.line).data is house.template


def test_its_word_is_an_event() -> None:
    """It is there when the settings' variables are, and with what makes a worker."""
    house = House()
    house.start(fork=os.fork)
    pid = house.template.pid
    assert house.selector.select(PATIENCE)
    assert house.nursery.listen(house.template) == TemplateReady(1)
    os.waitpid(pid, 0)


def test_a_fork_that_fails_leaves_nothing() -> None:
    def fork() -> int:
        raise OSError(11, "no more")

    house = House()
    assert house.start(fork=fork) == TemplateFailed(1, "no more")
    assert list(house.nursery) == []
    assert not house.selector.get_map()


def test_an_order_without_a_template_is_an_error_of_the_system() -> None:
    house = House()
    house.start(number=1)
    with pytest.raises(OSError, match="there is no template"):
        house.order(number=2)


def test_a_template_whose_line_ends_is_ended_and_not_listened_to_any_more() -> None:
    """Its end was closed when it was forked, as far as this process goes, and there is no other."""
    house = House()
    house.start()
    assert house.nursery.listen(house.template) is None
    assert house.kernel.sent == [(70, signal.SIGKILL)]
    assert not house.selector.get_map()


def test_one_that_is_told_to_end_loses_its_line_and_gets_a_signal() -> None:
    house = House()
    house.start()
    house.nursery.stop(1)
    assert house.template.line.fileno() == -1
    assert not house.selector.get_map()
    assert house.kernel.sent == [(70, signal.SIGTERM)]
    assert house.nursery.take(70) is not None, "it is there until it is reaped"


def test_only_a_template_is_taken_for_one() -> None:
    house = House()
    house.start()
    found = house.template
    assert house.nursery.take(71) is None
    assert house.nursery.take(70) is found
    assert list(house.nursery) == []
    assert not house.selector.get_map()


def test_a_template_that_is_not_here_is_told_nothing() -> None:
    house = House()
    house.nursery.stop(3)
    house.nursery.kill(3, signal.SIGKILL)
    assert house.kernel.sent == []


def test_one_that_was_a_worker_is_ordered_to_fork_like_any_other() -> None:
    house = House()
    ours, theirs = template.make()
    generation: Any = SimpleNamespace(number=1)
    house.nursery.adopt(Template(4, generation, 74, ours, requests=500))
    assert house.selector.get_key(ours).data is house.nursery.get(4)
    house.order(number=4)
    order = template.next_order(theirs)
    assert order is not None
    assert (order.serial, order.slot) == (5, 2)
    assert house.nursery.take(74) is not None
