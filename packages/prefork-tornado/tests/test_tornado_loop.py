# SPDX-License-Identifier: MIT
"""Which event loop a worker has; each test runs in a process of its own, since a fork is what it is about."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import asyncio, logging, os
from tornado.ioloop import IOLoop, PeriodicCallback
from prefork_tornado import loop

log = logging.getLogger("test")
log.warning = lambda text: print("warned")

def in_child(check):
    if os.fork() == 0:
        print(check(), flush=True)
        os._exit(0)
    os.wait()
"""


def run(program: str) -> list[str]:
    """Return what a program says."""
    command = [sys.executable, "-W", "error", "-c", BEGIN + program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_application_finds_the_loop_that_will_run() -> None:
    program = """
loop.prepare(forks_later=False)
found = IOLoop.current().asyncio_loop
print(loop.own(log) is found)
"""
    assert run(program) == ["True"]


def test_a_loop_of_a_template_is_not_run_in_its_workers() -> None:
    program = """
loop.prepare(forks_later=True)
found = IOLoop.current().asyncio_loop
in_child(lambda: loop.own(log) is not found and IOLoop.current().asyncio_loop is loop.own(log))
print(loop.own(log) is found)
"""
    assert run(program) == ["True", "True"]


@pytest.mark.parametrize(
    "starts",
    [
        "PeriodicCallback(print, 10).start()",
        "IOLoop.current().add_callback(print)",
        "work = asyncio.sleep(1); asyncio.get_event_loop().create_task(work)",
    ],
)
def test_what_was_left_to_it_is_known_to_be_lost(starts: str) -> None:
    program = f"""
loop.prepare(forks_later=True)
{starts}
in_child(lambda: loop.own(log) is None)
os._exit(0)
"""
    assert run(program) == ["warned", "False"]


def test_tornados_reloader_is_declined() -> None:
    program = """
import tornado.autoreload
logging.getLogger("tornado.general").warning = lambda text: print("declined")
loop.prepare(forks_later=False)
tornado.autoreload.start()
"""
    assert run(program) == ["declined"]
