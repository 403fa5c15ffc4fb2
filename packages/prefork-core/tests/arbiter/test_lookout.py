# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import os
import selectors
import signal
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork.arbiter.generation import Generation
from prefork.arbiter.lookout import Lookout, sources_of
from prefork.autoreload.imported import Imported
from prefork.hooks import Hooks
from prefork.process.cpus import Count
from prefork.process.kernel import Unix
from prefork.settings import Settings
from prefork.supervisor.backoff import FIRST_WAIT
from prefork.supervisor.messages import Death
from prefork.workers.sync import SyncWorker

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

KILLED = Death(signal=9, signal_name="SIGKILL")


def generation(folder: Path, number: int = 1, **settings: Any) -> Generation:
    logs: Any = None
    given = Settings(**{"reload": True, **settings})
    common = (given, Hooks(), str(folder), SyncWorker, Count(1, ""), (), logs)
    return Generation(number, *common, imported=Imported())


class Brood:
    """Forks processes that do nothing but live."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.fails = False

    def fork_aide(self, _ours: socket.socket, _others: object) -> int:
        if self.fails:
            raise OSError(11, "Resource temporarily unavailable")
        pid = os.fork()
        if pid == 0:
            signal.pause()
        self.pids.append(pid)
        return pid


@pytest.fixture
def brood() -> Brood:
    return Brood()


@pytest.fixture
def lookout(brood: Any) -> Iterator[Lookout]:
    with selectors.DefaultSelector() as selector:
        made = Lookout(Unix(), brood, selector, logging.getLogger("test.lookout"))
        yield made
        made.end()


def test_the_folders_of_the_application_are_watched(tmp_path: Path) -> None:
    found = sources_of(generation(tmp_path, pythonpath=("lib", "/opt/lib/")))
    assert found is not None
    assert found.folders == (str(tmp_path), str(tmp_path / "lib"), "/opt/lib")


def test_extra_files_are_those_of_the_folder(tmp_path: Path) -> None:
    found = sources_of(generation(tmp_path, reload_extra_files=("pages/*.html", "/etc/shop.toml")))
    assert found is not None
    assert found.extra == (str(tmp_path / "pages" / "*.html"), "/etc/shop.toml")


def test_without_reload_nothing_is_watched(tmp_path: Path, lookout: Lookout, brood: Brood) -> None:
    lookout.keep(generation(tmp_path, reload=False), (), 100.0)
    assert brood.pids == []
    assert lookout.next_start() == inf


def test_one_process_watches_for_all_generations_that_watch_the_same(
    tmp_path: Path, lookout: Lookout, brood: Brood
) -> None:
    for number in (1, 2, 2):
        lookout.keep(generation(tmp_path, number), (), 100.0)
    assert len(brood.pids) == 1


def test_what_is_watched_anew_is_watched_by_a_new_process(
    tmp_path: Path, lookout: Lookout, brood: Brood
) -> None:
    lookout.keep(generation(tmp_path), (), 100.0)
    lookout.keep(generation(tmp_path, 2, reload_extra_files=("a",)), (), 100.0)
    old, _ = brood.pids
    assert os.waitpid(old, 0)[1] == signal.SIGKILL
    assert lookout.ended(old, KILLED, 100.0)
    assert lookout.next_start() == inf


def test_one_that_died_is_followed_after_a_wait(tmp_path: Path, lookout: Lookout, brood: Brood) -> None:
    present = generation(tmp_path)
    lookout.keep(present, (), 100.0)
    os.kill(brood.pids[0], signal.SIGKILL)
    os.waitpid(brood.pids[0], 0)
    assert lookout.ended(brood.pids[0], KILLED, 101.0)
    lookout.keep(present, (), 101.0)
    assert len(brood.pids) == 1
    assert lookout.next_start() == 101.0 + FIRST_WAIT
    lookout.keep(present, (), 101.0 + FIRST_WAIT)
    assert len(brood.pids) == 2


def test_a_fork_that_fails_is_tried_again_later(tmp_path: Path, lookout: Lookout, brood: Brood) -> None:
    present = generation(tmp_path)
    brood.fails = True
    lookout.keep(present, (), 100.0)
    assert lookout.next_start() > 100.0
    brood.fails = False
    lookout.keep(present, (), lookout.next_start())
    assert len(brood.pids) == 1


def test_a_strangers_death_is_none_of_its_business(tmp_path: Path, lookout: Lookout) -> None:
    lookout.keep(generation(tmp_path), (), 100.0)
    assert not lookout.ended(os.getpid(), KILLED, 100.0)


def test_at_the_end_nobody_is_left(tmp_path: Path, lookout: Lookout, brood: Brood) -> None:
    lookout.keep(generation(tmp_path), (), 100.0)
    lookout.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(brood.pids[0], 0)
