# SPDX-License-Identifier: MIT
"""`wsgi.errors`: a text stream whose lines go to the error log.

What is written at once is one record: a logging handler of the application, such as Flask's, writes a message
and its traceback so, and whoever collects records has the two together.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable


class ErrorStream:
    """A text stream in front of a logger (PEP 3333, "Input and Error Streams").

    Args:
        log: gets whole lines at level ERROR.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._line = ""
        # Two threads with parts of lines would lose one. A signal handler may come in between, too.
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Add text; whole lines are logged, as one record."""
        with self._lock:
            whole, _, self._line = (self._line + text).rpartition("\n")
        if lines := whole.strip("\n"):
            self._log.error("%s", lines)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Add several pieces of text."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Log what there is of a line."""
        if self._line:
            self.write("\n")
