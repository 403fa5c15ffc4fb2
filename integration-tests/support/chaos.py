# SPDX-License-Identifier: MIT
"""What is done to a server at random, and the account of what became of each request meanwhile.

`EVENTS` is the table of what can happen; a seed makes a plan of it, and the same seed the same plan.
The application writes each request into a journal of its process when it begins, see `journal`. So a request
that has no answer was in a process that was killed, which `custody` knows, or the server has lost it.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import random
import re
import resource
import time
from collections import Counter
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, Signals
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.testing import client, processes
from prefork.testing.waiting import until
from support import control, workers
from support.custody import Custody
from support.journal import HOOK, Journal, deploy, write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from random import Random

    from prefork.testing.client import Answer
    from prefork.testing.load import Load, Loss
    from support.custody import Seizure
    from support.server import Server

FLAGS: Final = f"-c prefork.conf.py -p server.pid {control.FLAGS}"
LEAST: Final = 2
MOST: Final = 6
"""Workers, between which TTIN and TTOU move."""

SETTINGS: Final[dict[str, object]] = {
    "errorlog": "logs/error.log",
    "accesslog": "logs/access.log",
    "status_bind": "unix:status.sock",
    "timeout": 3,
    "boot_timeout": 6,
    "graceful_timeout": 15,
    "keepalive": 2,
}
FLAVOURS: Final[tuple[dict[str, object], ...]] = (
    {},
    {"max_requests": 50},
    {"max_requests": 50, "max_requests_jitter": 25},
    {"max_worker_memory": "32m"},
    {"max_worker_lifetime": 3},
    {"max_requests": 50, "reload_batch": 3},
    {"refork": 40},
    {"refork": 20, "max_requests": 50},
)
"""What a good reload may change."""
WRONG: Final = (
    "wokers = 3",
    "timeout = 'soon'",
    "def :",
    "import nothing_of_that_name",
    "raise SystemExit(3)",
    "chdir = '/nothing/of/that/name'",
    "accesslog = '/nothing/of/that/name/access.log'",
)
"""Lines that make a configuration one that cannot be used."""
BROKEN: Final = ("raise RuntimeError('broken')", "os._exit(9)", "sys.exit(1)", "this is no Python", "del app")
"""Lines that make the application one that cannot be loaded."""

_WORKER: Final = "prefork: worker"
_REPLACED: Final = (_WORKER, "prefork: template", "prefork: status")
_LOOK: Final = 0.25
_UPGRADE: Final = 60.0
"""Seconds: more than three times boot_timeout, and graceful_timeout."""
_WITHOUT_WORKERS: Final = re.compile(r"arbiter (\d+) has taken over, and none of its workers is ready")
"""What `preforkctl upgrade` says when it exits with 1 though there is another arbiter now."""
_NONE: Final = 3
"""Descriptors that a process may have: the standard streams. Others stay open, but there are no new ones."""
_SHOWN: Final = 10
_LAST: Final = 500
"""Lines of the error log that are printed when something went wrong: of about the last ten seconds."""
_NEAR: Final = 4.0
"""Seconds before a loss in which what has happened may explain it."""


def settle(folder: Path, *lines: str, **settings: object) -> None:
    """Write the configuration with some settings and lines more, at once."""
    assignments = [f"{name} = {value!r}" for name, value in {**SETTINGS, **settings}.items()]
    write(folder / "prefork.conf.py", "\n".join([*assignments, HOOK, *lines, ""]))


def prepare(folder: Path, interface: str = workers.WSGI) -> None:
    """Put into a folder what a server needs that is to see chaos."""
    (folder / "logs").mkdir()
    settle(folder)
    deploy(folder, "v1", interface)


class Step(NamedTuple):
    """One thing that is to happen."""

    at: float
    """Seconds from the begin."""
    event: Event
    seed: int
    """Of all else that is decided about it by chance."""


class Event(NamedTuple):
    """Something that can happen."""

    name: str
    often: int
    act: Callable[[Chaos, Random], str | None]
    """Does it; returns what it was, None when it could not be."""
    with_preload: bool = False
    """Whether it can only happen to a server with a template."""


def plan(seed: int, seconds: float, *, preload: bool, only: Collection[str] = ()) -> list[Step]:
    """Return what happens in some seconds; the same for the same arguments.

    Args:
        seed: of all that is decided by chance.
        seconds: how long it goes on.
        preload: whether the server has a template.
        only: names of events, when there are to be no others.
    """
    dice = random.Random(seed)
    possible = [event for event in EVENTS if preload or not event.with_preload]
    bag = [event for event in possible if not only or event.name in only for _ in range(event.often)]
    steps: list[Step] = []
    at = 0.3
    while at < seconds:
        steps.append(Step(at, dice.choice(bag), dice.getrandbits(32)))
        # Often at once, while what was before is still under way.
        at += dice.choice((0.02, 0.1, 0.2, 0.5, 0.9))
    return steps


class Chaos:
    """What happens to one server.

    Args:
        server: the server; its folder was prepared.
        loads: the clients who ask it meanwhile, all numbered differently.
        interface: of its applications.
    """

    def __init__(self, server: Server, loads: Sequence[Load], interface: str = workers.WSGI) -> None:
        self.server = server
        self.folder = server.folder
        self.loads = loads
        self._interface = interface
        self.custody = Custody()
        self.counts: Counter[str] = Counter()
        self.upgrades: Counter[str] = Counter()
        """What became of each."""
        self._timeline: list[tuple[float, str]] = []
        self._due: list[tuple[float, int, str, Callable[[], str | None]]] = []
        self._version = 1
        self._rotated = 0
        self._busy: set[str] = set()
        """What is not as it should be now, and will be mended: it is not broken twice."""
        self._is_over = False

    # What happens

    def run(self, steps: Iterable[Step]) -> None:
        """Let everything happen, and then mend what is broken."""
        began = time.monotonic()
        for step in steps:
            self._mend_until(began + step.at)
            what = step.event.act(self, random.Random(step.seed))
            if what is not None:
                self.counts[step.event.name] += 1
                self.note(f"{step.event.name}: {what}")
        self._is_over = True
        while self._due:
            self._mend(heapq.heappop(self._due))

    def _mend_until(self, at: float) -> None:
        while self._due and self._due[0][0] <= at:
            time.sleep(max(0.0, self._due[0][0] - time.monotonic()))
            self._mend(heapq.heappop(self._due))
        time.sleep(max(0.0, at - time.monotonic()))

    def _mend(self, due: tuple[float, int, str, Callable[[], str | None]]) -> None:
        self.note(f"    {due[2]}: {due[3]() or 'done'}")

    def note(self, text: str) -> None:
        """Add a line to what has happened."""
        self._timeline.append((time.time(), text))

    def later(self, seconds: float, name: str, mend: Callable[[], str | None]) -> None:
        """Have something mended later."""
        heapq.heappush(self._due, (time.monotonic() + seconds, len(self._timeline), name, mend))

    def _begin(self, what: str) -> bool:
        """Note that something is broken from now on; return False when it is already."""
        if what in self._busy:
            return False
        self._busy.add(what)
        return True

    # Reloads

    def reload(self, dice: Random) -> str:
        """Reload with good code and a good configuration, which mends both."""
        flavour = dice.choice(FLAVOURS)
        self.renew(**flavour)
        self._signal(SIGHUP)
        return f"v{self._version} with {flavour}"

    def renew(self, **settings: object) -> None:
        """Put a new version of the application, and a configuration, in the place of what is there."""
        self._deploy()
        settle(self.folder, **settings)

    def _deploy(self) -> None:
        self._version += 1
        deploy(self.folder, f"v{self._version}", self._interface)

    def reload_broken_application(self, dice: Random) -> str | None:
        """Reload an application that cannot be loaded."""
        if not self._begin("application"):
            return None
        how = dice.choice(BROKEN)
        text = (self.folder / "app.py").read_text()
        write(self.folder / "app.py", f"{text}\n{how}\n")
        self._signal(SIGHUP)
        self.later(dice.uniform(0.3, 2), "good code again", self._mend_application)
        return how

    def _mend_application(self) -> None:
        self._busy.discard("application")
        self._deploy()

    def reload_wrong_configuration(self, dice: Random) -> str | None:
        """Reload a configuration that cannot be used."""
        if not self._begin("configuration"):
            return None
        line = dice.choice(WRONG)
        settle(self.folder, line)
        self._signal(SIGHUP)
        self.later(dice.uniform(0.1, 0.5), "good configuration again", self._mend_configuration)
        return line

    def _mend_configuration(self) -> None:
        self._busy.discard("configuration")
        settle(self.folder)

    # Upgrades

    def upgrade(self, _: Random) -> str | None:
        """Have another arbiter take the place of this one; all else goes on meanwhile."""
        if not self._can_ask() or not self._begin("upgrade"):
            return None
        self._upgrade = control.start(self.folder, "upgrade", "--json")
        self.later(_LOOK, "the upgrade", self._look_at_upgrade)
        return f"of {self.server.pid}"

    def _look_at_upgrade(self) -> str | None:
        if "upgrade" in self._busy and self._upgrade.poll() is None and not self._is_over:
            self.later(_LOOK, "the upgrade", self._look_at_upgrade)
            return "is under way"
        return self._end_upgrade() if "upgrade" in self._busy else "was over"

    def _end_upgrade(self) -> str:
        """Wait until an upgrade has succeeded or failed, and know who the arbiter is."""
        out, err = self._upgrade.communicate(timeout=_UPGRADE)
        self._busy.discard("upgrade")
        if self._upgrade.returncode == 0:
            self.upgrades["done"] += 1
            self.server.follow(json.loads(out)["pid"])
            return f"{self.server.pid} is the arbiter"
        over = _WITHOUT_WORKERS.search(err)
        self.upgrades["failed" if over is None else "done, all new workers just killed"] += 1
        if over is not None:
            self.server.follow(int(over[1]))
        return str(err.strip())

    def _signal(self, number: Signals) -> None:
        """Send the arbiter a signal; if an upgrade has just replaced it, the new one."""
        if "upgrade" in self._busy:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server.pid, number)
            if self.server.is_running:  # else it has gone meanwhile, and may have heard nothing
                return
            self.note(f"    the upgrade: {self._end_upgrade()}")
        self.server.signal(number)

    # How many there are

    def more(self, _: Random) -> str | None:
        """One worker more."""
        return self._resize(1)

    def fewer(self, _: Random) -> str | None:
        """One worker fewer."""
        return self._resize(-1)

    def _resize(self, by: int) -> str | None:
        if not self._can_ask():
            return None
        was = self.target
        if not LEAST <= was + by <= MOST:
            return None
        self._signal(SIGTTIN if by > 0 else SIGTTOU)
        until(lambda: self.target == was + by, f"{was + by} workers as the target")
        return f"{was + by} workers"

    @property
    def target(self) -> int:
        """How many workers there should be."""
        return int(control.ask(self.folder, "status")["workers"]["target"])

    def _workers(self) -> list[int]:
        """Return the workers, of both arbiters while there are two, the oldest first."""
        found = (each.pid for each in self.server.belonging() if not each.is_zombie)
        return sorted(pid for pid in found if processes.title(pid).startswith(_WORKER))

    def _can_ask(self) -> bool:
        """Return whether the arbiter can answer, and there is only one."""
        return not self._busy & {"arbiter", "upgrade"}

    # Deaths

    def kill_worker(self, dice: Random) -> str | None:
        """Kill a worker."""
        victims = self._workers()
        return self._kill(dice.choice(victims)) if victims else None

    def kill_all_workers(self, _: Random) -> str:
        """Kill every worker there is."""
        return ", ".join(self._kill(pid) for pid in self._workers())

    def kill_newborn(self, dice: Random) -> str | None:
        """Kill the next process that is forked, as soon as it is seen."""
        known, victims = _children(self.server.pid), self.replaceable()
        if not victims:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(victims), SIGTERM)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for pid in _children(self.server.pid):
                if pid not in known:
                    return self._kill(pid)
            time.sleep(0.001)
        return "none came"

    def replaceable(self) -> list[int]:
        """Return the children of the arbiter that others follow when they are told to end.

        During an upgrade it has one more, which is the server if it goes.
        """
        return [pid for pid in _children(self.server.pid) if processes.title(pid).startswith(_REPLACED)]

    def _kill(self, pid: int) -> str:
        seizure = self.custody.kill(pid)
        return f"{pid} with {len(seizure.ports)} connections"

    def end_worker(self, dice: Random) -> str | None:
        """Tell a worker to end, as an operator may."""
        victims = self._workers()
        if not victims:
            return None
        pid = dice.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGTERM)
        return str(pid)

    def kill_template(self, dice: Random) -> str | None:
        """Kill a template."""
        victims = self.server.templates()
        return self._kill(dice.choice(victims)) if victims else None

    def kill_status(self, dice: Random) -> str | None:
        """Kill a process that answers health checks."""
        victims = self.server.statuses()
        return self._kill(dice.choice(victims)) if victims else None

    # Standstill

    def stop_worker(self, dice: Random) -> str | None:
        """Stop a worker, for a moment or until it is killed for it, if it has something in hand."""
        victims = self._workers()
        return self._stop(dice.choice(victims), dice.choice((0.2, 0.8, 6.0))) if victims else None

    def stop_template(self, dice: Random) -> str | None:
        """Stop a template, for a moment or until it is killed for it."""
        victims = self.server.templates()
        return self._stop(dice.choice(victims), dice.choice((0.3, 1.5, 8.0))) if victims else None

    def stop_status(self, dice: Random) -> str | None:
        """Stop a process that answers health checks, for a moment or until it is killed for it."""
        victims = self.server.statuses()
        return self._stop(dice.choice(victims), dice.choice((0.5, 8.0))) if victims else None

    def _stop(self, pid: int, seconds: float) -> str | None:
        if not self._begin(f"stopped {pid}"):
            return None
        seizure = self.custody.stop(pid)
        self.later(seconds, f"{pid} goes on", lambda: self._go_on(seizure))
        return f"{pid} for {seconds} s, with {len(seizure.ports)} connections"

    def _go_on(self, seizure: Seizure) -> str | None:
        self._busy.discard(f"stopped {seizure.pid}")
        if not self._can_ask():
            # It may be about to be ended by the arbiter, and have one connection more until then.
            self.custody.kill(seizure.pid)
        else:
            rows = control.ask(self.folder, "workers")["workers"]
            if any(row["pid"] == seizure.pid and row["state"] in {"aborted", "killed"} for row in rows):
                until(lambda: not processes.is_running(seizure.pid), f"the end of {seizure.pid}")
        return None if self.custody.let_go_on(seizure) else "it was killed"

    # Logs

    def fill_logs(self, dice: Random) -> str | None:
        """Have both logs on a disk that is full."""
        if not self._begin("logs"):
            return None
        self._move_logs()
        for name in ("error.log", "access.log"):
            (self.folder / "logs" / name).symlink_to("/dev/full")
        self._signal(SIGUSR1)
        self.later(dice.uniform(0.2, 3), "room on the disk", self._mend_logs)
        return "the disk is full"

    def lose_logs(self, dice: Random) -> str | None:
        """Take the folder of the logs away, so that they cannot be opened again."""
        if not self._begin("logs"):
            return None
        self._rotated += 1
        (self.folder / "logs").rename(self.folder / f"logs.{self._rotated}")
        self._signal(SIGUSR1)
        self.later(dice.uniform(0.2, 3), "a folder for logs again", self._mend_logs)
        return "the folder is gone"

    def rotate_logs(self, _: Random) -> str | None:
        """Rename both logs, and have them opened again."""
        if "logs" in self._busy:
            return None
        self._move_logs()
        self._signal(SIGUSR1)
        return f"number {self._rotated}"

    def _move_logs(self) -> None:
        self._rotated += 1
        for path in (self.folder / "logs").glob("*.log"):
            if path.is_symlink():
                path.unlink()
            else:
                path.rename(path.with_name(f"{path.name}.{self._rotated}"))

    def _mend_logs(self) -> None:
        self._busy.discard("logs")
        (self.folder / "logs").mkdir(exist_ok=True)
        self._move_logs()
        self._signal(SIGUSR1)

    # Descriptors

    def exhaust_worker(self, dice: Random) -> str | None:
        """Leave a worker no descriptor."""
        victims = self._workers()
        return self._exhaust("worker", dice.choice(victims), dice) if victims else None

    def exhaust_template(self, dice: Random) -> str | None:
        """Leave a template no descriptor."""
        victims = self.server.templates()
        return self._exhaust("template", dice.choice(victims), dice) if victims else None

    def exhaust_arbiter(self, dice: Random) -> str | None:
        """Leave the arbiter no descriptor."""
        return self._exhaust("arbiter", self.server.pid, dice)

    def _exhaust(self, what: str, pid: int, dice: Random) -> str | None:
        if not self._begin(what):
            return None
        with contextlib.suppress(ProcessLookupError):
            _, hard = before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (_NONE, hard))
            mend = partial(self._refill, what, pid, before)
            self.later(dice.uniform(0.3, 3), f"descriptors for {pid}", mend)
            return str(pid)
        self._busy.discard(what)
        return None

    def _refill(self, what: str, pid: int, limits: tuple[int, int]) -> str | None:
        self._busy.discard(what)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        except ProcessLookupError:
            return "it has ended"
        if what == "arbiter":
            self._signal(SIGUSR1)  # if its logs moved meanwhile, it has said that it cannot open them
        return None

    # What an operator looks at

    def look(self, dice: Random) -> str | None:
        """Ask for something over the control socket."""
        if not self._can_ask():
            return None
        command = dice.choice(("status", "workers", "metrics", "settings"))
        control.ask(self.folder, command)
        return command

    def probe(self, _: Random) -> str | None:
        """Ask whether the server lives, which whoever is there must confirm."""
        if "arbiter" in self._busy:
            return None  # it could not start who is to answer
        answer = self.ask_status("/livez")
        assert answer.status == 200, answer.text
        return answer.text.strip()

    def ask_status(self, path: str) -> Answer:
        """Ask for a page of the status process."""
        return client.ask(str(self.folder / "status.sock"), path)

    # The account

    def check_requests(self) -> None:
        """Check that every request was answered rightly, or was in a process that was killed.

        Raises:
            AssertionError: one was not; the output has the time before it.
        """
        journal = Journal(self.folder)
        lost = [loss for load in self.loads for loss in (*load.refused, *load.lost)]
        again = [loss for load in self.loads for loss in load.again]
        cut_off = [loss for load in self.loads for loss in load.cut_off]
        begun = journal.find({loss.path for loss in (*lost, *again)})
        # Of an idle connection the server may let go, but not of one that was busy until just now, and not of
        # a request that it has begun.
        wrong = (*lost, *cut_off, *(loss for loss in again if loss.path in begun))
        found = {loss.path: loss for loss in wrong if self.custody.explains(loss) is None}
        unexplained = list(found.values())
        answered = sum(load.answered for load in self.loads)
        print(
            f"--- {answered} answered, {len(lost)} lost, {len(again)} sent again, {len(cut_off)} cut off, "
            f"{journal.count} begun; {len(self.custody.killed)} processes killed, "
            f"{len(unexplained)} requests lost without one"
        )
        for loss in unexplained[:_SHOWN]:
            self._show(loss, begun)
        assert not unexplained, f"{len(unexplained)} requests lost, of {answered}; see above"
        without_answer = [loss for loss in (*lost, *again) if loss.path in begun]
        assert journal.count == answered + len(without_answer), "requests begun, and answered or lost"

    def _show(self, loss: Loss, begun: dict[str, int]) -> None:
        """Print what is known about a request that nobody should have lost."""
        at = time.time() - time.monotonic() + loss.at
        pid = begun.get(loss.path)
        begin = f"begun in {pid}" if pid else "never begun"
        print(f"=== lost at {_clock(at)}: {loss.text}, from port {loss.port}, {begin}")
        for when, text in self._timeline:
            if at - _NEAR < when < at + 0.5:
                print(f"    {_clock(when)} {text}")
        if pid:
            lines = [line for line in self._log_lines() if f"worker {pid} " in line or f"[{pid}]" in line]
            for line in lines[-_SHOWN:]:
                print(f"    log: {line}")

    def _log_lines(self) -> list[str]:
        """Return the error log, one file after the other."""
        paths = sorted(self.logs("error.log*"), key=lambda path: path.stat().st_mtime)
        return [line for path in paths for line in path.read_text().splitlines()]

    def logs(self, pattern: str) -> list[Path]:
        """Return all files of a log that there were."""
        return [path for path in self.folder.glob(f"logs*/{pattern}") if not path.is_symlink()]

    def print_evidence(self, seed: int) -> None:
        """Print all that has happened, and the end of what the server has said of it."""
        print(f"--- seed {seed}:")
        for when, text in self._timeline:
            print(f"    {_clock(when)} {text}")
        lines = self._log_lines()
        print(f"--- the last of {len(lines)} lines of the error log; all of them are in {self.folder}:")
        for line in lines[-_LAST:]:
            print(f"    {line}")

    def print_counts(self) -> None:
        """Print how often what has happened."""
        print(f"--- {sum(self.counts.values())} events, {dict(sorted(self.counts.items()))}")
        print(f"--- upgrades: {dict(self.upgrades)}")


def _children(pid: int) -> list[int]:
    """Return the pids of the children of a process with one thread, quickly."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []  # it has ended


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f"{seconds % 1:.3f}"[1:]


EVENTS: Final = (
    Event("HUP, good", 8, Chaos.reload),
    Event("HUP, broken application", 3, Chaos.reload_broken_application),
    Event("HUP, wrong configuration", 3, Chaos.reload_wrong_configuration),
    Event("upgrade", 2, Chaos.upgrade),
    Event("TTIN", 3, Chaos.more),
    Event("TTOU", 3, Chaos.fewer),
    Event("worker killed", 6, Chaos.kill_worker),
    Event("all workers killed", 1, Chaos.kill_all_workers),
    Event("newborn killed", 2, Chaos.kill_newborn),
    Event("worker told to end", 2, Chaos.end_worker),
    Event("worker stopped", 4, Chaos.stop_worker),
    Event("template killed", 3, Chaos.kill_template, with_preload=True),
    Event("template stopped", 2, Chaos.stop_template, with_preload=True),
    Event("full disk", 2, Chaos.fill_logs),
    Event("logs lost", 1, Chaos.lose_logs),
    Event("logs rotated", 2, Chaos.rotate_logs),
    Event("worker without descriptors", 2, Chaos.exhaust_worker),
    Event("template without descriptors", 1, Chaos.exhaust_template, with_preload=True),
    Event("arbiter without descriptors", 1, Chaos.exhaust_arbiter),
    Event("status killed", 2, Chaos.kill_status),
    Event("status stopped", 1, Chaos.stop_status),
    Event("a look", 2, Chaos.look),
    Event("a health check", 2, Chaos.probe),
)
"""What can happen, and how often beside the others."""
