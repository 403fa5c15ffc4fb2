# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.observe.records import RENDERERS, json_line, note, text_line


def record(
    message: Any = "hello", *args: Any, extra: dict[Any, Any] | None = None, **more: Any
) -> logging.LogRecord:
    made = logging.LogRecord("prefork.error", logging.INFO, "x.py", 1, message, args, more.get("exc_info"))
    vars(made).update(extra or {})
    return made


def failed(error: Exception) -> Any:
    try:
        raise error
    except Exception:  # noqa: BLE001
        return sys.exc_info()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def read(made: logging.LogRecord) -> dict[str, Any]:
    line = json_line(made)
    assert line.count(b"\n") == 1
    value: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return value


def test_a_text_line_is_as_gunicorns() -> None:
    line = text_line(record("%s is up", "all")).decode()
    match = re.fullmatch(
        r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(\d+)\] \[INFO\] all is up\n", line
    )
    assert match
    assert int(match[2]) == os.getpid()


def test_a_traceback_follows_indented() -> None:
    line = text_line(record("it failed", exc_info=failed(ValueError("one\ntwo")))).decode()
    first, *others = line.splitlines()
    assert first.endswith("it failed")
    assert others[0] == "  Traceback (most recent call last):"
    assert others[-2:] == ["  ValueError: one", "  two"]


@given(st.text(), st.text())
def test_no_message_and_no_exception_can_look_like_a_second_record(message: str, error: str) -> None:
    text = text_line(record("%s", message, exc_info=failed(ValueError(error)))).decode("utf-8")
    assert len(re.findall(r"^\S", text, re.MULTILINE)) == 1
    assert text.endswith("\n")


@given(st.text(), st.text(), st.dictionaries(st.text(min_size=1), st.text() | st.floats() | st.none()))
def test_a_json_record_is_one_line_that_reads_back(message: str, error: str, extra: dict[str, Any]) -> None:
    known = vars(note("")).keys() | {"message", "asctime", "taskName"}
    extra = {f"x{name}": value for name, value in extra.items() if f"x{name}" not in known}
    value = read(record("%s", message, extra=extra, exc_info=failed(ValueError(error))))
    assert value["message"] == message
    assert value["exception"].endswith(f"ValueError: {error}".rstrip("\n")) or not error.strip()
    assert extra.keys() <= value.keys()


def test_a_json_record_has_time_level_pid_logger_and_message() -> None:
    value = read(record())
    assert list(value) == ["time", "level", "pid", "logger", "message"]
    assert datetime.fromisoformat(value["time"]).tzinfo
    assert re.search(r"\.\d{3}[+-]", value["time"])
    assert (value["level"], value["pid"], value["logger"]) == ("INFO", os.getpid(), "prefork.error")


def test_extra_fields_keep_their_types() -> None:
    value = read(record(extra={"worker": 3, "ready": True, "phase": None, "tags": ["a"]}))
    assert (value["worker"], value["ready"], value["phase"], value["tags"]) == (3, True, None, ["a"])


def test_an_extra_field_cannot_take_the_place_of_ours() -> None:
    value = read(record(extra={"time": "never", "level": "FORGED"}))
    assert (value["level"], value["level_"], value["time_"]) == ("INFO", "FORGED", "never")


def test_json_has_no_nan() -> None:
    assert read(record(extra={"ratio": float("nan")}))["ratio"] == "nan"


def test_extra_fields_that_json_does_not_know_are_texts() -> None:
    circle: list[Any] = []
    circle.append(circle)
    value = read(record(extra={"error": ValueError("x"), "circle": circle, "keys": {(1, 2): 3}, 7: 8}))
    assert (value["error"], value["circle"], value["keys"], value["7"]) == (
        "x",
        "[[...]]",
        "{(1, 2): 3}",
        "8",
    )


def test_a_stack_is_part_of_the_record() -> None:
    made = record()
    made.stack_info = "Stack (most recent call last):\n  here"
    assert text_line(made).endswith(b"\n  Stack (most recent call last):\n    here\n")
    assert read(made)["stack"] == made.stack_info


@pytest.mark.parametrize("render", RENDERERS.values())
def test_arguments_that_do_not_fit_do_not_hide_the_message(render: Any) -> None:
    assert b"count is %d [its arguments do not fit]" in render(record("count is %d", "many"))
    assert b"value is %s [its arguments do not fit]" in render(record("value is %s", Unprintable()))
    assert b"that cannot be shown" in render(record(Unprintable()))


def test_a_lone_surrogate_does_not_lose_the_record() -> None:
    assert text_line(record("\udc80")).endswith(b"\\udc80\n")


def test_a_note_is_a_warning_of_the_error_log() -> None:
    made = note("told")
    assert (made.name, made.levelname, made.getMessage()) == ("prefork.error", "WARNING", "told")
