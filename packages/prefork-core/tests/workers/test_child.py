# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import signal
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from deadlines import eventually
from folders import public_folder
from serving import Forked
from serving import Worker as Parts

from prefork.autoreload.imported import Imported
from prefork.errors import ExitCode
from prefork.hooks import Hooks
from prefork.process import signals, stacks
from prefork.process.scoreboard import Stage
from prefork.settings import Settings
from prefork.settings.option import Table
from prefork.supervisor.messages import Order, Report
from prefork.worker import Context, Interface, Worker, kinds, option
from prefork.workers import child
from prefork.workers.sync import SyncWorker

HELLO = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""

SLOW = """
import pathlib, time
here = pathlib.Path(__file__).parent
def app(environ, start_response):
    (here / "entered").touch()
    while not (here / "leave").exists():
        time.sleep(0.005)
    start_response("200 OK", [])
    return [b"slow"]
"""


class Process(Forked):
    """A worker process with an application of its own.

    Args:
        folder: where the application, the logs and the notes of hooks go.
        source: the text of the application's module.
        spec: which application it is.
        hooks: names of hooks that leave a note when they run.
        worker_type: the class that serves.
        settings: what differs from the defaults.
        imported: where to say what is imported.
        application: what a template has loaded.
    """

    def __init__(
        self,
        folder: Path,
        source: str = HELLO,
        *,
        spec: str = "site_app:app",
        hooks: tuple[str, ...] = (),
        worker_type: type[Worker] = SyncWorker,
        settings: dict[str, Any] | None = None,
        imported: Imported | None = None,
        application: Callable[..., Any] | None = None,
    ) -> None:
        (folder / "site_app.py").write_text(textwrap.dedent(source))
        noting = {name: self._noting(folder / "notes", name) for name in hooks}
        defaults = {"wsgi_app": spec, "pythonpath": (str(folder),)}
        self.parts = Parts(
            None,  # type: ignore[arg-type]  # it is loaded in the process
            folder,
            hooks=Hooks(**noting),
            settings={**defaults, **(settings or {})},
        )
        self.folder = folder
        self._type = worker_type
        self._imported = imported
        self.shown, self._shows = stacks.make()
        self._application = application
        super().__init__(self._be_a_worker)

    def _noting(self, path: Path, name: str) -> Callable[..., None]:
        def note(*_arguments: object) -> None:
            with path.open("a") as file:
                file.write(f"{name}\n")

        return note

    def _be_a_worker(self) -> int:
        parts = self.parts
        parts.arbiter.close()
        return child.run(
            settings=parts.settings,
            hooks=parts.hooks,
            server=SimpleNamespace(),
            worker=SimpleNamespace(booted=False, aborted=False),
            slot=parts.slot,
            siblings=list,
            channel=parts.end,
            stacks=self._shows,
            listeners=parts.listeners,
            logs=parts.logs,
            worker_type=self._type,
            imported=self._imported,
            application=self._application,
            arbiter=None if self._application is None else 4711,
        )

    def ready(self) -> None:
        """Wait until it can serve."""
        eventually(lambda: self.parts.slot.stage is Stage.READY)

    @property
    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().split() if path.exists() else []

    @property
    def log(self) -> str:
        return self.parts.errors()

    def stacks(self) -> str:
        """Return what it has shown since the last call."""
        self.shown.receive(0.0)
        return self.shown.take()


# Booting


def test_the_collector_leaves_alone_what_the_arbiter_had_made(tmp_path: Path) -> None:
    """Else a full collection writes to the pages of all of it, and a worker has 4 MiB more of its own."""
    source = """
        import gc
        frozen = gc.get_freeze_count(), len(gc.get_objects())
        def app(environ, start_response):
            start_response("200 OK", [])
            return [repr(frozen).encode()]
    """
    with Process(tmp_path, source) as process:
        process.ready()
        with process.parts.client() as client:
            frozen, young = eval(client.get().answer().body)
        assert frozen > 10_000 > young


def test_it_boots_serves_and_leaves(tmp_path: Path) -> None:
    with Process(tmp_path) as process:
        process.ready()
        eventually(lambda: process.parts.heard(Report.READY) == 1)
        with process.parts.client() as client:
            assert client.get().answer().body == b"hello"
        process.parts.order(Order.LEAVE)
        assert process.status() == ExitCode.OK
        assert process.log == ""


def test_what_a_template_has_loaded_is_served_as_it_is(tmp_path: Path) -> None:
    """Nothing is prepared or loaded again, and the arbiter is who the template says."""

    def application(_environ: object, start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [b"preloaded"]

    with Process(
        tmp_path, "raise LookupError", worker_type=NeverPrepared, application=application
    ) as process:
        process.ready()
        with process.parts.client() as client:
            assert client.get().answer().body == b"preloaded"
        process.parts.arbiter.close()
        assert process.status() == ExitCode.OK
        assert "the arbiter (pid 4711) is gone" in process.log


class NeverPrepared(SyncWorker):
    @classmethod
    def prepare(cls, _settings: Settings) -> None:
        raise AssertionError("the template has done that")


def test_the_hooks_of_a_workers_life_run_in_order(tmp_path: Path) -> None:
    hooks = ("worker_exit", "post_worker_init", "post_fork", "worker_int", "worker_abort")
    with Process(tmp_path, hooks=hooks) as process:
        process.ready()
        assert process.notes == ["post_fork", "post_worker_init"]
        process.parts.order(Order.LEAVE)
        assert process.status() == 0
        assert process.notes == ["post_fork", "post_worker_init", "worker_exit"]


class Preparing(SyncWorker):
    """Leaves a note when it prepares the process."""

    notes: ClassVar[Any] = None

    @classmethod
    def prepare(cls, _settings: Settings) -> None:
        cls.notes("prepare")


def test_the_worker_class_prepares_before_the_application_is_imported(tmp_path: Path) -> None:
    source = """
    import pathlib
    with (pathlib.Path(__file__).parent / "notes").open("a") as file:
        file.write("import\\n")
    """
    source = textwrap.dedent(source) + HELLO

    def note(text: str) -> None:
        with (tmp_path / "notes").open("a") as file:
            file.write(f"{text}\n")

    Preparing.notes = note
    with Process(tmp_path, source, hooks=("post_fork", "post_worker_init"), worker_type=Preparing) as process:
        process.ready()
        assert process.notes == ["post_fork", "prepare", "import", "post_worker_init"]


@dataclass(frozen=True, slots=True)
class Loud:
    loud_call: Callable[..., object] | None = option(kinds.function(), None, help="Called first.")


class Greeter(Worker):
    """Sends each client a text, which is its kind of application."""

    api = 1
    interface = Interface.OTHER
    settings = Loud

    @classmethod
    def refuses(cls, app: object) -> str | None:
        return None if isinstance(app, bytes) else "it is no bytes"

    @classmethod
    def prepare(cls, settings: Settings) -> None:
        call = settings.of(Loud).loud_call
        if call is not None:
            call()

    def run(self, ctx: Context) -> None:
        [listener] = ctx.listeners
        ctx.ready()
        while ctx.stopping is None:
            ready, _, _ = select.select([listener.fileno(), ctx.stop_fd], [], [])
            if listener.fileno() in ready:
                sock, _ = listener.accept()
                sock.sendall(ctx.app)
                sock.close()


def test_a_worker_class_serves_applications_of_its_own_kind(tmp_path: Path) -> None:
    with Process(tmp_path, "app = b'good day'", worker_type=Greeter) as process:
        process.ready()
        with process.parts.client() as client:
            assert client.rest() == b"good day"
        process.parts.order(Order.LEAVE)
        assert process.status() == 0


def test_what_it_refuses_is_no_application(tmp_path: Path) -> None:
    with Process(tmp_path, HELLO, worker_type=Greeter) as process:
        assert process.status() == ExitCode.APP
    assert "site_app:app cannot be served: it is no bytes" in process.log


class CallsItsApplication(Greeter):
    """Calls its application before it is ready, or afterwards."""

    def run(self, ctx: Context) -> None:
        if ctx.app == b"afterwards":
            ctx.ready()
        raise LookupError(ctx.app.decode())


@pytest.mark.parametrize(
    ("app", "status", "said"),
    [("before", ExitCode.BOOT, "the worker could not boot"), ("afterwards", ExitCode.CRASH, "crashed")],
)
def test_what_fails_in_it_before_it_is_ready_is_a_failed_boot(
    tmp_path: Path, app: str, status: ExitCode, said: str
) -> None:
    with Process(tmp_path, f"app = b'{app}'", worker_type=CallsItsApplication) as process:
        assert process.status() == status
    assert said in process.log
    assert f"LookupError: {app}" in process.log


def test_its_option_may_name_a_function_beside_the_application(tmp_path: Path) -> None:
    """It is imported where it is called, and from where the application will be."""
    text = "def call(): open(__file__.replace('loud_own.py', 'notes'), 'w').write('called')"
    (tmp_path / "loud_own.py").write_text(text)
    [declared] = Table(Loud).values()
    contributed = ((declared, declared.kind.read("loud_own:call")),)
    source = "app = b'good day'"
    with Process(tmp_path, source, worker_type=Greeter, settings={"contributed": contributed}) as process:
        process.ready()
        assert process.notes == ["called"]


def test_a_function_that_is_not_there_is_a_failed_boot(tmp_path: Path) -> None:
    [declared] = Table(Loud).values()
    contributed = ((declared, declared.kind.read("loud_own:nothing")),)
    settings = {"contributed": contributed}
    with Process(tmp_path, "app = b''", worker_type=Greeter, settings=settings) as process:
        assert process.status() == ExitCode.BOOT
    assert "there is no function loud_own:nothing: " in process.log


def test_an_application_that_raises_when_imported_is_exit_3_with_one_traceback(tmp_path: Path) -> None:
    with Process(tmp_path, "raise ValueError('its own')") as process:
        assert process.status() == ExitCode.BOOT
    assert process.log.count("Traceback (most recent call last)") == 1
    assert process.log.count("\n  ValueError: its own") == 1
    assert "site_app.py" in process.log
    assert process.parts.heard(Report.READY) == 0


@pytest.mark.parametrize("source", [HELLO, "raise ValueError"])
def test_where_files_are_watched_it_says_what_it_imports(tmp_path: Path, source: str) -> None:
    imported = Imported()
    with Process(tmp_path, source, imported=imported):
        eventually(lambda: str(tmp_path / "site_app.py") in imported.read())


@pytest.mark.parametrize("spec", ["site_app:missing", "missing_module:app"])
def test_an_application_that_is_not_there_is_exit_4_without_a_traceback(tmp_path: Path, spec: str) -> None:
    with Process(tmp_path, spec=spec) as process:
        assert process.status() == ExitCode.APP
    assert "missing" in process.log
    assert "Traceback" not in process.log


def test_an_application_that_exits_when_imported_is_exit_3(tmp_path: Path) -> None:
    with Process(tmp_path, "import sys\nsys.exit(0)") as process:
        assert process.status() == ExitCode.BOOT
    assert "sys.exit(0)" in process.log


def test_a_hook_that_raises_before_the_application_is_loaded_is_exit_3(tmp_path: Path) -> None:
    process = Process(tmp_path)

    def post_fork(_server: object, _worker: object) -> None:
        raise ValueError("its own")

    process.parts.hooks = Hooks(post_fork=post_fork)
    with process:
        assert process.status() == ExitCode.BOOT
    assert process.log.count("\n  ValueError: its own") == 1


def test_a_user_that_does_not_exist_is_exit_3(tmp_path: Path) -> None:
    with Process(tmp_path, settings={"user": "nobody-of-that-name"}) as process:
        assert process.status() == ExitCode.BOOT
    assert "nobody-of-that-name" in process.log


def test_a_failed_boot_runs_worker_exit_too(tmp_path: Path) -> None:
    """What post_fork has opened must be closed, as under gunicorn."""
    with Process(tmp_path, "raise ValueError", hooks=("post_fork", "worker_exit")) as process:
        assert process.status() == ExitCode.BOOT
        assert process.notes == ["post_fork", "worker_exit"]


class Crashing(SyncWorker):
    """A worker class with a bug."""

    def run(self, ctx: Context) -> None:
        ctx.ready()
        raise ValueError("a bug")


class Starting(SyncWorker):
    """One that starts the application its own way."""

    def run(self, ctx: Context) -> None:  # noqa: ARG002 (the signature is the base's)
        raise ValueError("no database")


def test_an_application_that_its_worker_class_cannot_start_is_a_failed_boot(tmp_path: Path) -> None:
    with Process(tmp_path, hooks=("worker_exit",), worker_type=Starting) as process:
        assert process.status() == ExitCode.BOOT
        assert process.notes == ["worker_exit"]
    assert "the worker could not boot" in process.log
    assert process.log.count("\n  ValueError: no database") == 1


def test_a_worker_class_that_raises_is_told(tmp_path: Path) -> None:
    with Process(tmp_path, hooks=("worker_exit",), worker_type=Crashing) as process:
        assert process.status() == ExitCode.CRASH
        assert process.notes == ["worker_exit"]
    assert process.log.count("\n  ValueError: a bug") == 1


def test_a_failing_worker_exit_is_told_and_changes_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)

    def worker_exit(_server: object, _worker: object) -> None:
        raise ValueError("its own")

    process.parts.hooks = Hooks(worker_exit=worker_exit)
    with process:
        process.ready()
        process.parts.order(Order.QUICK)
        assert process.status() == 0
    assert "error in the hook worker_exit" in process.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize(
    "careless",
    ["except Exception: pass", "except: pass", "except BaseException as error: raise ValueError from error"],
)
def test_a_signal_while_it_boots_ends_it_without_complaint(
    tmp_path: Path, number: signal.Signals, careless: str
) -> None:
    source = f"""
    import pathlib, time
    (pathlib.Path(__file__).parent / "importing").touch()
    try:
        time.sleep(30)
    {careless}
    def app(environ, start_response): ...
    """
    with Process(tmp_path, source, hooks=("worker_exit",)) as process:
        eventually((tmp_path / "importing").exists)
        process.signal(number)
        assert process.status() == 0
        assert process.log == ""
        assert process.notes == ["worker_exit"]


def test_a_signal_while_it_tells_why_it_cannot_boot_does_not_silence_it(tmp_path: Path) -> None:
    class TroubleError(Exception):
        def __str__(self) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return "no table"

    def post_fork(_server: object, _worker: object) -> None:
        raise TroubleError

    process = Process(tmp_path)
    process.parts.hooks = Hooks(post_fork=post_fork)
    with process:
        assert process.status() == ExitCode.BOOT
    assert "no table" in process.log


# Signals


def test_term_drains(tmp_path: Path) -> None:
    with Process(tmp_path, SLOW) as process:
        process.ready()
        with process.parts.client() as first, process.parts.client() as queued:
            first.get()
            eventually((tmp_path / "entered").exists)
            queued.get()
            process.signal(signal.SIGTERM)
            (tmp_path / "leave").touch()
            assert first.answer().body == b"slow"
            assert queued.answer().body == b"slow"
        assert process.status() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_ends_it_quickly_after_its_hook(tmp_path: Path, number: signal.Signals) -> None:
    with Process(tmp_path, hooks=("worker_int", "worker_exit")) as process:
        process.ready()
        with process.parts.client() as half:
            half.send(b"GET / HTTP/1.1\r\n")
            eventually(lambda: process.parts.slot.idle)
            process.signal(number)
            assert process.status() == 0
        assert process.notes == ["worker_int", "worker_exit"]


def test_usr1_opens_the_logs_again(tmp_path: Path) -> None:
    with Process(tmp_path) as process:
        process.ready()
        with process.parts.client() as client:
            client.get().answer()
        assert process.parts.access(1)
        (tmp_path / "access.log").rename(tmp_path / "access.log.1")
        process.signal(signal.SIGUSR1)
        eventually((tmp_path / "access.log").exists)
        with process.parts.client() as client:
            client.get().answer()
        assert len(process.parts.access(1)) == 1


class Newborn(Process):
    """One that is told that the logs have moved before it has a handler for that."""

    def _be_a_worker(self) -> int:
        with signals.held():
            signals.Inbox().leave_to_child()
            (self.folder / "access.log").rename(self.folder / "access.log.1")
            os.kill(os.getpid(), signal.SIGUSR1)
        return super()._be_a_worker()


def test_usr1_is_not_lost_on_who_was_just_forked(tmp_path: Path) -> None:
    with Newborn(tmp_path) as process:
        process.ready()
        with process.parts.client() as client:
            client.get().answer()
        assert len(process.parts.access(1)) == 1


def test_it_shows_its_stacks_when_asked_and_serves_on(tmp_path: Path) -> None:
    with Process(tmp_path, SLOW) as process:
        process.ready()
        with process.parts.client() as client:
            client.get("/slow")
            eventually((tmp_path / "entered").exists)
            process.signal(stacks.SIGNAL)
            eventually(lambda: "in app" in process.stacks())
            (tmp_path / "leave").touch()
            assert client.answer().body == b"slow"


def test_a_thread_in_the_stacks_is_the_one_on_the_scoreboard(tmp_path: Path) -> None:
    with Process(tmp_path, SLOW) as process:
        process.ready()
        with process.parts.client() as client:
            client.get("/slow")
            eventually((tmp_path / "entered").exists)
            (current,) = process.parts.slot.current()
            process.signal(stacks.SIGNAL)
            eventually(lambda: f"hread 0x{current.thread:016x} (most recent call first)" in process.stacks())
        assert current.client == "127.0.0.1"


def test_abort_shows_all_stacks_and_the_request_and_ends_it(tmp_path: Path) -> None:
    source = """
    import threading
    def waiting_beside():
        threading.Event().wait()
    threading.Thread(target=waiting_beside, daemon=True).start()
    """
    source = textwrap.dedent(source) + SLOW
    with Process(tmp_path, source, hooks=("worker_abort",)) as process:
        process.ready()
        with process.parts.client() as client:
            client.get("/stuck")
            eventually((tmp_path / "entered").exists)
            process.signal(signal.SIGABRT)
            assert process.status() == child.ABORTED
        assert process.notes == ["worker_abort"]
        assert process.parts.access(1) == ["timeout - 0 GET /stuck HTTP/1.1"]
    shown = process.stacks()
    assert "in waiting_beside" in shown
    assert "in app" in shown


def test_abort_shows_the_stack_even_when_c_code_does_not_let_go(tmp_path: Path) -> None:
    source = """
    import pathlib, re
    def app(environ, start_response):
        (pathlib.Path(__file__).parent / "entered").touch()
        re.fullmatch("(a*)*b", "a" * 100)
    """
    with Process(tmp_path, source) as process:
        process.ready()
        with process.parts.client() as client:
            client.get("/stuck")
            eventually((tmp_path / "entered").exists)
            process.signal(signal.SIGABRT)
            eventually(lambda: "in app" in process.stacks())


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGHUP,
        signal.SIGWINCH,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR2,
        signal.SIGPIPE,
        signal.SIGCHLD,
    ],
)
def test_what_is_meant_for_the_arbiter_harms_no_worker(tmp_path: Path, number: signal.Signals) -> None:
    """`systemctl kill` sends a signal to all processes of a service; TTIN would stop them."""
    with Process(tmp_path) as process:
        process.ready()
        process.signal(number)
        with process.parts.client() as client:
            assert client.get().answer().body == b"hello"
        assert process.running


def test_programs_that_the_application_starts_do_not_inherit_deafness(tmp_path: Path) -> None:
    """What is ignored stays so over exec, and those programs are not ours."""
    source = """
    import subprocess
    def app(environ, start_response):
        status = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True).stdout
        start_response("200 OK", [])
        return [status.split()[1]]
    """
    with Process(tmp_path, source) as process:
        process.ready()
        with process.parts.client() as client:
            ignored = int(client.get().answer().body, 16)
    status = Path("/proc/self/status").read_text().split()
    assert not ignored & ~int(status[status.index("SigIgn:") + 1], 16)


def test_it_shows_what_it_is(tmp_path: Path) -> None:
    with Process(tmp_path) as process:
        process.ready()
        title = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: b"prefork: worker [site_app:app]" in title.read_bytes())


def test_it_drops_its_privileges_before_the_application_is_imported() -> None:
    if os.geteuid():
        user: int = os.geteuid()  # the only one that can be had without root
    else:
        user = 65534
    source = """
    import os
    uid = os.geteuid()
    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(uid).encode()]
    """
    with public_folder() as folder, Process(folder, source, settings={"user": user}) as process:
        process.ready()
        with process.parts.client() as client:
            assert client.get().answer().body == str(user).encode()
