# SPDX-License-Identifier: MIT
"""A server whose workers are a few lines: `python tiny.py FLAGS…` in a folder with a file `behaviour`.

The file says what a worker does that is booted then; see `live`. Each connection is answered
with the facts of the worker that took it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from prefork.arbiter import boot
from prefork.errors import PreforkError
from prefork.process import channel as channels
from prefork.process.scoreboard import Stage
from prefork.settings import load
from prefork.supervisor.messages import Report


def live(*, slot: Any, channel: Any, listeners: Any, worker: Any, **_: Any) -> int:
    """Be a worker."""
    signal.signal(signal.SIGUSR1, lambda *_: Path("usr1").write_text(str(os.getpid())))
    word, _, argument = Path("behaviour").read_text().strip().partition(" ")
    match word:
        case "exit":
            return int(argument)
        case "hang":
            signal.pause()
        case "slow":
            time.sleep(float(argument))
    slot.stage = Stage.READY
    channels.report(channel, Report.READY)
    match word:
        case "crash":
            time.sleep(float(argument))
            os.kill(os.getpid(), signal.SIGSEGV)
        case "retire":
            channels.report(channel, Report.RETIRE)
        case "late":
            slot.request_begin("GET", "/stuck?a=1", time.monotonic())
            slot.deadline = time.monotonic() + float(argument)
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            time.sleep(60.0)
    sockets = [listener.sock for listener in listeners]
    while True:
        readable, _, _ = select.select([channel, *sockets], [], [])
        for sock in readable:
            if sock is not channel:
                answer(sock, slot, worker)
        if channel in readable and channels.read_order(channel) is not None and word != "deaf":
            for sock in sockets:
                while answer(sock, slot, worker):
                    pass
            return 0


def answer(sock: Any, slot: Any, worker: Any) -> bool:
    """Take one connection; return False when there was none."""
    try:
        connection, _ = sock.accept()
    except BlockingIOError:
        return False
    facts = [os.getpid(), slot.generation, os.getcwd(), os.environ.get("COLOUR", "-"), worker.age]
    with connection:
        connection.sendall("\t".join(map(str, facts)).encode())
    return True


def main() -> int:
    """Run the server."""
    arguments = ["app:app", "-k", "sync", *sys.argv[1:]]
    try:
        environ = dict(os.environ)
        return boot.serve(load(arguments, environ, os.getcwd()), arguments, environ, entry=live)
    except PreforkError as error:
        sys.stderr.write(f"prefork: error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
