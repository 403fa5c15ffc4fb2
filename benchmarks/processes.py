# SPDX-License-Identifier: MIT
"""Starts a server on one core, and reads what its whole process tree has used of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TICK: Final = 1e6 / os.sysconf("SC_CLK_TCK")
"""Microseconds in one tick of /proc/<pid>/stat."""
BOOT_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0


class ServerError(Exception):
    """A server did not start or did not serve."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def tree(root: int) -> Iterator[int]:
    """Yield a process and its living descendants; /proc has each thread's children apart."""
    yield root
    for task in Path(f"/proc/{root}/task").iterdir():
        for child in task.joinpath("children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from tree(int(child))


class Cpu(NamedTuple):
    """Time on the CPU, in microseconds."""

    user: float
    system: float


def cpu_of(root: int) -> Cpu:
    """Return what a process tree has used, with its children that were reaped already.

    Args:
        root: the pid that the tree starts at.

    Returns:
        Its times, in steps of a clock tick. Source: proc_pid_stat(5), fields 14 to 17.
    """
    user = system = 0
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The command may hold spaces and parentheses; what follows its last one does not.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return Cpu(user * TICK, system * TICK)


@contextlib.contextmanager
def serving(command: Sequence[str], core: int, answers: Callable[[], None]) -> Iterator[int]:
    """Run a server for a while.

    Args:
        command: its command line.
        core: the core that it and all its descendants are pinned to.
        answers: raises OSError as long as the server does not answer.

    Yields:
        The pid of its first process.

    Raises:
        ServerError: it ended, or did not answer within 20 seconds.
    """
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    # A file, because a pipe that nobody reads would stop a talkative server.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {core}),  # noqa: PLW1509 - this program has one thread
        )
        try:
            if trouble := _wait(process, answers):
                errors.seek(0)
                raise ServerError(f"{command[0]} {trouble}:\n{errors.read().decode(errors='replace')}")
            yield process.pid
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], None]) -> str:
    """Return nothing when the server answers, or what it did instead."""
    deadline = time.monotonic() + BOOT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            answers()
            return ""
        time.sleep(0.05)
    return "did not answer" if process.returncode is None else f"ended with {process.returncode}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server's session: by its own means, and by force when it does not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
