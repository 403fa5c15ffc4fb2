# SPDX-License-Identifier: MIT
"""Logs say what happened, rotate without losing a line, and can fail without harm."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Final

import pytest
from support.application import deploy, hold
from support.server import Server

from prefork.testing import client
from prefork.testing.load import Load
from prefork.testing.waiting import until

LINE: Final = re.compile(r'127\.0\.0\.1 - - \[[^]]+\] "GET /(ready|\d+/\d+) HTTP/1\.1" 200 \d+ "-" "-"')
DRIP: Final = """

def drip():
    for _ in range(100):
        time.sleep(0.01)
        yield b'x' * 99999
"""
COMPLETE: Final = "-w 2 --access-logfile access.log --error-logfile error.log app:app"


def test_rotation_under_load_loses_no_line(tmp_path: Path) -> None:
    """Files are renamed, then USR1: what was written goes to the one or the other, every line whole."""
    deploy(tmp_path)
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    with Server(tmp_path, COMPLETE) as server:
        with Load(server.address) as load:
            for count in (1, 2, 3):
                load.wait()
                access.rename(tmp_path / f"access.log.{count}")
                error.rename(tmp_path / f"error.log.{count}")
                server.signal(signal.SIGUSR1)
                until(lambda: access.exists() and "SIGUSR1" in error.read_text(), "new log files")
                until(lambda: access.read_text().count("\n") > 50, "lines of both workers in the new file")
            load.check()
        server.stop()
    lines = [line for path in tmp_path.glob("access.log*") for line in path.read_text().splitlines()]
    assert len(lines) == load.answered + 1  # and the one of `wait_ready`
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_a_worker_that_is_busy_writes_to_the_new_file(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, COMPLETE) as server, hold(server, "a") as sock:
        (tmp_path / "access.log").rename(tmp_path / "access.log.1")
        server.signal(signal.SIGUSR1)
        until((tmp_path / "access.log").exists, "the new log file")
        (tmp_path / "a.released").touch()
        assert client.read_answer(sock).status == 200
        until(lambda: "/hold/a" in (tmp_path / "access.log").read_text(), "its line in the new file")


def test_a_worker_that_is_about_to_end_is_not_killed_by_the_signal_for_the_logs(tmp_path: Path) -> None:
    """When the interpreter ends it gives handlers back to the kernel, and the default of USR1 is death."""
    note = "open('ignored', 'w').write([line for line in open('/proc/self/status') if 'SigIgn' in line][0])"
    deploy(tmp_path, boot=f"import atexit; atexit.register(lambda: {note})")
    with Server(tmp_path, "-w 1 app:app") as server:
        server.stop()
    ignored = int((tmp_path / "ignored").read_text().split()[1], 16)
    assert ignored >> (signal.SIGUSR1 - 1) & 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_full_disk_stops_nothing(tmp_path: Path, log_format: str) -> None:
    deploy(tmp_path)
    arguments = f"-w 2 --log-format {log_format} --access-logfile /dev/full --error-logfile /dev/full app:app"
    with Server(tmp_path, arguments) as server, Load(server.address) as load:
        load.wait()
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGTTIN)
        server.wait_workers(3)
        load.wait(300)
        load.check()


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path) -> None:
    """Standard output and error are pipes whose reader has gone."""
    deploy(tmp_path)
    read, write = os.pipe()
    with (
        Server(tmp_path, "-w 2 --access-logfile - app:app", stdout=write, stderr=write) as server,
        Load(server.address) as load,
    ):
        os.close(write)
        os.close(read)
        load.wait()
        server.signal(signal.SIGHUP)
        load.wait(300)
        load.check()


def fill(pipe: int) -> None:
    """Write into a pipe until no byte fits any more."""
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


def test_a_pipe_that_nobody_empties_stops_nothing(tmp_path: Path) -> None:
    """Its reader hangs: when the pipe is full, lines are lost and requests are not."""
    deploy(tmp_path)
    read, write = os.pipe()
    fill(write)
    with (
        Server(tmp_path, "-w 2 --access-logfile - app:app", stdout=write) as server,
        Load(server.address) as load,
    ):
        load.wait(300)
        load.check()
    os.close(write)
    os.close(read)


def test_json_logs_are_json(tmp_path: Path) -> None:
    deploy(tmp_path, request="if path == '/error': raise RuntimeError('on purpose\\n\"quoted\"')")
    arguments = "-w 1 --log-format json --access-logfile access.log --error-logfile error.log app:app"
    with Server(tmp_path, arguments) as server:
        assert server.ask("/error?a=%22", 'User-Agent: "quoted" \\').status == 500
        server.stop()
    access = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    error = [json.loads(line) for line in (tmp_path / "error.log").read_text().splitlines()]
    assert access[-1]["status"] == 500
    assert '"quoted" \\' in access[-1].values()
    assert any("on purpose" in line.get("exception", "") for line in error)
    assert error[-1]["message"] == "stopped: exit code 0"


def test_requests_that_no_application_saw_have_a_line(tmp_path: Path) -> None:
    """Rejected, timed out, aborted: with the status that was sent."""
    deploy(tmp_path, request="if path == '/drip': start_response('200 OK', []); return drip()")
    with (tmp_path / "app.py").open("a") as file:
        file.write(DRIP)
    with Server(tmp_path, "-w 2 --header-timeout 1 --access-logfile access.log app:app") as server:
        for data in (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET /slow HTTP/1.1\r\n"):
            with client.connect(server.address) as sock:
                client.send(sock, data)
                assert client.read_answer(sock).status in {400, 408}
        with client.connect(server.address) as sock:
            client.send(sock, client.render("/drip"))
            assert sock.recv(10)
        until(lambda: "/drip" in (tmp_path / "access.log").read_text(), "the line of the aborted request")
        log = (tmp_path / "access.log").read_text()
        assert '" 400 ' in log
        assert '" 408 ' in log
        assert '"GET /drip HTTP/1.1" 200 ' in log
        assert "Traceback" not in server.log()


def test_output_of_the_application_can_be_captured(tmp_path: Path) -> None:
    deploy(tmp_path, request="print('out', path); print('err', path, file=sys.stderr)")
    with Server(tmp_path, "-w 1 --capture-output --error-logfile error.log app:app") as server:
        server.ask("/captured")
        until(lambda: (tmp_path / "error.log").read_text().count("/captured") == 2, "both in the error log")
        assert "/captured" not in server.log()


def test_an_error_of_the_application_is_logged_once(tmp_path: Path) -> None:
    deploy(tmp_path, request="if path == '/error': raise RuntimeError('on purpose')")
    with Server(tmp_path, "-w 1 app:app") as server:
        assert server.ask("/error").status == 500
        server.wait_log("RuntimeError: on purpose")
        server.ask()
        assert server.log().count("RuntimeError: on purpose") == 1
        assert "/error" in server.log()


def test_times_are_those_of_the_clock(tmp_path: Path) -> None:
    deploy(tmp_path, request="time.sleep(0.2)")
    with Server(
        tmp_path, "-w 1 --access-logfile access.log --access-logformat '%(D)s %(L)s %(T)s %(p)s' app:app"
    ) as server:
        began = time.monotonic()
        server.ask()
        longest = time.monotonic() - began
        until(lambda: (tmp_path / "access.log").read_text().count("\n") == 2, "both lines")
        micro, seconds, _, pid = (tmp_path / "access.log").read_text().splitlines()[1].split()
        assert 0.2 <= float(seconds) <= longest
        assert 200_000 <= int(micro) <= longest * 1e6
        assert pid == f"<{server.workers()[0]}>"
