# SPDX-License-Identifier: MIT
"""How many connections a worker takes in a row; the rest of the acceptor is tested with those that use it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from serving import Worker as Parts

from prefork.net.poller import Poller
from prefork.process.scoreboard import Scoreboard, Stage
from prefork.workers.acceptor import Acceptor

if TYPE_CHECKING:
    from pathlib import Path


def in_a_row(folder: Path, own: int, *siblings: int, draining: bool = False) -> int:
    """Return what a worker may take that has some connections, and siblings with others."""
    parts = Parts(print, folder)
    board = Scoreboard(len(siblings) + 1)
    slots = [board.slot(number) for number in range(len(siblings))]
    for slot, count in zip(slots, siblings, strict=True):
        slot.clear(1, Stage.READY)
        slot.connections = count
    ctx = parts.make_context(os.getppid())
    ctx.siblings = lambda: slots
    poller = Poller()
    acceptor = Acceptor(ctx, poller)
    acceptor.take()
    acceptor.look_around()
    if draining:
        acceptor.drain()
    found = acceptor.at_once(own)
    acceptor.end()
    poller.close()
    return found


def test_who_is_alone_takes_many(tmp_path: Path) -> None:
    assert in_a_row(tmp_path, 500) == 16


def test_who_has_fewer_than_all_siblings_catches_up(tmp_path: Path) -> None:
    assert in_a_row(tmp_path, 3, 10, 12) == 11
    assert in_a_row(tmp_path, 3, 100, 120) == 16


@pytest.mark.parametrize(("own", "taken"), [(10, 4), (12, 2), (13, 1), (14, 1), (500, 1)])
def test_nobody_gets_far_ahead_of_the_sibling_with_the_fewest(tmp_path: Path, own: int, taken: int) -> None:
    assert in_a_row(tmp_path, own, 90, 10) == taken


def test_what_is_queued_at_the_end_is_taken_whatever_siblings_have(tmp_path: Path) -> None:
    assert in_a_row(tmp_path, 500, 10, draining=True) == 16
