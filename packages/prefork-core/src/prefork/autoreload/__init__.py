# SPDX-License-Identifier: MIT
"""Watching the application's files, for development: which they are, and a process that watches them.

It decides what a change is. It knows nothing of the arbiter, which is told, nor of what a reload does.
"""

from __future__ import annotations

from prefork.errors import ConfigError


def check_installed() -> None:
    """See that files can be watched, without importing what watches them.

    Raises:
        ConfigError: watchfiles is not installed.
    """
    from importlib.util import find_spec

    if find_spec("watchfiles") is None:
        raise ConfigError(
            "reload needs the package watchfiles, which is not installed",
            hint="pip install 'prefork-core[reload]'",
        )
