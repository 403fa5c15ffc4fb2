# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import subprocess
import sys

from prefork.testing import processes
from prefork.testing.waiting import until


def test_a_process_is_seen_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = processes.look(child.pid)
        assert found is not None
        assert (found.parent, found.is_zombie) == (os.getpid(), False)
        assert child.pid in [each.pid for each in processes.children(os.getpid())]
        assert processes.is_running(child.pid)
        assert processes.folder(child.pid) == os.getcwd()
        until(lambda: processes.title(child.pid).endswith(" -c input()"), "its command line")
        child.kill()
        until(lambda: not processes.is_running(child.pid), "its end")
    assert processes.look(child.pid) is None
    assert processes.title(child.pid) == processes.folder(child.pid) == ""


def test_an_open_descriptor_is_seen() -> None:
    before = processes.descriptors(os.getpid())
    reader, writer = os.pipe()
    assert len(processes.descriptors(os.getpid())) == len(before) + 2
    os.close(reader)
    os.close(writer)
    assert processes.descriptors(os.getpid()) == before
