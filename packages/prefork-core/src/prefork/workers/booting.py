# SPDX-License-Identifier: MIT
"""How the application gets into a process, and what is said when it does not.

It decides the order of steps and which exit code a failure has, the same for a worker and for a
template. Who boots, and what comes before and after, is the caller's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefork import app as applications
from prefork.autoreload import telling
from prefork.errors import AppError, ExitCode, PreforkError
from prefork.process import identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork.autoreload.imported import Imported
    from prefork.observe.log import Logs
    from prefork.settings import Settings
    from prefork.worker import Worker


def load(
    settings: Settings, worker_type: type[Worker], imported: Imported | None = None
) -> Callable[..., Any]:
    """Give up privileges, prepare the process, and load the application.

    Args:
        settings: the resolved settings.
        worker_type: the class that will serve.
        imported: where to say which files are imported; None when nobody watches files.

    Returns:
        The application.

    Raises:
        PreforkError: one of them failed.
    """
    identity.drop_privileges(settings.user, settings.group, initgroups=settings.initgroups)
    applications.search_in(settings.pythonpath)  # an option may name a function of the application
    worker_type.prepare(settings)
    loader = partial(
        applications.load, settings.wsgi_app or "", settings.pythonpath, applications.judge(worker_type)
    )
    return loader() if imported is None else telling.load(loader, imported)


def failed(error: Exception | SystemExit, logs: Logs, who: str) -> int:
    """Log why a process could not boot.

    Args:
        error: what was raised.
        logs: both logs.
        who: "worker" or "template".

    Returns:
        The exit status.
    """
    log = logs.error
    if isinstance(error, SystemExit):
        log.error("the application called sys.exit(%r) while it was loaded", error.code)
    elif isinstance(error, AppError):
        log.error("%s", error)
        return error.exit_code
    elif isinstance(error, PreforkError):
        log.error("%s", error, exc_info=error.__cause__)
    else:
        log.error("the %s could not boot", who, exc_info=error)
    return ExitCode.BOOT
