# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging

import pytest

from prefork.wsgi.errors import ErrorStream


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.got.append(record.getMessage())


def stream() -> tuple[ErrorStream, list[str]]:
    log = logging.Logger("test")  # noqa: LOG001 (not one of the process)
    lines = Lines()
    log.addHandler(lines)
    return ErrorStream(log), lines.got


def test_whole_lines_written_at_once_are_a_record() -> None:
    errors, got = stream()
    errors.write("one\ntwo\nth")
    assert got == ["one\ntwo"]
    errors.write("ree\n")
    assert got == ["one\ntwo", "three"]


def test_a_traceback_of_a_logging_handler_is_a_record() -> None:
    errors, got = stream()
    log = logging.Logger("application")  # noqa: LOG001 (not one of the process)
    log.addHandler(logging.StreamHandler(errors))
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("it failed")
    assert len(got) == 1
    assert got[0].startswith("it failed\nTraceback (most recent call last):\n")
    assert got[0].endswith("\nRuntimeError: boom")


def test_print_can_write_to_it() -> None:
    errors, got = stream()
    print("a", 1, file=errors)
    assert got == ["a 1"]


def test_flush_logs_what_there_is_of_a_line() -> None:
    errors, got = stream()
    errors.write("half")
    errors.flush()
    errors.flush()
    assert got == ["half"]


def test_writelines_joins() -> None:
    errors, got = stream()
    errors.writelines(["a", "b\n", "c\n"])
    assert got == ["ab\nc"]


def test_empty_lines_around_others_are_left_out() -> None:
    errors, got = stream()
    errors.write("\n\na\n\nb\n\n")
    errors.write("\n")
    assert got == ["a\n\nb"]


def test_a_percent_sign_is_text() -> None:
    errors, got = stream()
    errors.write("100 %s\n")
    assert got == ["100 %s"]


def test_bytes_are_refused() -> None:
    errors, _ = stream()
    with pytest.raises(TypeError):
        errors.write(b"bytes")  # type: ignore[arg-type]
