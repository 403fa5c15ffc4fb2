# SPDX-License-Identifier: MIT
"""The two logs of a process: opened once in the arbiter, used by all its children.

Decides what is opened for which settings, who is told when a log cannot be written, and
what a reopen (USR1) covers. It must not know of workers, requests or signals.

The pid in a line is that of the process that writes it. Nothing here holds a lock or a
buffer of its own, so a fork may happen at any moment; logging's own locks are made anew in
the child by CPython.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from prefork.errors import ConfigError
from prefork.observe import access, destination
from prefork.observe.destination import Destination
from prefork.observe.logconfig import ACCESS, Table
from prefork.observe.records import LOGGER as ERROR
from prefork.observe.records import RENDERERS, note
from prefork.observe.statsd import CountingAccessLog, CountingHandler, Statsd
from prefork.settings.schema import DEFAULT_ACCESS_FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork.observe.access import AccessLog
    from prefork.observe.records import Render
    from prefork.settings import Settings

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_STDOUT: Final = 1
_STDERR: Final = 2


def level_of(name: str) -> int:
    """Return logging's number of a level.

    Args:
        name: one of `LEVELS`, in any case.

    Raises:
        ConfigError: there is no such level; names the nearest.
    """
    level = LEVELS.get(name.lower())
    if level is not None:
        return level
    from difflib import get_close_matches  # only for the message

    nearest = get_close_matches(name.lower(), LEVELS, n=1, cutoff=0.0)[0]
    hint = f"did you mean {nearest}? The levels are {', '.join(LEVELS)}"
    raise ConfigError(f"loglevel: there is no level {name!r}", hint=hint)


class _Handler(logging.Handler):
    """Carries records of `prefork.error` to a destination."""

    def __init__(self, render: Render, to: Destination) -> None:
        super().__init__()
        self._render = render
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        self._to.write(self._render(record))


class _Complaints:
    """Tells of a log that fails: in the error log and on stderr, where they are others.

    Args:
        render: how the error log writes records.
    """

    __slots__ = ("_render", "error")

    def __init__(self, render: Render) -> None:
        self._render = render
        self.error: Destination | None = None

    def __call__(self, about: Destination, text: str) -> None:
        line = self._render(note(text))
        told = {about.identity()} if about.failing else set()
        if self.error is not None and self.error.identity() not in told:
            told.add(self.error.identity())
            self.error.write(line)
        stderr = destination.identity(_STDERR)
        if stderr is not None and stderr not in told and destination.writable(_STDERR, 0.0):
            with contextlib.suppress(OSError):  # nobody is left to tell
                destination.write_now(_STDERR, line)


def _reopen_handler(handler: logging.FileHandler) -> OSError | None:
    """Put a user's log file anew under its handler, without the lock and the stream's buffer."""
    if handler.stream is None:  # opens at its first line
        return None
    try:
        new = os.open(handler.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, destination.MODE)
    except OSError as error:
        return error
    os.dup2(new, handler.stream.fileno(), inheritable=False)
    os.close(new)
    return None


class Logs:
    """The open logs. Make one with `open_logs`.

    Attributes:
        error: the logger `prefork.error`.
        access: the access log, None if there is none and nothing is counted.
        statsd: where things are counted, None if nowhere.
    """

    __slots__ = (
        "_complaints",
        "_counter",
        "_error_file",
        "_files",
        "_handler",
        "_level",
        "_table",
        "_table_files",
        "access",
        "error",
        "statsd",
    )

    def __init__(
        self,
        *,
        level: int,
        handler: logging.Handler,
        error_file: Destination,
        access: AccessLog | None,
        access_file: Destination | None,
        table: Table | None,
        complaints: _Complaints,
        statsd: Statsd | None = None,
    ) -> None:
        self.error = logging.getLogger(ERROR)
        self.access = access if statsd is None else CountingAccessLog(statsd, access)
        self.statsd = statsd
        self._counter = None if statsd is None else CountingHandler(statsd)
        self._level = level
        self._handler = handler
        self._error_file = error_file
        # The error log first, so that trouble with the other is told to where it belongs.
        self._files = (error_file,) if access_file is None else (error_file, access_file)
        self._table = table
        self._table_files: Sequence[logging.FileHandler] = ()
        self._complaints = complaints

    def install(self) -> None:
        """Make these the logs of the process, in place of others that were.

        `open_logs` has done so. It is for a reload that is rolled back while the former
        logs are still open.

        Raises:
            ConfigError: `logconfig_dict` cannot be applied; the loggers are as before.
        """
        loggers = self.error, logging.getLogger(ACCESS)
        before = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
        try:
            self._configure()
        except ConfigError:
            for logger, level, propagate, handlers in before:
                _set(logger, level, handlers)
                logger.propagate, logger.disabled = propagate, False
            raise

    def _configure(self) -> None:
        self._configure_handlers()
        if self._counter is not None:
            self.error.addHandler(self._counter)

    def _configure_handlers(self) -> None:
        for name, level in ((ERROR, self._level), (ACCESS, logging.INFO)):
            logger = logging.getLogger(name)
            logger.propagate = False
            _set(logger, level, [self._handler] if name == ERROR else [])
        if self._table is None:
            return
        self._table.apply()
        self._table_files = self._table.files()
        for name in (ERROR, ACCESS):
            logging.getLogger(name).disabled = False  # disable_existing_loggers is not meant for us
        if not self._table.takes(ERROR):
            _set(self.error, self.error.level, [self._handler])

    def reopen(self) -> None:
        """Open the log files anew, after something has moved them away (USR1).

        May run in a signal handler of the main thread: takes no lock. Covers the files of
        `FileHandler`s of `logconfig_dict`. A file that cannot be opened stays the old one,
        and the reason is told in the error log and on stderr.
        """
        for file in self._files:
            file.reopen()
        for handler in self._table_files:
            if error := _reopen_handler(handler):
                text = f"logconfig_dict: cannot reopen {handler.baseFilename!r}: {error.strerror}"
                self._complaints(self._error_file, text)

    def error_fileno(self) -> int:
        """Return the descriptor of the error log, for what is written by C code in a dying process."""
        return self._error_file.fileno()

    def capture_output(self) -> bool:
        """Send stdout and stderr of this process to the error log, from here on.

        To be called in the worker when the setting `capture_output` is on, after the fork
        and before the application is imported.

        Returns:
            Whether it was done; not if errorlog is "-" or no regular file.
        """
        streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
        for stream in streams:
            with contextlib.suppress(OSError):  # its old end is gone; what comes goes to the log
                stream.flush()
        if not self._error_file.capture((_STDOUT, _STDERR)):
            return False
        for stream in streams:
            stream.reconfigure(line_buffering=True)  # a print is to be in the log when it is made
        return True

    def close(self) -> None:
        """Close the files. Other logs that were installed since are left alone."""
        self.error.removeHandler(self._handler)
        if self._counter is not None and self.statsd is not None:
            self.error.removeHandler(self._counter)
            self.statsd.close()
        for file in reversed(self._files):
            file.close()


def _set(logger: logging.Logger, level: int, handlers: Sequence[logging.Handler]) -> None:
    logger.setLevel(level)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    for handler in handlers:
        logger.addHandler(handler)


def _access_render(settings: Settings) -> tuple[access.Render, bool]:
    """Return what writes the lines of the access log, and whether they show the time in the queue."""
    layout: str | None = settings.access_log_format
    if settings.log_format == "json":
        layout = None if layout == DEFAULT_ACCESS_FORMAT else layout
        return access.compile_json(layout), access.shows_queue(layout)
    return access.compile_text(settings.access_log_format), access.shows_queue(layout)


def _open_statsd(settings: Settings) -> Statsd | None:
    if settings.statsd_host is None:
        return None
    return Statsd(settings.statsd_host, settings.statsd_prefix or "", settings.dogstatsd_tags or "")


def open_logs(settings: Settings, owner: tuple[int, int] | None = None) -> Logs:
    """Open the logs and make them the ones of this process.

    To be called after the process has become a daemon and changed its folder. Lines of the
    access log go to the logger `prefork.access` instead of `accesslog` when
    `logconfig_dict` gives it handlers; that costs several times as much per request.

    Args:
        settings: loglevel, log_format, errorlog, accesslog, access_log_format, logconfig_dict and those
            about statsd are read.
        owner: (uid, gid) that workers will have, so that they can reopen the files.

    Raises:
        ConfigError: a level, format, file or table that cannot be used. Logs that were
            open before are still in use.
    """
    level = level_of(settings.loglevel)
    render = RENDERERS[settings.log_format]
    access_render, shows_queue = _access_render(settings)
    table = None if not settings.logconfig_dict else Table(settings.logconfig_dict)
    complaints = _Complaints(render)
    error_file = Destination("errorlog", settings.errorlog, standard=_STDERR, report=complaints, owner=owner)
    complaints.error = error_file
    access_file: Destination | None = None
    access_log: AccessLog | None = None
    statsd: Statsd | None = None
    try:
        statsd = _open_statsd(settings)
        if table is not None and table.takes(ACCESS):
            access_log = access.LoggerAccessLog(
                access_render, logging.getLogger(ACCESS), lambda text: complaints(error_file, text)
            )
        elif settings.accesslog is not None:
            access_file = Destination(
                "accesslog", settings.accesslog, standard=_STDOUT, report=complaints, owner=owner
            )
            access_log = access.DirectAccessLog(access_render, access_file, shows_queue=shows_queue)
        logs = Logs(
            level=level,
            handler=_Handler(render, error_file),
            error_file=error_file,
            access=access_log,
            access_file=access_file,
            table=table,
            complaints=complaints,
            statsd=statsd,
        )
        logs.install()
    except ConfigError:
        for file in (access_file, error_file, statsd):
            if file is not None:
                file.close()
        raise
    return logs
