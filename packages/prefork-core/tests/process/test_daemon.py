# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prefork.process.daemon import Starter


def start(body: str) -> subprocess.CompletedProcess[str]:
    """Run a program that becomes a daemon and then does this with its `starter`."""
    program = f"import os, sys\nfrom prefork.process.daemon import daemonize\nstarter = daemonize()\n{body}\n"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_starting_process_exits_when_the_daemon_is_ready() -> None:
    done = start("import time; starter.tell(0); time.sleep(0.3)")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_starting_process_exits_with_the_daemons_failure_and_prints_it() -> None:
    done = start("starter.tell(3, 'the application cannot be loaded\\n')")
    assert (done.returncode, done.stderr) == (3, "the application cannot be loaded\n")


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_daemon_that_dies_without_a_word_is_a_failure(end: str) -> None:
    done = start(end)
    assert done.returncode == 70
    assert "ended before it was ready" in done.stderr


def test_a_daemon_has_its_own_session_no_terminal_and_no_output() -> None:
    body = (
        "print('lost', flush=True); sys.stderr.write('lost')\n"
        "facts = os.getsid(0) != os.getpid(), [os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)]\n"
        "starter.tell(0, repr(facts))"
    )
    done = start(body)
    assert done.stdout == ""
    assert done.stderr == "(True, ['/dev/null', '/dev/null', '/dev/null'])"


def test_the_outcome_is_told_once() -> None:
    read, write = os.pipe()
    starter = Starter(write)
    starter.tell(0)
    starter.tell(3, "too late")
    starter.close()
    assert starter.fileno() is None
    assert os.read(read, 100) == b"\0"
    os.close(read)


def test_a_starting_process_that_is_gone_is_not_an_error() -> None:
    read, write = os.pipe()
    os.close(read)
    Starter(write).tell(0)
