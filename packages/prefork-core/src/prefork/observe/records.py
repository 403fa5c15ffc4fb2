# SPDX-License-Identifier: MIT
"""How a record of the error log is written: as text, or as one JSON object per line.

It decides the fields and their names. It knows nothing of where lines go.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from prefork.observe.clock import error_time, iso_time
from prefork.observe.escape import continued, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER: Final = "prefork.error"

Render = Callable[[logging.LogRecord], bytes]

_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {
    "message",
    "asctime",
    "taskName",  # of Python 3.12
}
"""What every record has; other attributes came with `extra=`."""


def note(text: str, level: int = logging.WARNING) -> logging.LogRecord:
    """Return a record of our own, made without a logger and so without its locks.

    Args:
        text: the message.
        level: its level.
    """
    return logging.LogRecord(LOGGER, level, __file__, 0, text, None, None)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - an application's argument may not hide the message
        return f"{text_of(record.msg)} [its arguments do not fit]"


def _exception(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    return record.exc_text or ""


def text_line(record: logging.LogRecord) -> bytes:
    """Return `[time] [pid] [LEVEL] message`, with all further lines indented.

    Args:
        record: a record; its traceback and stack follow the message.
    """
    parts = (_message(record), _exception(record), record.stack_info or "")
    body = continued("\n".join(part for part in parts if part))
    head = f"{error_time(record.created)} [{record.process}] [{record.levelname}]"
    return f"{head} {body}\n".encode("utf-8", "backslashreplace")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {
        "time": iso_time(record.created),
        "level": record.levelname,
        "pid": record.process,
        "logger": record.name,
        "message": _message(record),
    }
    if exception := _exception(record):
        fields["exception"] = exception
    if record.stack_info:
        fields["stack"] = record.stack_info
    for name, value in vars(record).items():
        if name not in _STANDARD:
            fields[f"{name}_" if name in fields else text_of(name)] = value
    return fields


def _json(fields: Mapping[str, object]) -> str:
    import json  # not needed for text logs

    try:
        return json.dumps(fields, default=text_of, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # NaN, keys that are no strings, a circle
        return json.dumps({name: text_of(value) for name, value in fields.items()})


def json_line(record: logging.LogRecord) -> bytes:
    """Return a JSON object: time, level, pid, logger, message, exception, and `extra=` fields.

    An extra field with one of our names gets an underscore at its end.

    Args:
        record: a record.
    """
    return f"{_json(_fields(record))}\n".encode("ascii")


RENDERERS: Final[Mapping[str, Render]] = {"text": text_line, "json": json_line}
"""By the value of the setting `log_format`."""
