# SPDX-License-Identifier: MIT
"""Hubs of processes that were forked; integration-tests/workers has those of workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """\
import os
from prefork_eventlet import forks, library
eventlet = library.eventlet
forks.follow()
read, write = os.pipe()
green = library.Eventlet()
woken = []
def wait():
    woken.append(green.wait(read, 5.0, to_write=False))
if {waits}:
    waiting = eventlet.spawn(wait)
    eventlet.sleep(0.001)
child = os.fork()
if not {waits}:
    waiting = eventlet.spawn(wait)
    eventlet.sleep(0.001)
if child == 0:
    if {child_ends}:
        waiting.kill()
    else:
        os.write(write, b"12")
        waiting.wait()
        os.read(read, 1)
    os._exit(0 if woken == [True] else 7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if {child_ends}:
    os.write(write, b"1")
waiting.wait()
print(status, woken)
"""


@pytest.fixture(autouse=True, params=["epolls", "asyncio", "poll"])
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs run on each hub."""
    monkeypatch.setenv("EVENTLET_HUB", request.param)


def run(*, waits: bool, child_ends: bool) -> str:
    """Have a process and one that it forks wait for the same pipe.

    Args:
        waits: whether it waits already when it forks.
        child_ends: whether the child waits no more; else it writes for both.

    Returns:
        The exit status of the child, and what the other was told.
    """
    program = PROGRAM.format(waits=waits, child_ends=child_ends)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("waits", [True, False])
def test_who_waits_is_woken_although_a_child_waits_no_more(waits: bool) -> None:
    """A child that forgets a descriptor took it out of what its parent waits in."""
    assert run(waits=waits, child_ends=True) == "7 [True]"


@pytest.mark.parametrize("waits", [True, False])
def test_who_waits_in_a_child_is_woken_beside_its_parent(waits: bool) -> None:
    """What the greenlets of the parent wait for, their copies wait for, too."""
    assert run(waits=waits, child_ends=False) == "0 [True]"
