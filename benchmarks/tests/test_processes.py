# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import subprocess
import sys
import time

import processes
import pytest


def test_a_wait_is_counted_as_one_wakeup_of_the_thread_that_waited() -> None:
    before = processes.wakeups_of(os.getpid())
    for _ in range(20):
        time.sleep(0.001)

    assert 20 <= processes.wakeups_of(os.getpid()) - before < 60


def test_a_tree_in_which_processes_come_and_go_does_not_settle() -> None:
    coming = "import subprocess, sys\nwhile True: subprocess.run([sys.executable, '-c', ''])"
    with subprocess.Popen([sys.executable, "-c", coming]) as process:
        with pytest.raises(processes.ServerError, match="come and go"):
            processes.settle(process.pid, 5.0, 0.5)
        process.kill()


def test_a_tree_that_stays_as_it_is_has_settled() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        processes.settle(process.pid, 0.2, 30.0)
        process.kill()
