# SPDX-License-Identifier: MIT
from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from prefork.errors import ConfigError
from prefork.observe import destination
from prefork.observe.destination import Destination, identity


class Reports:
    """What a destination told, in order."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, _about: Destination, text: str) -> None:
        self.texts.append(text)


def open_file(where: Path | str, reports: Reports | None = None, quiet: float = 10.0) -> Destination:
    return Destination("errorlog", str(where), standard=2, report=reports or Reports(), quiet=quiet)


def open_stream(
    fd: int, reports: Reports | None = None, patience: float = destination.PATIENCE
) -> Destination:
    return Destination("accesslog", "-", standard=fd, report=reports or Reports(), patience=patience)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def fill(fd: int) -> None:
    """Fill a non-blocking pipe to the last byte."""
    for size in (4096, 1):
        try:
            while True:
                os.write(fd, b"x" * size)
        except BlockingIOError:
            pass


def test_lines_are_written_without_what_is_put_into_the_place_of_os_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With eventlet that lets other greenlets run, and two of them may not write to one pipe."""

    def waits(_fd: int, _data: bytes) -> int:
        raise AssertionError("a greenlet waits in the middle of a response")

    monkeypatch.setattr(os, "write", waits)
    read, write = os.pipe()
    open_stream(write).write(b"to a pipe\n")
    assert os.read(read, 100) == b"to a pipe\n"
    os.close(read)
    os.close(write)
    log = tmp_path / "log"
    open_file(log).write(b"to a file\n")
    assert log.read_bytes() == b"to a file\n"


def test_a_line_is_appended_to_what_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n")
    open_file(log).write(b"new\n")
    assert log.read_bytes() == b"old\nnew\n"


def test_a_new_file_is_not_for_other_users(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        open_file(tmp_path / "log")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o640


def test_a_log_is_not_inherited_by_programs_that_the_application_starts(tmp_path: Path) -> None:
    file = open_file(tmp_path / "log")
    file.reopen()
    assert not os.get_inheritable(file._fd)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/log", "No such file or directory"), ("", "Is a directory"), ("a\0b", "embedded null ")],
)
def test_a_file_that_cannot_be_opened_is_a_config_error_with_the_reason(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"errorlog: cannot open .*{reason}"):
        open_file(f"{tmp_path}/{name}")


def test_a_fifo_that_nobody_reads_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="nobody reads that pipe"):
        open_file(tmp_path / "fifo")


def test_a_closed_standard_stream_is_a_config_error() -> None:
    script = """
        import os
        from prefork.errors import ConfigError
        from prefork.observe.destination import Destination
        os.close(1)
        try:
            Destination("accesslog", "-", standard=1, report=print)
        except ConfigError as error:
            os.write(2, str(error).encode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, timeout=30, check=False
    )
    assert b'accesslog is "-", but stdout is not open' in done.stderr


def test_a_full_disk_costs_the_line_and_is_told_once() -> None:
    reports = Reports()
    file = open_file("/dev/full", reports)
    for _ in range(3):
        file.write(b"line\n")
    assert file.failing
    assert reports.texts == [
        "errorlog: cannot write to '/dev/full': No space left on device; lines are being lost"
    ]


def test_the_end_of_a_loss_is_told_with_the_count(tmp_path: Path) -> None:
    reports = Reports()
    file = open_file("/dev/full", reports)
    for _ in range(3):
        file.write(b"line\n")
    full, file.path = file.path, str(tmp_path / "log")
    file.reopen()
    file.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"after\n"
    assert not file.failing
    assert reports.texts[1:] == [f"errorlog: '{tmp_path}/log' works again; 3 lines were lost"]
    assert full == "/dev/full"


def move(file: Destination, path: Path | str) -> None:
    file.path = str(path)
    file.reopen()


def test_a_destination_that_fails_on_and_off_is_not_told_of_each_time(tmp_path: Path) -> None:
    reports = Reports()
    file = open_file("/dev/full", reports)
    for _ in range(5):
        move(file, "/dev/full")
        file.write(b"lost\n")
        move(file, tmp_path / "log")
        file.write(b"kept\n")
    assert len(reports.texts) == 2
    file.close()
    assert reports.texts[2:] == [f"errorlog: '{tmp_path}/log' is closed; 4 lines were lost"]


def test_lines_lost_in_silence_are_counted_in_the_next_message(tmp_path: Path) -> None:
    reports = Reports()
    file = open_file("/dev/full", reports, quiet=3600.0)
    for _ in range(2):
        move(file, "/dev/full")
        file.write(b"lost\n")
        move(file, tmp_path / "log")
        file.write(b"kept\n")
    file._quiet = 0.0
    move(file, "/dev/full")
    file.write(b"lost\n")
    move(file, tmp_path / "log")
    file.write(b"kept\n")
    assert reports.texts[-1].endswith("works again; 2 lines were lost")


def test_a_pipe_that_nobody_reads_any_more_costs_the_line() -> None:
    reports = Reports()
    read, write = os.pipe()
    stream = open_stream(write, reports)
    os.close(read)
    stream.write(b"line\n")
    stream.write(b"line\n")
    assert reports.texts == [
        "accesslog: cannot write to the standard stream: Broken pipe; lines are being lost"
    ]
    stream.close()
    os.close(write)


def test_a_descriptor_that_was_closed_under_it_costs_the_line(tmp_path: Path) -> None:
    """Some applications close all descriptors that they do not know."""
    reports = Reports()
    file = open_file(tmp_path / "log", reports)
    os.close(file._fd)
    file.write(b"line\n")
    assert "Bad file descriptor" in reports.texts[0]


def test_a_stuck_reader_costs_one_wait_and_then_none() -> None:
    reports = Reports()
    read, write = os.pipe()
    stream = open_stream(write, reports)
    fill(stream._fd)
    began = time.monotonic()
    for _ in range(200):
        stream.write(b"line\n")
    assert time.monotonic() - began < 20 * destination.PATIENCE
    assert "its reader is too slow" in reports.texts[0]
    os.close(read)
    os.close(write)
    stream.close()


def test_a_reader_that_catches_up_loses_only_what_did_not_fit() -> None:
    reports = Reports()
    read, write = os.pipe()
    stream = open_stream(write, reports)
    fill(stream._fd)
    stream.write(b"lost\n")
    assert os.read(read, 1 << 20).strip(b"x") == b""
    stream.write(b"kept\n")
    assert os.read(read, 100) == b"kept\n"
    assert "works again; 1 line was lost" in reports.texts[1]
    os.close(read)
    os.close(write)
    stream.close()


def test_a_pipe_stays_blocking_for_the_others_who_share_it() -> None:
    read, write = os.pipe()
    stream = open_stream(write)
    assert os.get_blocking(write)
    assert not os.get_blocking(stream._fd)
    stream.close()
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_a_line_that_a_pipe_takes_in_parts_arrives_whole() -> None:
    """Beyond PIPE_BUF a non-blocking write may be partial (pipe(7))."""
    read, write = os.pipe()
    size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    stream = open_stream(write, patience=30.0)
    line = b"x" * 10 * size + b"\n"
    got = bytearray()

    def drain() -> None:
        while part := os.read(read, size):
            got.extend(part)

    reader = threading.Thread(target=drain)
    reader.start()
    stream.write(line)
    stream.close()
    os.close(write)
    reader.join(timeout=30)
    os.close(read)
    assert got == line


FULL_FILE_SYSTEM = """
    import os, resource, sys
    from prefork.observe.destination import Destination

    def report(about, text):
        os.write(2, (text + "\\n").encode())

    def limit(size):
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    log = Destination("accesslog", sys.argv[1], standard=1, report=report)
    limit(25)
    for number in range(5):
        log.write(b"line %d....\\n" % number)
    limit(resource.RLIM_INFINITY)
    log.write(b"line after\\n")
    log.write(b"line later\\n")
"""


def test_a_line_torn_by_a_full_file_does_not_tear_the_next(tmp_path: Path) -> None:
    """A file of 25 bytes takes two lines of 11 and 3 bytes of the third."""
    script = textwrap.dedent(FULL_FILE_SYSTEM)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    lines = (tmp_path / "log").read_bytes().split(b"\n")
    assert lines == [b"line 0....", b"line 1....", b"lin", b"line after", b"line later", b""]
    complaint, recovery = done.stderr.decode().splitlines()
    assert complaint.endswith("File too large; lines are being lost")
    assert recovery.endswith("works again; 3 lines were lost")


def test_a_reopened_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "log.1"
    file = open_file(log)
    file.write(b"one\n")
    log.rename(moved)
    file.write(b"two\n")
    file.reopen()
    file.write(b"three\n")
    assert moved.read_bytes() == b"one\ntwo\n"
    assert log.read_bytes() == b"three\n"


def test_a_log_that_cannot_be_reopened_goes_on_in_the_old_file(tmp_path: Path) -> None:
    reports = Reports()
    (tmp_path / "logs").mkdir()
    file = open_file(tmp_path / "logs" / "log", reports)
    (tmp_path / "logs").rename(tmp_path / "gone")
    file.reopen()
    file.write(b"line\n")
    assert (tmp_path / "gone" / "log").read_bytes() == b"line\n"
    assert reports.texts == [
        f"errorlog: cannot reopen '{tmp_path}/logs/log': No such file or directory; the old file stays"
    ]


def test_reopening_leaks_no_descriptor(tmp_path: Path) -> None:
    file = open_file(tmp_path / "log")
    before = open_descriptors()
    for _ in range(5):
        file.reopen()
    assert open_descriptors() == before


def test_a_relative_path_is_of_the_folder_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = open_file("log")
    monkeypatch.chdir("/")
    file.reopen()
    file.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"line\n"


def test_a_closed_destination_writes_into_nobody_elses_file(tmp_path: Path) -> None:
    file = open_file(tmp_path / "log")
    number = file._fd
    file.close()
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    assert other == number
    file.write(b"late\n")
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b""


def test_a_closed_descriptor_has_no_identity(tmp_path: Path) -> None:
    file = open_file(tmp_path / "log")
    status = (tmp_path / "log").stat()
    assert file.identity() == (status.st_dev, status.st_ino)
    file.close()
    assert identity(-1) is None
    assert file.identity() is None


def test_new_files_belong_to_the_user_who_will_reopen_them(tmp_path: Path) -> None:
    me = (os.geteuid(), os.getegid())
    owner = (65534, 65534) if me[0] == 0 else me
    Destination("errorlog", str(tmp_path / "log"), standard=2, report=Reports(), owner=owner)
    status = (tmp_path / "log").stat()
    assert (status.st_uid, status.st_gid) == owner


NOT_ROOT = """
    import os, tempfile
    from prefork.observe.destination import Destination

    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        log = os.path.join(folder, "log")
        Destination("errorlog", log, standard=2, report=print, owner=(1, 1)).write(b"written")
        print(open(log).read())
"""


def test_an_owner_that_cannot_be_given_is_no_error() -> None:
    """Only root may give files away; the workers can still write through the descriptor."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NOT_ROOT)], capture_output=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == (b"written\n", b"")
