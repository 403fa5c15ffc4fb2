# SPDX-License-Identifier: MIT
"""Starts programs on their core; reads what a process tree uses of CPU and memory. Knows no server."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

TICK: Final = 1e6 / os.sysconf("SC_CLK_TCK")
"""Microseconds in one tick of /proc/<pid>/stat."""
CPUCLOCK_SCHED: Final = 2
"""Which clock of a process: its scheduler's. Source: include/linux/posix-timers.h."""
APPLICATIONS: Final = Path(__file__).with_name("applications")
BOOT_SECONDS: Final = 20.0
STOP_SECONDS: Final = 1.5
"""Longer than any server here takes without a request; one that holds some is killed."""


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

    total: float
    system: float
    """The kernel's part of it; in ticks of 10 ms, because nothing finer says it."""


def cpu_of(root: int) -> Cpu:
    """Return what a process tree has used, with its children that were reaped already.

    The total is read from each process's CPU clock: the scheduler's own account in nanoseconds, of all
    its threads. /proc/<pid>/stat rounds the same account to ticks, which is 0.5 % of a run of two seconds
    for each process of the tree. /proc/<pid>/task/*/schedstat is as fine, but forgets threads that have
    ended, and of a running thread it says what was true at the last tick.

    Args:
        root: the pid that the tree starts at.

    Returns:
        Its times. Source: clock_getcpuclockid(3); proc_pid_stat(5), fields 15 to 17.
    """
    total = 0.0
    system = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            # The clock of a process, as glibc's clock_getcpuclockid makes it from the pid.
            total += time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1e3
            # The command may hold spaces and parentheses; what follows its last one does not.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) * TICK
            system += int(fields[12]) + int(fields[14])
    return Cpu(total, system * TICK)


class Memory(NamedTuple):
    """Resident memory of a process tree, in KiB."""

    pss: float
    """Pages that n processes share count 1/n for each, so a tree's sum is what it takes of the machine."""
    uss: float
    """Pages that no other process has."""


def memory_of(root: int) -> Memory:
    """Return what a process tree has resident. Source: proc_pid_smaps(5), smaps_rollup."""
    sums = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, _, value = line.partition(":")
                if name in sums:
                    sums[name] += int(value.split()[0])
    return Memory(sums["Pss"], sums["Private_Clean"] + sums["Private_Dirty"])


def settle(root: int, seconds: float, patience: float) -> None:
    """Wait until no process has come to or gone from a tree for a while.

    Args:
        root: the pid that the tree starts at.
        seconds: the while.
        patience: seconds after which that is given up.

    Raises:
        ServerError: it was given up.
    """
    since = begun = time.monotonic()
    before: set[int] = set()
    while time.monotonic() - since < seconds:
        if time.monotonic() - begun > patience:
            raise ServerError(f"its processes come and go, for {patience:g} seconds")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = set(tree(root))
            if found != before:
                before, since = found, time.monotonic()
        time.sleep(0.05)


def wakeups_of(root: int) -> int:
    """Return how often the living threads of a process tree have stopped to wait, and so been woken again.

    Args:
        root: the pid that the tree starts at.

    Returns:
        The sum of their voluntary context switches. Source: proc_pid_status(5).
    """
    count = 0
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                count += _switches(task.joinpath("status").read_text())
    return count


def _switches(status: str) -> int:
    """Return the voluntary context switches in the text of a thread's status."""
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def confine(cores: AbstractSet[int]) -> None:
    """Pin this process, which is about to become a program, and let it open as many files as it may."""
    os.sched_setaffinity(0, cores)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    cores: AbstractSet[int],
    answers: Callable[[], None],
    environ: Mapping[str, str],
) -> Iterator[int]:
    """Run a server for a while.

    Args:
        command: its command line.
        cores: that it and all its descendants are pinned to.
        answers: raises OSError as long as the server does not answer.
        environ: what is added to its environment.

    Yields:
        The pid of its first process.

    Raises:
        ServerError: it ended, or did not answer within 20 seconds.
    """
    # A file, because a pipe that nobody reads would stop a talkative server.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(APPLICATIONS), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=partial(confine, cores),  # noqa: PLW1509 - this program has one thread
        )
        try:
            if trouble := _wait(process, answers):
                errors.seek(0)
                raise ServerError(
                    f"{Path(command[0]).name} {trouble}: {errors.read().decode(errors='replace')}"
                )
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
