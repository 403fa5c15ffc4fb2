# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from prefork.process.kernel import Unix, death_of
from prefork.supervisor.messages import Death

if TYPE_CHECKING:
    from collections.abc import Callable


def child(kernel: Unix, live: Callable[[], object]) -> int:
    """Fork a process that does this and exits with 0."""
    pid = kernel.fork()
    if pid == 0:
        live()
        os._exit(0)
    return pid


def reap_one(kernel: Unix) -> tuple[int, Death]:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        for found in kernel.reap():
            return found
        time.sleep(0.005)
    raise AssertionError("nobody has ended")


def test_an_exit_code_is_seen() -> None:
    kernel = Unix()
    pid = child(kernel, lambda: os._exit(7))
    assert reap_one(kernel) == (pid, Death(code=7))


def test_the_signal_that_killed_is_seen() -> None:
    kernel = Unix()
    pid = child(kernel, signal.pause)
    kernel.kill(pid, signal.SIGKILL)
    assert reap_one(kernel) == (pid, Death(signal=9, signal_name="SIGKILL"))


def test_a_real_time_signal_has_no_name_but_a_number() -> None:
    assert str(death_of(40)) == "killed by signal 40"


def test_nobody_to_reap_is_not_an_error() -> None:
    assert list(Unix().reap()) == []


def test_a_child_that_lives_is_not_waited_for() -> None:
    kernel = Unix()
    pid = child(kernel, signal.pause)
    assert list(kernel.reap()) == []
    os.kill(pid, signal.SIGKILL)
    reap_one(kernel)


def test_a_signal_to_nobody_is_not_an_error() -> None:
    kernel = Unix()
    pid = child(kernel, lambda: None)
    os.waitpid(pid, 0)
    kernel.kill(pid, signal.SIGTERM)


def test_what_was_printed_before_a_fork_is_printed_once() -> None:
    program = (
        "import os, sys; from prefork.process.kernel import Unix; sys.stdout.write('once ');"
        "pid = Unix().fork(); sys.stdout.flush(); pid and os.wait()"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert out.stdout == "once "


def test_the_clock_is_the_one_that_workers_write_deadlines_by() -> None:
    before = time.monotonic()
    assert before <= Unix().now() <= time.monotonic()
