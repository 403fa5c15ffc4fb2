# SPDX-License-Identifier: MIT
"""What becomes of the log records of Tornado and asyncio, if the application does not say it itself."""

from __future__ import annotations

import logging
from typing import Final

_RELAYED: Final = ("tornado.application", "tornado.general", "asyncio")


class _Relay(logging.Handler):
    """Hands records to the error log, unless the application has a log of its own.

    Args:
        log: the error log.
    """

    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """See logging."""
        if not logging.getLogger().handlers and self._log.isEnabledFor(record.levelno):
            self._log.handle(record)


def relay(log: logging.Logger) -> None:
    """Have prefork's logs take what Tornado's loggers would take.

    Args:
        log: the error log.
    """
    for name in _RELAYED:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(_Relay(log))
    # Each request has its line in the access log. Who wants Tornado's as well gives this logger a handler.
    access = logging.getLogger("tornado.access")
    if not access.handlers:
        access.addHandler(logging.NullHandler())
        access.propagate = False
