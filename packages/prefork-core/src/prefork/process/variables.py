# SPDX-License-Identifier: MIT
"""The environment variables that the settings have for the application.

It decides how they are read. Who loads the application takes them on first; the arbiter never does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def take_on(pairs: Iterable[str]) -> None:
    """Set variables of this process.

    Args:
        pairs: NAME=VALUE each, as in raw_env; what is behind the first sign is the value.
    """
    for pair in pairs:
        name, _, value = pair.partition("=")
        os.environ[name] = value
