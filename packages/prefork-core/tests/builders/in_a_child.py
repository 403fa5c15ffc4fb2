# SPDX-License-Identifier: MIT
"""Checks that change the process they run in, and so have one of their own."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def passes_in_a_child(check: Callable[[], object]) -> bool:
    """Run a check in a child; return whether it has raised nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:  # noqa: BLE001 -- told by the exit status
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
