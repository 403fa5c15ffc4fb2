# SPDX-License-Identifier: MIT
from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork.errors import ConfigError
from prefork.observe.access import Exchange
from prefork.observe.log import level_of, open_logs
from prefork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork.observe.log import Logs

REQUEST = Exchange(method="GET", target="/", protocol="HTTP/1.1", status=200)


@contextlib.contextmanager
def opened(**settings: Any) -> Iterator[Logs]:
    logs = open_logs(Settings(**settings))
    try:
        yield logs
    finally:
        logs.close()


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program: logging.config and the standard streams belong to the whole process."""
    begin = "import logging, os, sys\nfrom prefork.settings import Settings\n"
    begin += "from prefork.observe.access import Exchange\nfrom prefork.observe.log import open_logs\n"
    begin += "from prefork.errors import ConfigError\n"
    begin += "request = Exchange(method='GET', target='/', protocol='HTTP/1.1', status=200)\n"
    return subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        # Streams as they are outside of tests: buffered, so that what is flushed when can be seen.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ------------------------------------------------------------------------------------------- the levels


@pytest.mark.parametrize(("name", "number"), [("info", logging.INFO), ("DEBUG", logging.DEBUG)])
def test_a_level_is_known_in_any_case(name: str, number: int) -> None:
    assert level_of(name) == number


@pytest.mark.parametrize(
    ("name", "nearest"), [("warn", "warning"), ("inof", "info"), ("", "debug"), ("crit", "critical")]
)
def test_a_wrong_level_is_a_config_error_that_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no level '{name}'") as caught:
        level_of(name)
    assert nearest in caught.value.hint


def test_records_below_the_level_are_not_written(tmp_path: Path) -> None:
    with opened(errorlog=str(tmp_path / "log"), loglevel="warning") as logs:
        logs.error.info("quiet")
        logs.error.warning("loud")
    assert "quiet" not in (tmp_path / "log").read_text()
    assert "[WARNING] loud\n" in (tmp_path / "log").read_text()


# -------------------------------------------------------------------------------------- what is opened


def test_without_an_access_log_there_is_none() -> None:
    with opened() as logs:
        assert logs.access is None


def test_both_logs_go_to_the_standard_streams_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    with opened(accesslog="-", access_log_format="%(r)s %(s)s") as logs:
        assert logs.access
        logs.access.write(REQUEST)
        logs.error.info("hello")
    out, err = capfd.readouterr()
    assert out == "GET / HTTP/1.1 200\n"
    assert err.endswith("[INFO] hello\n")


def test_both_logs_may_be_one_file(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with opened(errorlog=log, accesslog=log, access_log_format="%(m)s") as logs:
        assert logs.access
        logs.error.info("one")
        logs.access.write(REQUEST)
        logs.error.info("two")
    assert re.fullmatch(r".* one\nGET\n.* two\n", (tmp_path / "log").read_text())


def test_json_is_for_both_logs(tmp_path: Path) -> None:
    error, access = tmp_path / "error", tmp_path / "access"
    with opened(errorlog=str(error), accesslog=str(access), log_format="json") as logs:
        assert logs.access
        logs.error.error("it failed", extra={"worker": 3})
        logs.access.write(REQUEST)
    assert (
        json.loads(error.read_text()).items()
        >= {"message": "it failed", "worker": 3, "level": "ERROR"}.items()
    )
    assert json.loads(access.read_text()).items() >= {"status": 200, "outcome": "ok", "path": "/"}.items()


def test_json_has_the_atoms_of_a_format_of_ones_own(tmp_path: Path) -> None:
    with opened(accesslog=str(tmp_path / "log"), log_format="json", access_log_format="%(m)s %(s)s") as logs:
        assert logs.access
        logs.access.write(REQUEST)
    assert json.loads((tmp_path / "log").read_text()) == {"m": "GET", "s": 200}


def test_a_record_goes_to_no_other_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(errorlog=str(tmp_path / "log")) as logs:
        logs.error.error("ours")
    assert not caplog.records


@pytest.mark.parametrize(
    "wrong",
    [
        {"loglevel": "loud"},
        {"access_log_format": "%(Z)s"},
        {"access_log_format": "%(Z)s", "log_format": "json"},
        {"errorlog": "none/there/log"},
        {"accesslog": "none/there/log"},
    ],
)
def test_wrong_settings_leave_the_logs_that_were_open_in_use(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with opened(errorlog=str(tmp_path / "log")) as logs:
        before = open_descriptors()
        with pytest.raises(ConfigError):
            open_logs(Settings(**{"errorlog": str(tmp_path / "other"), **wrong}))
        assert open_descriptors() == before
        logs.error.info("still here")
    assert (tmp_path / "log").read_text().endswith("still here\n")


def test_new_logs_take_over_and_old_ones_can_come_back(tmp_path: Path) -> None:
    with opened(errorlog=str(tmp_path / "old"), loglevel="error") as old:
        with opened(errorlog=str(tmp_path / "new"), loglevel="info") as new:
            new.error.info("new")
            old.install()
            old.error.info("below the old level")
            old.error.error("old")
        old.error.error("old again")
    assert (tmp_path / "new").read_text().count("\n") == 1
    assert re.fullmatch(r".*\] old\n.*\] old again\n", (tmp_path / "old").read_text())


def test_closing_the_former_logs_leaves_the_new_ones(tmp_path: Path) -> None:
    old = open_logs(Settings(errorlog=str(tmp_path / "old")))
    with opened(errorlog=str(tmp_path / "new")) as new:
        old.close()
        new.error.info("here")
    assert (tmp_path / "new").read_text().endswith("here\n")


# ------------------------------------------------------------------------------------ logs that do not work


def test_an_access_log_that_fails_is_told_in_the_error_log_and_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(errorlog=str(tmp_path / "log"), accesslog="/dev/full") as logs:
        assert logs.access
        for _ in range(3):
            logs.access.write(REQUEST)
    said = (tmp_path / "log").read_text()
    assert said == capfd.readouterr().err
    first, last = said.splitlines()
    assert first.endswith(
        "accesslog: cannot write to '/dev/full': No space left on device; lines are being lost"
    )
    assert last.endswith("accesslog: '/dev/full' is closed; 3 lines were lost")


def test_an_error_log_that_fails_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with opened(errorlog="/dev/full", log_format="json") as logs:
        logs.error.info("lost")
        logs.error.info("lost")
    first, last = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert first["message"].startswith("errorlog: cannot write to '/dev/full'")
    assert last["message"].endswith("2 lines were lost")


def test_a_failure_is_told_once_where_stderr_is_the_error_log(capfd: pytest.CaptureFixture[str]) -> None:
    with opened(accesslog="/dev/full") as logs:
        assert logs.access
        logs.access.write(REQUEST)
        assert capfd.readouterr().err.count("\n") == 1


def test_when_every_log_is_full_serving_goes_on(tmp_path: Path) -> None:
    script = """
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, 1)
        os.dup2(full, 2)
        logs = open_logs(Settings(accesslog="-"))
        for _ in range(3):
            logs.access.write(request)
            logs.error.error("lost")
        logs.reopen()
        logs.close()
        os._exit(7)
    """
    assert run(script, tmp_path).returncode == 7


def test_a_dead_reader_of_both_streams_does_not_end_the_process(tmp_path: Path) -> None:
    script = """
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        os.close(read)
        logs = open_logs(Settings(accesslog="-"))
        logs.access.write(request)
        logs.error.error("lost")
        os._exit(7)
    """
    assert run(script, tmp_path).returncode == 7


# ------------------------------------------------------------------------------------------------ reopening


def test_usr1_reopens_both_logs_in_the_middle_of_writing(tmp_path: Path) -> None:
    """The handler runs between any two bytecodes of the main thread, also inside of logging."""
    script = """
        import signal
        logs = open_logs(Settings(errorlog="error", accesslog="access", access_log_format="%(q)s"))
        signal.signal(signal.SIGALRM, lambda *_: rotate())
        turns = 0

        def rotate():
            global turns
            turns += 1
            os.rename("access", f"access.{turns}")
            os.rename("error", f"error.{turns}")
            logs.reopen()
            signal.setitimer(signal.ITIMER_REAL, 0.001)

        signal.setitimer(signal.ITIMER_REAL, 0.001)
        for number in range(5000):
            logs.access.write(Exchange(target=f"/?{number}"))
            logs.error.info("%d", number)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(turns)
    """
    done = run(script, tmp_path)
    assert done.stderr == ""
    turns = int(done.stdout)
    assert turns > 0
    for name in ("access", "error"):
        parts = [tmp_path / f"{name}.{turn}" for turn in range(1, turns + 1)] + [tmp_path / name]
        lines = "".join(part.read_text() for part in parts).splitlines()
        assert [int(line.split()[-1]) for line in lines] == list(range(5000))


def test_a_reopen_that_fails_is_told_and_the_old_file_used_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    with opened(errorlog=str(tmp_path / "logs" / "log")) as logs:
        (tmp_path / "logs").rename(tmp_path / "moved")
        logs.reopen()
        logs.error.info("still here")
    assert "cannot reopen" in capfd.readouterr().err
    told, after = (tmp_path / "moved" / "log").read_text().splitlines()
    assert "cannot reopen" in told
    assert after.endswith("still here")


# ------------------------------------------------------------------------------------------------ processes


def test_children_write_their_own_pid_into_the_log_of_the_parent(tmp_path: Path) -> None:
    script = """
        logs = open_logs(Settings(errorlog="error", accesslog="access", access_log_format="%(p)s"))
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                logs.error.info("child")
                logs.access.write(request)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        print(*sorted(pids))
    """
    done = run(script, tmp_path)
    pids = done.stdout.split()
    assert sorted(re.findall(r"\] \[(\d+)\]", (tmp_path / "error").read_text())) == sorted(pids)
    assert sorted(re.findall(r"<(\d+)>", (tmp_path / "access").read_text())) == sorted(pids)


def test_a_fork_in_the_middle_of_another_threads_line_does_not_lock_the_child(tmp_path: Path) -> None:
    script = """
        import threading
        logs = open_logs(Settings(errorlog="error", accesslog="access"))
        over = threading.Event()

        def chatter():
            while not over.is_set():
                logs.error.info("thread")
                logs.access.write(request)

        threads = [threading.Thread(target=chatter) for _ in range(3)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                import signal
                signal.alarm(20)  # a locked child dies of it
                logs.error.info("child")
                logs.access.write(request)
                os._exit(0)
            statuses.append(os.waitpid(pid, 0)[1])
        over.set()
        for thread in threads:
            thread.join()
        print(statuses == [0] * 30)
    """
    done = run(script, tmp_path)
    assert done.stdout == "True\n"
    assert (tmp_path / "error").read_text().count(" child\n") == 30


def test_lines_lost_before_the_fork_are_told_by_the_parent_only(tmp_path: Path) -> None:
    script = """
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        logs = open_logs(Settings(accesslog="-"))
        for _ in range(5):
            logs.access.write(request)
        if os.fork() == 0:
            logs.close()
            os._exit(0)
        os.wait()
        logs.close()
    """
    assert run(script, tmp_path).stderr.count("5 lines were lost") == 1


def test_lines_lost_in_a_child_are_told_by_the_child(tmp_path: Path) -> None:
    script = """
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        logs = open_logs(Settings(accesslog="-"))
        for _ in range(5):
            logs.access.write(request)
        if os.fork() == 0:
            logs.access.write(request)
            logs.access.write(request)
            logs.close()
            os._exit(0)
        os.wait()
        logs.close()
    """
    assert re.findall(r"\d+ lines were lost", run(script, tmp_path).stderr) == [
        "2 lines were lost",
        "5 lines were lost",
    ]


def test_captured_output_goes_to_the_error_log_also_after_a_reopen(tmp_path: Path) -> None:
    script = """
        logs = open_logs(Settings(errorlog="error", accesslog="-", access_log_format="%(r)s"))
        print("before")
        captured = logs.capture_output()
        print("printed")
        os.system("echo from a program; echo and its stderr >&2")
        os.rename("error", "error.1")
        logs.reopen()
        print("after")
        sys.stderr.write("traceback\\n")
        logs.access.write(request)
        sys.exit(0 if captured else 1)
    """
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "before\nGET / HTTP/1.1\n"
    assert (tmp_path / "error.1").read_text() == "printed\nfrom a program\nand its stderr\n"
    assert (tmp_path / "error").read_text() == "after\ntraceback\n"


@pytest.mark.parametrize("errorlog", ["-", "/dev/null"])
def test_output_is_not_captured_into_what_is_no_file(tmp_path: Path, errorlog: str) -> None:
    script = f"""
        logs = open_logs(Settings(errorlog={errorlog!r}))
        print(logs.capture_output())
    """
    assert run(script, tmp_path).stdout == "False\n"


# ------------------------------------------------------------------------------------------- logconfig_dict

TABLE = """
    table = {
        "version": 1,
        "formatters": {"plain": {"format": "%(name)s %(message)s"}},
        "handlers": {
            "error": {"class": "logging.FileHandler", "filename": "error", "formatter": "plain"},
            "access": {"class": "logging.FileHandler", "filename": "access", "formatter": "plain"},
        },
        "loggers": {
            "gunicorn.error": {"handlers": ["error"], "level": "ERROR"},
            "gunicorn.access": {"handlers": ["access"], "level": "INFO"},
        },
    }
"""


def test_a_table_written_for_gunicorn_says_where_both_logs_go(tmp_path: Path) -> None:
    script = f"""{TABLE}
    logs = open_logs(Settings(logconfig_dict=table, access_log_format="%(r)s 100%%"))
    logs.error.warning("below the table's level")
    logs.error.error("it failed")
    logs.access.write(request)
    """
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "error").read_text() == "prefork.error it failed\n"
    assert (tmp_path / "access").read_text() == "prefork.access GET / HTTP/1.1 100%\n"


def test_files_of_a_table_are_reopened_too(tmp_path: Path) -> None:
    script = f"""{TABLE}
    logs = open_logs(Settings(logconfig_dict=table, access_log_format="%(m)s"))
    logs.access.write(request)
    os.rename("access", "access.1")
    logs.reopen()
    logs.access.write(request)
    os.rename("access", "access.2")
    os.mkdir("access")
    logs.reopen()
    logs.access.write(request)
    """
    done = run(script, tmp_path)
    assert (tmp_path / "access.1").read_text() == "prefork.access GET\n"
    assert (tmp_path / "access.2").read_text() == "prefork.access GET\n" * 2
    assert "logconfig_dict: cannot reopen" in done.stderr
    assert "Is a directory" in done.stderr


def test_what_a_table_does_not_name_stays_ours(tmp_path: Path) -> None:
    """Handlers and formatters of gunicorn's defaults may be used; old loggers are not disabled."""
    script = """
        table = {
            "disable_existing_loggers": True,
            "loggers": {"app": {"handlers": ["error_console"], "propagate": False}},
        }
        logs = open_logs(Settings(logconfig_dict=table, errorlog="error", accesslog="access"))
        logs.error.info("ours")
        logs.access.write(request)
        logging.getLogger("app").error("of the application")
        logging.getLogger("else").info("to the root")
    """
    done = run(script, tmp_path)
    assert (tmp_path / "error").read_text().endswith("[INFO] ours\n")
    assert (tmp_path / "access").read_text().count("\n") == 1
    assert re.fullmatch(r"\[.*\] \[\d+\] \[ERROR\] of the application\n", done.stderr)
    assert re.fullmatch(r"\[.*\] \[\d+\] \[INFO\] to the root\n", done.stdout)


def test_a_table_may_set_only_the_level(tmp_path: Path) -> None:
    script = """
        table = {"loggers": {"gunicorn.error": {"level": "DEBUG"}}}
        logs = open_logs(Settings(logconfig_dict=table, errorlog="error"))
        logs.error.debug("seen")
    """
    run(script, tmp_path)
    assert (tmp_path / "error").read_text().endswith("[DEBUG] seen\n")


def test_formatters_that_read_gunicorns_atoms_work_on(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import json, logging\n"
        "class Json(logging.Formatter):\n"
        "    def format(self, record):\n"
        "        return json.dumps({'path': record.args['U'], 'status': record.args['s']})\n"
    )
    script = """
        table = {
            "formatters": {"json": {"()": "mine.Json"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
            "loggers": {"gunicorn.access": {"handlers": ["console"]}},
        }
        open_logs(Settings(logconfig_dict=table)).access.write(request)
    """
    assert json.loads(run(script, tmp_path).stdout) == {"path": "/", "status": 200}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"version": 2}, "Unsupported version: 2"),
        ({"handlers": {"h": {"class": "no.such.Handler"}}}, "Unable to configure handler 'h'.*no"),
        ({"loggers": {"app": {"handlers": ["nobody"]}}}, "Unable to configure logger 'app'.*nobody"),
        ({"loggers": {"app": {"level": "LOUD"}}}, "LOUD"),
    ],
)
def test_a_table_that_cannot_be_applied_is_a_config_error_and_changes_nothing(
    tmp_path: Path, table: dict[str, Any], reason: str
) -> None:
    script = f"""
        old = open_logs(Settings(errorlog="error", loglevel="warning"))
        try:
            open_logs(Settings(errorlog="other", loglevel="debug", logconfig_dict={table!r}))
        except ConfigError as error:
            print(error)
        old.error.info("below the level")
        old.error.warning("still here")
        print(old.error.propagate)
    """
    done = run(script, tmp_path)
    assert re.search(f"logconfig_dict: .*{reason}", done.stdout), done.stderr
    assert done.stdout.endswith("False\n")
    assert (tmp_path / "error").read_text().count("\n") == 1


def test_the_logs_import_neither_json_nor_dictconfig_until_they_are_asked_for(tmp_path: Path) -> None:
    script = (
        "open_logs(Settings(accesslog='-')); print(sorted({'json', 'logging.config'} & set(sys.modules)))"
    )
    assert run(script, tmp_path).stdout == "[]\n"


# ------------------------------------------------------------------------------------------- statsd


def test_requests_and_records_are_counted_where_statsd_host_says(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "statsd.sock"))
        server.settimeout(20.0)
        host = f"unix://{tmp_path}/statsd.sock"
        names = {"statsd_host": host, "statsd_prefix": "shop", "dogstatsd_tags": "zone:eu"}
        with opened(errorlog=str(tmp_path / "log"), **names) as logs:
            logs.error.error("broken")
            assert server.recv(4096) == b"shop.gunicorn.log.error:1|c|#zone:eu"
            assert logs.access is not None
            logs.access.write(REQUEST)
            assert b"shop.gunicorn.requests:1|c|#zone:eu\n" in server.recv(4096)
        assert "broken" in (tmp_path / "log").read_text()


def test_a_statsd_host_that_cannot_be_used_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(ConfigError, match="statsd_host"):
        open_logs(Settings(errorlog=str(tmp_path / "log"), statsd_host="localhost:http"))
    assert open_descriptors() == before


def test_closed_logs_count_nothing_any_more(tmp_path: Path) -> None:
    before = open_descriptors()
    with opened(errorlog=str(tmp_path / "log"), statsd_host="127.0.0.1:9") as logs:
        handlers = len(logs.error.handlers)
    assert len(logs.error.handlers) == handlers - 2
    assert open_descriptors() == before
