# SPDX-License-Identifier: MIT
"""The one tree of errors.

An error knows what it means to the outside: the HTTP status to answer, or the exit code
of the process, and a hint that says what to do. It knows nothing of how it is shown.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `prefork` command, gunicorn's where the meaning is the same."""

    OK = 0
    """Stopped on request."""
    CONFIG = 1
    """A setting, a listener, the pidfile or the worker class is wrong."""
    USAGE = 2
    """The command line cannot be understood."""
    BOOT = 3
    """The first generation of workers could not boot: the application raised."""
    APP = 4
    """The application named on the command line does not exist or is not callable."""
    CRASH = 70
    """An error inside prefork itself (EX_SOFTWARE of sysexits.h)."""


class PreforkError(Exception):
    """Anything prefork raises on purpose.

    Args:
        message: what is wrong, in one sentence.
        hint: what to do about it; shown on a line of its own, empty for none.
    """

    exit_code: ExitCode = ExitCode.CRASH

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(PreforkError):
    """A setting, listener, pidfile, user or worker class cannot be used."""

    exit_code = ExitCode.CONFIG


class UsageError(PreforkError):
    """The command line cannot be understood."""

    exit_code = ExitCode.USAGE


class BootError(PreforkError):
    """A worker could not boot."""

    exit_code = ExitCode.BOOT


class AppError(PreforkError):
    """The named application does not exist or cannot be called."""

    exit_code = ExitCode.APP


class ProtocolError(PreforkError):
    """The peer sent what RFC 9110 or RFC 9112 lets a server refuse.

    The connection is always closed after the answer, because the place where the next
    request would start is not known any more.

    Args:
        message: what was wrong. Never holds bytes of the peer, so that it can be logged.
        status: the status code to answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ClientDisconnected(ConnectionError):
    """The client went away, stalled, or broke its body in mid-request.

    It is an OSError because that is what frameworks expect of a failing `wsgi.input`
    (Django's UnreadablePostError, Werkzeug's ClientDisconnected).

    Args:
        message: what happened.
        status: the status to answer when nothing was sent yet; 0 when nobody is there.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ClientStalled(ClientDisconnected):
    """The client is there, but sends or takes less than the limits of time and pace allow."""
