# SPDX-License-Identifier: MIT
from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from supervised import Server

from prefork.arbiter.lateness import Limits, Suspicion
from prefork.arbiter.rounds import FROZEN, Rounds
from prefork.arbiter.weighing import FIRST
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.supervisor.messages import Event, Overdue, Sampled, Weighed

if TYPE_CHECKING:
    from collections.abc import Iterable


class Scene:
    """A server of one worker, with a clock that moves by hand. It has a request since second 100."""

    def __init__(self, **policy: Any) -> None:
        self.time = 100.0
        self.explained: list[str] = []
        slot = Scoreboard(1).slot(0)
        slot.clear(1, Stage.READY, 1)
        slot.thread(0).belong_to(1)
        self.slot = slot
        self.worker = SimpleNamespace(
            serial=1, pid=1001, slot=slot, limits=Limits(timeout=30.0), suspicion=Suspicion(), late=[]
        )
        this: Any = self
        self.rounds = Rounds(this, Server.running(1, **policy).fleet, this, this)

    def now(self) -> float:
        return self.time

    def private_memory(self, pid: int) -> int:
        return pid

    def among(self, serials: Iterable[int]) -> list[Any]:
        return [self.worker for serial in serials if serial == 1]

    def ask(self, _worker: object, why: str, *_: object, **__: object) -> None:
        self.explained.append(why)

    def begin(self) -> None:
        self.slot.thread(0).begin(b"GET /", self.time, self.time + 30.0)

    def look(self) -> list[Event]:
        return list(self.rounds.look([]))


def test_a_request_is_found_when_it_is_stuck_and_the_look_comes_in_time() -> None:
    scene = Scene()
    scene.begin()
    assert scene.rounds.next_at(scene.time) == 130.0
    scene.time = 130.0
    (event,) = scene.look()
    assert isinstance(event, Overdue)
    assert [current.started for current in scene.worker.late] == [100.0]


def test_after_everybody_was_stopped_workers_get_time_to_move_their_deadlines() -> None:
    scene = Scene()
    scene.begin()
    scene.time = 500.0
    scene.rounds.wake(130.0, scene.time)
    assert scene.look() == []
    assert scene.rounds.next_at(scene.time) == 500.0 + FROZEN
    scene.time += FROZEN
    assert len(scene.look()) == 1


def test_a_slow_request_is_explained_and_nothing_follows() -> None:
    scene = Scene()
    scene.worker.limits = Limits(timeout=30.0, slow_request=5.0)
    scene.begin()
    scene.time = 105.0
    assert scene.look() == []
    assert scene.explained == ["has a slow request"]


def test_memory_and_load_are_looked_at_if_the_settings_ask_for_it() -> None:
    for policy, kind in (({"memory": 100}, Weighed), ({"max_workers": 4}, Sampled)):
        asked, idle = Scene(**policy), Scene()
        idle.worker.limits = asked.worker.limits = Limits()
        found = []
        for scene in (asked, idle):
            scene.look()
            scene.time += FIRST
            found.append([type(event) for event in scene.look()])
        assert found == [[kind], []]
        assert asked.rounds.next_at(asked.time) < inf == idle.rounds.next_at(idle.time)
