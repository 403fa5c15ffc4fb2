# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import time

import processes


def test_a_wait_is_counted_as_one_wakeup_of_the_thread_that_waited() -> None:
    before = processes.wakeups_of(os.getpid())
    for _ in range(20):
        time.sleep(0.001)

    assert 20 <= processes.wakeups_of(os.getpid()) - before < 60
