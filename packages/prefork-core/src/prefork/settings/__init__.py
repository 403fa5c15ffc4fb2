# SPDX-License-Identifier: MIT
"""Settings: one declarative, typed table, and every source that can give a value.

Pure: it reads configuration files through pathlib, is given the environment and the current
folder, and changes nothing of the process but `sys.path`, for what such a file imports.
"""

from __future__ import annotations

from prefork.settings.cmdline import Command
from prefork.settings.load import Loaded, load
from prefork.settings.origin import Origin, Source
from prefork.settings.schema import Settings

__all__ = ["Command", "Loaded", "Origin", "Settings", "Source", "load"]
