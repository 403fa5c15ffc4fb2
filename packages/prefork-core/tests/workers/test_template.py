# SPDX-License-Identifier: MIT
"""A template in a process of its own, with the test for its arbiter."""

from __future__ import annotations

import os
import select
import signal
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE, eventually
from serving import Forked

from prefork.errors import ExitCode
from prefork.observe.log import open_logs
from prefork.process import channel as channels
from prefork.process import immortal, signals, stacks
from prefork.process import template as lines
from prefork.process.channel import Hangup
from prefork.settings import Settings
from prefork.supervisor.messages import Order, Report
from prefork.worker import Interface, Worker
from prefork.workers import template
from prefork.workers.sync import SyncWorker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from prefork.process.channel import End
    from prefork.process.template import Fork

HELLO = """
import os
LOADED_BY = os.getpid()
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""


class Template(Forked):
    """A template whose workers say READY and leave a note.

    Args:
        folder: where application, log and notes are.
        source: the text of the application's module.
        worker_type: the class that would serve.
        settings: what differs from the defaults.
    """

    def __init__(
        self, folder: Path, source: str = HELLO, worker_type: type[Worker] = SyncWorker, **settings: Any
    ) -> None:
        self._type = worker_type
        (folder / "site_app.py").write_text(textwrap.dedent(source))
        self.folder = folder
        self.left: dict[str, object] = {}
        (folder / "leaves").write_text("")
        self.settings = Settings(
            **{
                "wsgi_app": "site_app:app",
                "pythonpath": (str(folder),),
                "errorlog": str(folder / "error.log"),
                **settings,
            }
        )
        self.logs = open_logs(self.settings)
        self.line, self._end = lines.make()
        super().__init__(self._be_a_template)

    def _be_a_template(self) -> int:
        self.line.close()
        return template.run(
            settings=self.settings,
            line=self._end,
            logs=self.logs,
            worker_type=self._type,
            fork=self._fork,
            live=self._work,
        )

    def _fork(self) -> int:
        if (self.folder / "no-forks").exists():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return os.fork()

    def _work(self, order: Fork, application: Any, promote: Callable[[socket.socket], None]) -> int:
        """Be a worker; one that is told to be a template says so if it may.

        The file "leaves" has what it leaves behind: a line of Python.
        """
        note = f"{os.getpid()} {order.serial} {order.slot} {application.__globals__['LOADED_BY']}"
        (self.folder / "note").write_text(note)
        channels.report(order.channel, Report.READY)
        if self.settings.refork:
            assert select.select([order.channel], [], [], PATIENCE)[0]
            told = channels.read_order(order.channel)
            if told is not None and told.line is not None:
                exec((self.folder / "leaves").read_text(), self.left)
                promote(told.line)
        return 0

    def ready(self) -> Template:
        self._end.close()
        eventually(lambda: lines.has_said_ready(self.line))
        return self

    def order(self, serial: int = 1, slot: int = 0) -> channels.ArbiterEnd:
        """Order a worker; return the arbiter's end of its channel."""
        ours, theirs = channels.make(by_template=True)
        self.shown, shows = stacks.make()
        lines.order(self.line, serial, slot, theirs, shows)
        theirs.close()
        os.close(shows)
        return ours

    def log(self) -> str:
        return (self.folder / "error.log").read_text()


def hangs_up(end: channels.ArbiterEnd) -> bool:
    """Wait for the next thing on a channel, and say whether it is its end."""
    assert select.select([end], [], [], PATIENCE)[0]
    try:
        end.receive_pid()
    except Hangup:
        return True
    return False


def test_a_worker_says_its_pid_first_and_has_the_application(tmp_path: Path) -> None:
    with Template(tmp_path) as process:
        end = process.ready().order(7, 3)
        pid = eventually(end.receive_pid)
        assert eventually(end.receive) == [Report.READY]
        assert (tmp_path / "note").read_text() == f"{pid} 7 3 {process.pid}"
        assert pid != process.pid


def test_it_has_no_child_afterwards(tmp_path: Path) -> None:
    with Template(tmp_path) as process:
        eventually(process.ready().order().receive_pid)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: children.read_text() == "")


def test_an_order_for_a_worker_that_is_to_stop_is_dropped(tmp_path: Path) -> None:
    with Template(tmp_path) as process:
        process.ready()
        process.signal(signal.SIGSTOP)
        end = process.order()
        end.send(Order.LEAVE)
        process.signal(signal.SIGCONT)
        assert hangs_up(end)
        assert not (tmp_path / "note").exists()


def test_a_fork_that_fails_is_logged_and_ends_the_channel(tmp_path: Path) -> None:
    """The next one may succeed."""
    with Template(tmp_path) as process:
        process.ready()
        (tmp_path / "no-forks").touch()
        assert hangs_up(process.order())
        assert "cannot fork a worker: Resource temporarily unavailable" in process.log()
        (tmp_path / "no-forks").unlink()
        assert eventually(process.order().receive_pid)


def test_the_second_of_its_two_forks_may_fail_too(tmp_path: Path) -> None:
    """Its error is the exit status of the process in between."""
    source = HELLO + "forks = []\nos.register_at_fork(after_in_child=lambda: forks.append(1))\n"
    source += (
        "fork = os.fork\ndef limited():\n    if forks: raise OSError(12, 'no memory')\n    return fork()\n"
    )
    with Template(tmp_path, source + "os.fork = limited\n") as process:
        assert hangs_up(process.ready().order())
        assert "cannot fork a worker: Cannot allocate memory" in process.log()


def test_it_ends_with_its_line(tmp_path: Path) -> None:
    with Template(tmp_path) as process:
        process.ready().line.close()
        assert process.status() == ExitCode.OK


def test_it_ends_on_sigterm_also_during_the_import(tmp_path: Path) -> None:
    source = f"import time\nopen({str(tmp_path / 'loading')!r}, 'w').close()\ntime.sleep(60)"
    with Template(tmp_path, source) as process:
        eventually((tmp_path / "loading").exists)
        process.signal(signal.SIGTERM)
        assert process.status() == ExitCode.OK


def test_a_sigterm_while_it_is_leaving_changes_nothing(tmp_path: Path) -> None:
    """Who stops it closes its line and sends a signal, and an operator may send another."""
    source = """
    import io, os, signal, sys
    class Output(io.StringIO):
        told = False
        def flush(self):
            if not self.told:
                self.told = True
                os.kill(os.getpid(), signal.SIGTERM)
    sys.stdout = Output()
    app = print
    """
    with Template(tmp_path, source) as process:
        process.ready().line.close()
        assert process.status() == ExitCode.OK


def test_what_the_terminal_sends_to_all_is_not_meant_for_it(tmp_path: Path) -> None:
    with Template(tmp_path) as process:
        process.ready()
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH):
            process.signal(number)
        assert eventually(process.order().receive_pid)


def test_exit_handlers_of_the_application_are_left_to_the_workers(tmp_path: Path) -> None:
    """One that removes a temporary folder would take it from workers that still serve."""
    source = f"import atexit\natexit.register(open, {str(tmp_path / 'exited')!r}, 'w')\n" + HELLO
    with Template(tmp_path, source) as process:
        process.ready().line.close()
        assert process.status() == ExitCode.OK
    assert not (tmp_path / "exited").exists()


def test_what_cannot_be_loaded_is_logged_with_the_exit_code_of_a_worker(tmp_path: Path) -> None:
    with Template(tmp_path, "raise LookupError('broken')") as process:
        assert process.status() == ExitCode.BOOT
        assert "LookupError: broken" in process.log()


def test_what_is_not_there_has_another_exit_code(tmp_path: Path) -> None:
    with Template(tmp_path, wsgi_app="site_app:absent") as process:
        assert process.status() == ExitCode.APP


def test_a_server_error_in_the_warm_up_is_a_failed_boot(tmp_path: Path) -> None:
    with Template(tmp_path, HELLO.replace("200 OK", "500 No"), warmup=("/x",)) as process:
        assert process.status() == ExitCode.BOOT
        assert "warmup: /x was answered with 500 No" in process.log()


class Other(SyncWorker):
    interface = Interface.OTHER


def test_only_a_wsgi_application_is_warmed_up(tmp_path: Path) -> None:
    source = HELLO.replace("200 OK", "500 No")
    with Template(tmp_path, source, worker_type=Other, warmup=("/x",)) as process:
        process.ready()


def test_threads_and_sockets_of_the_application_are_named(tmp_path: Path) -> None:
    source = HELLO + "import socket, threading, time\nserver = socket.create_server(('127.0.0.1', 0))\n"
    for number in range(9):
        source += f"threading.Thread(target=time.sleep, args=(60,), name='t{number}', daemon=True).start()\n"
    with Template(tmp_path, source) as process:
        process.ready()
        assert "no worker will have: t0, t1, t2, t3, t4, t5, t6, t7 and 1 more (preload_app;" in process.log()
        assert "all workers will share while it was loaded: 127.0.0.1:" in process.log()


def test_the_garbage_collector_looks_at_nothing_that_was_loaded(tmp_path: Path) -> None:
    source = (
        HELLO + "import gc\nclass Late:\n    def __str__(self): return f'{gc.get_freeze_count() > 1000}'\n"
    )
    with Template(tmp_path, source + "LOADED_BY = Late()\n") as process:
        eventually(process.ready().order().receive_pid)
        eventually(lambda: (tmp_path / "note").exists() and (tmp_path / "note").read_text().endswith(" True"))


def test_what_was_loaded_is_immortal_where_python_has_that(tmp_path: Path) -> None:
    source = HELLO + (
        "import sys\nclass Late:\n    def __str__(self):\n"
        "        return f'{sys.getrefcount(app) == sys.getrefcount(None)}'\n"
    )
    said = f" {immortal.is_possible()}"
    with Template(tmp_path, source + "LOADED_BY = Late()\n") as process:
        eventually(process.ready().order().receive_pid)
        eventually(lambda: (tmp_path / "note").exists() and (tmp_path / "note").read_text().endswith(said))


def test_standard_output_goes_to_the_log_if_that_is_asked_for(tmp_path: Path) -> None:
    """As all that the application writes to descriptor 1."""
    with Template(tmp_path, HELLO + "os.write(1, b'from the import\\n')\n", capture_output=True) as process:
        process.ready()
        assert process.log() == "from the import\n"


def test_what_was_printed_is_printed_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not again by each worker, whose buffer is a copy."""
    with Template(tmp_path, HELLO + "print('from the import')\n") as process:
        process.ready()
        process.line.close()
        process.status()
    assert capfd.readouterr().out.count("from the import") == 1


# From a worker to a template


def refork(process: Template) -> tuple[int, End, channels.ArbiterEnd]:
    """Have a worker forked that is told to be a template; return its pid, its line, and its channel."""
    channel = process.ready().order()
    pid = eventually(channel.receive_pid)
    assert pid is not None
    assert eventually(channel.receive) == [Report.READY]
    line, theirs = lines.make()
    channel.send(Order.REFORK, theirs)
    theirs.close()
    return pid, line, channel


def test_a_worker_becomes_a_template_whose_workers_are_the_arbiters_as_well(tmp_path: Path) -> None:
    with Template(tmp_path, refork=1) as process:
        pid, process.line, channel = refork(process)
        assert eventually(channel.receive) == [Report.TEMPLATE]
        (tmp_path / "note").unlink()
        for serial in (2, 3):  # and it goes on
            worker = eventually(process.order(serial, 4).receive_pid)
            eventually((tmp_path / "note").exists)
            assert worker not in {pid, process.pid}
        process.line.close()
        eventually(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def is_cut(line: End) -> bool:
    """Return whether a line has ended: a process that ends closes one thing after the other."""
    try:
        return lines.has_said_ready(line) and False
    except Hangup:
        return True


def ends_on(channel: channels.ArbiterEnd) -> bool:
    try:
        return bool(channel.receive()) and False
    except Hangup:
        return True


@pytest.mark.parametrize(
    ("leaves", "named"),
    [
        ("import socket; pair = socket.socketpair()", "open: a socket without a name (descriptor "),
        ("import os; ends = os.pipe()", "open: pipe:["),
        (
            "import sqlite3; db = sqlite3.connect('left.db'); db.execute('create table t (c)')",
            "/left.db (desc",
        ),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), name='pump').start()",
            "threads: pump (refork;",
        ),
    ],
    ids=["socket", "pipe", "database", "thread"],
)
def test_what_no_fork_can_carry_over_is_in_its_way(tmp_path: Path, leaves: str, named: str) -> None:
    """It ends as a worker does, and the old template serves on."""
    with Template(tmp_path, refork=1) as process:
        (tmp_path / "leaves").write_text(f"import os; os.chdir({str(tmp_path)!r}); {leaves}")
        _, line, channel = refork(process)
        eventually(lambda: ends_on(channel))
        assert (
            "cannot be the template, because no fork can carry over what it has left behind" in process.log()
        )
        assert named in process.log()
        eventually(lambda: is_cut(line))
        assert eventually(process.order(2).receive_pid)


def test_what_was_open_before_is_the_business_of_the_first_template(tmp_path: Path) -> None:
    source = HELLO + "import socket\npair = socket.socketpair()\n"
    with Template(tmp_path, source, refork=1) as process:
        _, _, channel = refork(process)
        assert eventually(channel.receive) == [Report.TEMPLATE]


def test_one_that_is_told_otherwise_is_an_ordinary_worker(tmp_path: Path) -> None:
    with Template(tmp_path, refork=1) as process:
        channel = process.ready().order()
        eventually(channel.receive_pid)
        channel.send(Order.LEAVE)
        eventually(lambda: ends_on(channel))


class Newborn(Template):
    """One that is told that the logs have moved before it has a handler for that."""

    def _be_a_template(self) -> int:
        with signals.held():
            signals.Inbox().leave_to_child()
            (self.folder / "error.log").rename(self.folder / "error.log.1")
            os.kill(os.getpid(), signal.SIGUSR1)
        return super()._be_a_template()


def test_usr1_is_not_lost_on_who_was_just_forked(tmp_path: Path) -> None:
    """All workers of a template write where it does."""
    with Newborn(tmp_path) as forked:
        forked.ready()
        assert (tmp_path / "error.log").exists()
