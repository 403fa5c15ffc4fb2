# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import signal
import time

from deadlines import PATIENCE
from serving import Forked

from prefork.process import lineage


def read(fd: int) -> bytes:
    """Return what comes through a pipe, once something does."""
    assert select.select([fd], [], [], PATIENCE)[0], "nothing comes"
    return os.read(fd, 100)


def test_an_orphan_becomes_the_child_of_who_adopts_it() -> None:
    def live() -> int:
        """Adopt a grandchild, and wait for it."""
        assert lineage.adopt_orphans()
        read_end, write_end = os.pipe()
        middle = os.fork()
        if middle == 0:
            orphan = os.fork()
            if orphan == 0:
                time.sleep(0.05)
                os._exit(7)
            os.write(write_end, str(orphan).encode())
            os._exit(0)
        os.waitpid(middle, 0)
        _, status = os.waitpid(int(read(read_end)), 0)
        return os.waitstatus_to_exitcode(status)

    with Forked(live) as process:
        assert process.status() == 7


def test_it_ends_with_its_parent() -> None:
    read_end, write_end = os.pipe()

    def live() -> int:
        """Have a child that would sleep for long, and end."""
        if os.fork() == 0:
            assert lineage.end_with_parent(signal.SIGTERM)
            os.write(write_end, b"there")
            time.sleep(60)
        read(read_end)
        return 0

    with Forked(live) as process:
        assert process.status() == 0
    os.close(write_end)
    assert read(read_end) == b"", "nobody has the other end any more"
    os.close(read_end)
