# SPDX-License-Identifier: MIT
"""A real arbiter with real processes; only what a worker does is tiny (`tiny.py`)."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(__file__).with_name("tiny.py")
PATIENCE = 20.0
"""Seconds that a condition may take on a busy machine."""


class Answer(NamedTuple):
    """What a worker says about itself."""

    pid: int
    generation: int
    folder: str
    colour: str
    age: int


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Return the first true value of a condition that becomes true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"it never happened: {what or condition}")


def alive(pid: int) -> bool:
    """Say whether a process lives; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Server:
    """A running server in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.log_file = folder / "log"
        self.log_file.touch()
        self.behave("good")

    def behave(self, behaviour: str) -> Server:
        (self.folder / "behaviour").write_text(behaviour)
        return self

    def configure(self, text: str) -> Server:
        (self.folder / "prefork.conf.py").write_text(text)
        return self

    def launch(self, *flags: str, **options: Any) -> Server:
        """Start without waiting for anything."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *flags], cwd=self.folder, stdout=log, stderr=log, **options
            )
        return self

    def start(self, *flags: str, workers: int = 2, **options: Any) -> Server:
        """Start on a free port unless told where, and wait until all workers are ready."""
        config = self.folder / "prefork.conf.py"
        configured = re.search(r"workers = (\d+)", config.read_text() if config.exists() else "")
        if configured:
            workers = int(configured[1])
        else:
            flags = ("-w", str(workers), *flags)
        if "-b" not in flags:
            flags = ("-b", "127.0.0.1:0", *flags)
        self.launch(*flags, **options)
        eventually(lambda: self.count("ready after") >= workers, f"ready:\n{self.log}")
        return self

    # -------------------------------------------------- looking

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def count(self, words: str) -> int:
        return self.log.count(words)

    def says(self, words: str) -> None:
        """Wait for words in the log."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.log:
            assert time.monotonic() < deadline, f"the log never says {words!r}:\n{self.log}"
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[int]:
        """Return the pids of all children, zombies included."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @property
    def port(self) -> int:
        return int(re.findall(r"listening on http://127.0.0.1:(\d+)", self.log)[-1])

    def ask(self, address: Any = None) -> Answer:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as client:
            client.settimeout(PATIENCE)
            client.connect(address or ("127.0.0.1", self.port))
            pid, generation, folder, colour, age = client.makefile().read().split("\t")
        return Answer(int(pid), int(generation), folder, colour, int(age))

    # -------------------------------------------------- acting

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def turn(self) -> None:
        """Wait until the arbiter has looked at everything there is."""
        before = self.count("log files opened again")
        self.send(signal.SIGUSR1)
        eventually(lambda: self.count("log files opened again") > before, "a turn")
        # It obeys a signal before it looks at the rest; so the turn is over when the next one is obeyed.
        self.send(signal.SIGUSR1)
        eventually(lambda: self.count("log files opened again") > before + 1, "another turn")

    def reload(self) -> None:
        """Send HUP, and wait until all old workers are gone."""
        old = set(self.children())
        self.send(signal.SIGHUP)
        eventually(lambda: self.count("replaced, took"), "the reload is complete")
        eventually(lambda: old.isdisjoint(self.children()), "the old workers are gone")

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """Leave nothing running."""
        if self.process is not None and self.process.poll() is None:
            children = self.children()
            for pid in (self.pid, *children):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Give a server that is not started yet, and end it whatever happens."""
    server = Server(tmp_path)
    yield server
    server.kill()


# ---------------------------------------------------------------- start and stop


def test_the_first_lines_say_all_that_an_operator_asks_first(server: Server) -> None:
    server.start(workers=2)
    first, second = server.log.splitlines()[:2]
    assert f"on Python {sys.version.split()[0]}, pid {server.pid}: 2 sync workers (as set)" in first
    assert re.search(r"listening on http://127\.0\.0\.1:\d+$", second)
    assert re.search(r"worker \d+ \(slot 0, generation 1\) ready after \d\.\d s", server.log)


def test_workers_answer_and_term_ends_everything_with_zero(server: Server) -> None:
    server.start(workers=3)
    children = server.children()
    assert len(children) == 3
    assert server.ask().pid in children
    assert server.stop() == 0
    assert not any(map(alive, children))
    server.says("stopped: exit code 0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_end_the_server_at_once(server: Server, number: signal.Signals) -> None:
    server.start()
    assert server.stop(number) == 0


def test_a_worker_that_does_not_stop_is_killed_after_graceful_timeout(server: Server) -> None:
    server.behave("deaf").start("--graceful-timeout", "0.3")
    assert server.stop() == 0
    assert server.count("did not stop in time: sending SIGKILL") == 2
    assert server.count("out of memory") == 0


@pytest.mark.parametrize(("behaviour", "code"), [("exit 3", 3), ("exit 4", 4), ("exit 1", 3)])
def test_a_first_boot_that_fails_ends_the_server(server: Server, behaviour: str, code: int) -> None:
    server.behave(behaviour).launch("-w", "2", "-b", "127.0.0.1:0", "-p", "server.pid")
    assert server.wait() == code
    assert not (server.folder / "server.pid").exists()


def test_a_first_boot_that_hangs_ends_the_server_after_boot_timeout(server: Server) -> None:
    server.behave("hang").launch("-w", "1", "-b", "127.0.0.1:0", "--boot-timeout", "0.3")
    assert server.wait() == 3
    server.says("(boot_timeout): sending SIGABRT")


def test_a_port_in_use_is_a_config_error(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.launch("-b", f"127.0.0.1:{other.getsockname()[1]}", "-p", "server.pid")
        assert server.wait() == 1
    assert "trying again" in server.log
    assert not (tmp_path / "server.pid").exists()


def test_a_server_waits_for_a_port_that_becomes_free(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server.launch("-w", "1", "-b", f"127.0.0.1:{port}")
        server.says("trying again")
    server.says("ready after")
    assert server.ask(("127.0.0.1", port)).generation == 1


def test_pidfile_and_unix_socket_are_there_while_the_server_runs(server: Server, tmp_path: Path) -> None:
    server.start("-b", "unix:web.sock", "-p", "server.pid")
    assert (tmp_path / "server.pid").read_text() == f"{server.pid}\n"
    assert "listening on unix:" in server.log
    assert "(mode 660)" in server.log
    assert server.ask(str(tmp_path / "web.sock")).generation == 1
    server.stop()
    assert not (tmp_path / "server.pid").exists()
    assert not (tmp_path / "web.sock").exists()


def test_a_second_server_with_the_same_pidfile_is_refused(server: Server, tmp_path: Path) -> None:
    server.start("-p", "server.pid")
    second = Server(tmp_path)
    second.launch("-b", "127.0.0.1:0", "-p", "server.pid")
    assert second.wait() == 1
    server.says(f"another server holds it (pid {server.pid})")
    assert server.ask().generation == 1


def test_the_environment_and_folder_are_the_workers(server: Server, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "behaviour").write_text("good")
    server.start("--chdir", "sub", "-e", "COLOUR=red", workers=1)
    answer = server.ask()
    assert (answer.folder, answer.colour) == (str(tmp_path / "sub"), "red")


# ---------------------------------------------------------------- reload


def test_a_reload_replaces_every_worker(server: Server) -> None:
    server.start(workers=2)
    server.reload()
    assert len(server.children()) == 2
    assert server.ask().generation == 2
    server.says("reload: generation 2 ready, 2 of 2 replaced, took")


def test_a_reload_reads_the_settings_again(server: Server) -> None:
    server.configure("workers = 2\nraw_env = ['COLOUR=red']\n").start("-b", "127.0.0.1:0")
    assert server.ask().colour == "red"
    server.configure("workers = 3\nraw_env = ['COLOUR=blue']\n")
    server.reload()
    assert server.ask().colour == "blue"
    assert len(server.children()) == 3


@pytest.mark.parametrize(
    "text",
    ["no Python", "wrokers = 3", "workers = 'many'", "1 / 0", "raise SystemExit(9)", "chdir = '/none'"],
)
def test_a_broken_configuration_keeps_everything_as_it_was(server: Server, text: str) -> None:
    server.configure("workers = 2\n").start()
    children = server.children()
    server.configure(text).send(signal.SIGHUP)
    server.says("reload refused, everything stays as it was")
    assert server.children() == children
    assert server.ask().generation == 1


def test_a_refused_reload_can_be_repeated(server: Server) -> None:
    server.configure("workers = 2\n").start()
    server.configure("workers = 'many'\n").send(signal.SIGHUP)
    server.says("reload refused")
    server.configure("workers = 2\n").reload()
    assert server.ask().generation == 2


@pytest.mark.parametrize("behaviour", ["exit 3", "exit 4", "crash 0", "crash 0.2"])
def test_a_broken_application_is_rolled_back_and_the_old_workers_serve_on(
    server: Server, behaviour: str
) -> None:
    server.start(workers=2)
    children = server.children()
    server.behave(behaviour).send(signal.SIGHUP)
    server.says("reload rolled back: worker")
    eventually(lambda: server.children() == children, "the old workers are alone")
    assert server.ask().generation == 1


def test_a_reload_after_one_that_was_rolled_back_is_the_next_generation(server: Server) -> None:
    server.start(workers=1)
    server.behave("exit 3").send(signal.SIGHUP)
    server.says("reload rolled back")
    server.behave("good").reload()
    assert server.ask().generation == 3


def test_an_application_that_hangs_is_rolled_back_after_boot_timeout(server: Server) -> None:
    server.start("--boot-timeout", "1.5", workers=1)
    server.behave("hang").send(signal.SIGHUP)
    server.says("reload rolled back: worker")
    assert server.ask().generation == 1


def test_clients_are_answered_all_through_a_reload_with_a_slow_boot(server: Server) -> None:
    server.start(workers=2)
    server.behave("slow 1").send(signal.SIGHUP)
    seen = set()
    while not server.count("replaced, took"):
        seen.add(server.ask().generation)
    assert seen == {1, 2}


def test_a_roll_back_starts_replaced_workers_in_the_folder_of_before(server: Server, tmp_path: Path) -> None:
    """A deploy moves the link `current`; a worker of the old generation must not run the new code."""
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
    (tmp_path / "one" / "behaviour").write_text("good")
    (tmp_path / "two" / "behaviour").write_text("good")
    (tmp_path / "current").symlink_to("one")
    server.start("--chdir", "current", workers=2)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("two")
    server.send(signal.SIGHUP)
    server.says("generation 2) ready")
    (tmp_path / "two" / "behaviour").write_text("exit 3")  # for the second one, when an old one is gone
    server.says("reload rolled back")
    eventually(lambda: server.count("generation 1) ready") == 3, "a third worker of generation 1")
    eventually(lambda: len(server.children()) == 2, "the new one is gone")
    assert {server.ask().folder for _ in range(5)} == {str(tmp_path / "one")}


def test_a_reload_opens_new_listeners_and_closes_removed_ones(server: Server, tmp_path: Path) -> None:
    server.configure("bind = ['unix:one.sock', 'unix:two.sock']\n").launch("-w", "2")
    eventually(lambda: server.count("ready after") == 2)
    server.configure("bind = ['unix:two.sock', 'unix:three.sock']\n")
    server.reload()
    server.says("no longer listening on unix:")
    assert server.ask(str(tmp_path / "two.sock")).generation == 2
    assert server.ask(str(tmp_path / "three.sock")).generation == 2
    assert not (tmp_path / "one.sock").exists()


def test_a_removed_listener_refuses_when_the_old_workers_are_gone(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        removed = free.getsockname()
    server.configure(f"workers = 1\nbind = ['127.0.0.1:{removed[1]}', 'unix:web.sock']\n").launch()
    server.says("ready after")
    assert server.ask(removed).generation == 1
    server.configure("workers = 1\nbind = ['unix:web.sock']\n").reload()

    def refuses() -> bool:
        with socket.socket() as client:
            client.settimeout(0.2)
            return client.connect_ex(removed) == errno.ECONNREFUSED

    eventually(refuses)


def test_who_waits_on_a_removed_listener_is_still_answered(server: Server, tmp_path: Path) -> None:
    server.configure("workers = 1\nbind = ['unix:old.sock', 'unix:web.sock']\n")
    server.behave("nap 2.5").launch()
    server.says("ready after")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.settimeout(PATIENCE)
            client.connect(str(tmp_path / "old.sock"))  # queued: the only worker takes a nap
        server.behave("good").configure("workers = 1\nbind = ['unix:web.sock']\n").reload()
        for client in (first, second):
            assert client.makefile().read().split("\t")[1] == "1"


def test_a_roll_back_returns_to_the_log_of_before(server: Server) -> None:
    server.configure("workers = 1\n").start()
    server.behave("exit 3").configure("workers = 1\nerrorlog = 'other.log'\n").send(signal.SIGHUP)
    server.says("reload rolled back")


def test_a_reload_whose_listener_cannot_be_opened_keeps_everything(server: Server, tmp_path: Path) -> None:
    server.configure("bind = ['unix:one.sock']\n").launch("-w", "1")
    server.says("ready after")
    server.configure("bind = ['unix:fresh.sock', 'unix:no/such/folder.sock']\n").send(signal.SIGHUP)
    server.says("reload refused, everything stays as it was")
    assert not (tmp_path / "fresh.sock").exists()
    assert server.ask(str(tmp_path / "one.sock")).generation == 1


def test_a_changed_log_is_opened_by_a_reload(server: Server, tmp_path: Path) -> None:
    server.configure("workers = 1\n").start()
    server.configure("workers = 1\nerrorlog = 'other.log'\n").send(signal.SIGHUP)
    other = tmp_path / "other.log"
    eventually(lambda: other.exists() and "replaced, took" in other.read_text())


def test_a_setting_of_the_start_that_changes_is_named(server: Server) -> None:
    server.configure("workers = 1\n").start()
    server.configure("workers = 1\nbacklog = 5\n").send(signal.SIGHUP)
    server.says("backlog has changed: that takes effect at the next start")


def test_a_setting_that_the_worker_cannot_honour_is_named_at_a_start_and_a_reload(server: Server) -> None:
    server.configure("workers = 1\nkeepalive = 5\n").start()
    assert server.count("prefork.conf.py:2: keepalive has no effect: a sync worker closes") == 1
    server.reload()
    assert server.count("keepalive has no effect") == 2


# ---------------------------------------------------------------- workers come and go


def test_a_killed_worker_is_replaced_and_the_log_says_why(server: Server) -> None:
    server.start(workers=2)
    victim, _ = server.children()
    os.kill(victim, signal.SIGKILL)
    server.says("killed by SIGKILL: perhaps out of memory")
    eventually(lambda: len(server.children()) == 2 and victim not in server.children())


def test_no_zombie_is_left(server: Server) -> None:
    server.start(workers=3)
    victims = server.children()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: set(victims).isdisjoint(server.children()) and len(server.children()) == 3)
    assert all(map(alive, server.children()))


def test_ttin_and_ttou_change_the_number_of_workers(server: Server) -> None:
    server.start(workers=1)
    server.send(signal.SIGTTIN)
    server.says("workers: 2 (were 1)")
    eventually(lambda: server.count("ready after") == 2)
    server.send(signal.SIGTTOU)
    server.says("workers: 1 (were 2)")
    eventually(lambda: len(server.children()) == 1)
    server.send(signal.SIGTTOU)
    assert server.ask().generation == 1


def test_a_number_of_ttin_survives_a_reload(server: Server) -> None:
    server.start(workers=1)
    server.send(signal.SIGTTIN)
    eventually(lambda: server.count("ready after") == 2)
    server.reload()
    assert len(server.children()) == 2


def test_winch_changes_nothing_in_the_foreground(server: Server) -> None:
    server.start(workers=1)
    children = server.children()
    server.send(signal.SIGWINCH)
    server.send(signal.SIGUSR1)
    server.says("log files opened again")
    assert server.children() == children


def test_a_worker_past_its_deadline_is_explained_aborted_and_replaced(server: Server) -> None:
    server.behave("late 0.4").start("-t", "0.4", workers=1)
    server.behave("good")
    server.says("made no progress within timeout, on GET /stuck?a=1 (in the application, 0.")
    server.says(" s old, late): sending SIGABRT; it has shown no stacks")
    eventually(lambda: server.count("ready after") >= 2)
    assert server.ask().generation == 1


def test_a_worker_that_asks_for_a_successor_goes_when_that_one_is_ready(server: Server) -> None:
    server.behave("retire").start(workers=1)
    server.behave("good").says("has served its share")
    eventually(lambda: server.children() and server.ask().age > 1)
    eventually(lambda: len(server.children()) == 1)


def test_a_worker_that_is_old_enough_goes_when_its_successor_is_ready(server: Server) -> None:
    server.start("--max-worker-lifetime", "0.3", workers=1)
    server.says("is older than max_worker_lifetime (0.3 s): starting its successor")
    eventually(lambda: server.ask().age > 2)


def test_a_worker_that_is_too_large_is_explained_and_aborted(server: Server) -> None:
    server.behave("large 60").start("--max-worker-memory-hard", "40m", workers=1)
    server.behave("good").says("of its own (max_worker_memory_hard 40 MiB)")
    server.says("sending SIGABRT")
    eventually(lambda: server.ask().age > 1)


def test_a_load_on_all_threads_brings_more_workers(server: Server) -> None:
    server.behave("busy 30").start("--max-workers", "3", workers=1)
    server.behave("good").says("workers: 2 (were 1): 100% of the threads busy, 0 connections waiting")
    eventually(lambda: len(server.children()) == 2)


def test_a_child_that_is_no_worker_is_reaped_quietly(server: Server) -> None:
    server.configure("import os\ndef on_starting(server):\n    os.fork() or os._exit(5)\n").start(workers=1)
    eventually(lambda: len(server.children()) == 1)
    assert server.count("ended unexpectedly") == 0


def test_without_descriptors_no_worker_is_started_but_those_there_serve_on(server: Server) -> None:
    server.start(workers=1)
    used = len(os.listdir(f"/proc/{server.pid}/fd"))
    _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, most))
    server.send(signal.SIGTTIN)
    server.says("cannot start a worker: Too many open files")
    assert server.ask().generation == 1
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (most, most))
    eventually(lambda: len(server.children()) == 2)


def test_forks_that_fail_are_tried_again_and_end_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "fault").write_text("EAGAIN")
    server.launch("-w", "1", "-b", "127.0.0.1:0")
    eventually(lambda: server.count("cannot start a worker: Resource temporarily unavailable") >= 3)
    (tmp_path / "fault").unlink()
    server.says("ready after")
    assert server.stop() == 0


def test_a_bug_in_the_arbiter_is_logged_and_the_service_goes_on(server: Server, tmp_path: Path) -> None:
    server.start(workers=1)
    (tmp_path / "fault").write_text("bug")
    server.send(signal.SIGTTIN)
    server.says("RuntimeError: a bug")
    assert server.ask().generation == 1
    (tmp_path / "fault").unlink()
    eventually(lambda: server.count("ready after") == 2)


def test_workers_that_were_stopped_together_with_the_arbiter_are_not_late(server: Server) -> None:
    """A frozen container thaws in any order: the arbiter may see old deadlines first."""
    server.behave("busy 1").start("-t", "1", workers=1)
    (worker,) = server.children()
    server.turn()  # it waits for the deadline now, and not for the first look
    for pid in (worker, server.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)  # the time that is lost
    os.kill(server.pid, signal.SIGCONT)
    server.turn()
    os.kill(worker, signal.SIGCONT)
    time.sleep(2.0)  # the time in which it would be aborted
    assert server.count("SIGABRT") == 0
    assert server.children() == [worker]


def test_a_worker_holds_only_what_is_its_own(server: Server) -> None:
    """Its channel, the pipe for its stacks and the listener.

    No pipe of signals, selector, pidfile, or what is a sibling's.
    """
    server.start("-p", "server.pid", workers=4)
    youngest = server.children()[-1]
    held = [os.readlink(entry) for entry in Path(f"/proc/{youngest}/fd").iterdir()]
    assert sum(name.startswith("socket:") for name in held) == 2
    assert sum(name.startswith("pipe:") for name in held) == 1
    assert not [name for name in held if name.startswith("anon_inode") or name.endswith(".pid")]


# ---------------------------------------------------------------- the arbiter's own troubles


def test_workers_end_when_their_arbiter_is_killed_and_the_next_start_takes_over(
    server: Server, tmp_path: Path
) -> None:
    flags = ("-b", "unix:web.sock", "-p", "server.pid")
    server.start(*flags, workers=2)
    children, dead = server.children(), server.pid
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not any(map(alive, children)), "the workers have ended")
    assert (tmp_path / "web.sock").exists()
    server.log_file.write_text("")
    server.start(*flags, workers=2)
    server.says(f"was left by a server that did not end in peace (pid {dead}): taken over")
    assert server.ask(str(tmp_path / "web.sock")).generation == 1


def test_usr1_opens_the_logs_again_here_and_in_the_workers(server: Server, tmp_path: Path) -> None:
    server.launch("-b", "127.0.0.1:0", "--error-logfile", "error.log")
    error_log = tmp_path / "error.log"
    eventually(lambda: error_log.exists() and "ready after" in error_log.read_text())
    error_log.rename(tmp_path / "error.log.1")
    server.send(signal.SIGUSR1)
    eventually(lambda: error_log.exists() and "opened again" in error_log.read_text())
    eventually((tmp_path / "usr1").exists)


def test_a_full_disk_for_the_pidfile_is_a_clear_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "server.pid").symlink_to("/dev/full")
    server.launch("-b", "127.0.0.1:0", "-p", "server.pid")
    assert server.wait() == 1
    assert "prefork: error: pidfile" in server.log


# ---------------------------------------------------------------- hooks

HOOKS = """
workers = 1
def note(*words):
    with open("notes", "a") as notes:
        notes.write(" ".join(map(str, words)) + "\\n")
def on_starting(server): note("on_starting", server.pid, server.num_workers)
def when_ready(server): note("when_ready", len(server.WORKERS), server.cfg.workers)
def on_reload(server): note("on_reload", server.proc_name)
def pre_fork(server, worker): note("pre_fork", worker.age, worker.pid)
def child_exit(server, worker): note("child_exit", worker.age, worker.pid > 1, worker.cfg.workers)
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_exit(server): note("on_exit")
"""


def test_hooks_of_the_arbiter_run_in_their_order(server: Server, tmp_path: Path) -> None:
    server.configure(HOOKS).start("-n", "shop")
    eventually(lambda: "when_ready" in (tmp_path / "notes").read_text())
    server.send(signal.SIGTTIN)
    eventually(lambda: server.count("ready after") == 2)
    server.send(signal.SIGTTOU)
    eventually(lambda: len(server.children()) == 1)
    server.stop()
    assert (tmp_path / "notes").read_text().splitlines() == [
        f"on_starting {server.pid} 1",
        "nworkers_changed 1 None",
        "pre_fork 1 0",
        "when_ready 1 1",
        "nworkers_changed 2 1",
        "pre_fork 2 0",
        "nworkers_changed 1 2",
        "child_exit 1 True 1",
        "child_exit 2 True 1",
        "on_exit",
    ]


def test_on_reload_runs_after_the_settings_are_accepted(server: Server, tmp_path: Path) -> None:
    server.configure(HOOKS).start("-n", "shop")
    server.reload()
    assert "on_reload shop" in (tmp_path / "notes").read_text()


def test_hooks_that_fail_are_logged_and_stop_nothing(server: Server) -> None:
    hooks = {
        "when_ready(server)": "1 / 0",
        "pre_fork(server, worker)": "raise SystemExit(9)",
        "nworkers_changed(server, new, old)": "1 / 0",
        "child_exit(server, worker)": "raise SystemExit(9)",
        "on_reload(server)": "1 / 0",
        "on_exit(server)": "raise SystemExit(9)",
    }
    lines = [f"def {hook}:\n    {fault}\n" for hook, fault in hooks.items()]
    server.configure("workers = 1\n" + "".join(lines)).start()
    server.reload()
    assert server.ask().generation == 2
    assert server.stop() == 0
    for hook in hooks:
        server.says(f"error in the hook {hook.partition('(')[0]}")


def test_on_starting_that_fails_ends_the_start_with_a_config_error(server: Server, tmp_path: Path) -> None:
    server.configure("def on_starting(server):\n    1 / 0\n")
    server.launch("-p", "server.pid", "-b", "unix:web.sock")
    assert server.wait() == 1
    assert "the hook on_starting failed: ZeroDivisionError" in server.log
    assert not (tmp_path / "server.pid").exists()


# ---------------------------------------------------------------- systemd and daemons


AS_SYSTEMD = """
import os, runpy, sys
os.dup2(int(sys.argv.pop()), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
runpy.run_path(sys.argv.pop(), run_name="__main__")
"""


def told(manager: socket.socket, state: str) -> list[str]:
    """Return the next message to the service manager that begins with a state."""
    while True:
        states = manager.recv(1000).decode().split("\n")
        if states[0] == state:
            return states


def test_listeners_of_systemd_are_used_and_readiness_is_told(server: Server, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as given,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        server.log_file.open("ab") as log,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        server.configure("workers = 1\nbind = '127.0.0.1:1'\n")
        server.process = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(PROGRAM), str(given.fileno())],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            pass_fds=[given.fileno()],
        )
        assert told(manager, "READY=1") == ["READY=1", f"MAINPID={server.pid}"]
        assert "(inherited)" in server.log
        assert "bind has no effect: systemd has opened the listening sockets" in server.log
        address = given.getsockname()
        assert server.ask(address).generation == 1
        assert server.stop() == 0
        assert told(manager, "STOPPING=1") == ["STOPPING=1"]
        with socket.create_connection(address):
            pass  # systemd still has the socket: a client of the next start is queued, not shut out


def test_a_daemon_returns_when_it_is_ready_and_parks_on_winch(server: Server, tmp_path: Path) -> None:
    flags = ("-D", "-w", "1", "-b", "unix:web.sock", "-p", "server.pid", "--error-logfile", "error.log")
    server.launch(*flags)
    assert server.wait() == 0
    pid = int((tmp_path / "server.pid").read_text())
    try:
        assert server.ask(str(tmp_path / "web.sock")).generation == 1
        os.kill(pid, signal.SIGWINCH)
        eventually(lambda: "workers: 0 (were 1)" in (tmp_path / "error.log").read_text())
        os.kill(pid, signal.SIGHUP)
        eventually(lambda: "workers: 1 (were 0)" in (tmp_path / "error.log").read_text())
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not alive(pid))
    assert not (tmp_path / "server.pid").exists()


def test_a_daemon_that_cannot_boot_fails_where_it_was_started(server: Server) -> None:
    server.behave("exit 4").launch("-D", "-w", "1", "-b", "unix:web.sock", "--error-logfile", "error.log")
    assert server.wait() == 4
    assert "prefork: error: no worker could boot, see errorlog" in server.log
