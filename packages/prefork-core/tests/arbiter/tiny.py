# SPDX-License-Identifier: MIT
"""A server whose workers are a few lines: `python tiny.py FLAGS…` in a folder with a file `behaviour`.

The file says what a worker does that is booted then; see `live`. Each connection is answered
with the facts of the worker that took it.
"""

from __future__ import annotations

import errno
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
from prefork.process.kernel import Unix
from prefork.process.scoreboard import Stage
from prefork.settings import load
from prefork.supervisor.messages import Order, Report


def live(**inherited: Any) -> int:
    """Be a worker."""
    slot, channel = inherited["slot"], inherited["channel"]
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
    misbehave(word, argument, slot, channel)
    sockets = [listener.sock for listener in inherited["listeners"]]
    return serve(sockets, channel, slot, inherited["worker"], deaf=word == "deaf")


KEPT: list[bytearray] = []


def misbehave(word: str, argument: str, slot: Any, channel: Any) -> None:
    """Do what the file says, if it is about a worker that is ready."""
    match word:
        case "crash":
            time.sleep(float(argument))
            os.kill(os.getpid(), signal.SIGSEGV)
        case "nap":
            time.sleep(float(argument))
        case "large":
            KEPT.append(bytearray(b"x") * (int(argument) << 20))
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
        case "retire":
            channels.report(channel, Report.RETIRE)
        case "busy":
            slot.thread(0).begin(b"GET /progress", time.monotonic())
            while True:
                slot.thread(0).deadline = time.monotonic() + float(argument)
                time.sleep(0.05)
        case "late":
            slot.thread(0).begin(b"GET /stuck?a=1", time.monotonic())
            slot.thread(0).deadline = time.monotonic() + float(argument)
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            time.sleep(60.0)


def serve(sockets: list[Any], channel: Any, slot: Any, worker: Any, *, deaf: bool) -> int:
    """Answer until an order comes, and then those that are queued."""
    while True:
        readable, _, _ = select.select([channel, *sockets], [], [])
        for sock in readable:
            if sock is not channel:
                answer(sock, slot, worker)
        told = channels.read_order(channel) if channel in readable else None
        order = None if told is None else told.order
        if order is Order.DRAIN and not deaf:
            for sock in sockets:
                while answer(sock, slot, worker):
                    pass
        if order is not None and not deaf:
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


class Faulty:
    """The operating system, whose forks fail as long as there is a file `fault` that says how."""

    def __init__(self) -> None:
        self._real = Unix()

    def fork(self) -> int:
        """Fork, or fail."""
        fault = Path("fault")
        if fault.exists():
            raise {"EAGAIN": OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "bug": RuntimeError("a bug")}[
                fault.read_text()
            ]
        return self._real.fork()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def main() -> int:
    """Run the server."""
    arguments = ["app:app", "-k", "sync", *sys.argv[1:]]
    try:
        environ = dict(os.environ)
        kernel: Any = Faulty()
        return boot.serve(
            load(arguments, environ, os.getcwd()), arguments, environ, entry=live, kernel=kernel
        )
    except PreforkError as error:
        sys.stderr.write(f"prefork: error: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
