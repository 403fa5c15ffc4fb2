# SPDX-License-Identifier: MIT
"""Settings: one declarative, typed table, and every source that can give a value.

Pure: reads configuration files through pathlib, is given the environment and the current
folder, and never touches the process.
"""

from __future__ import annotations

from prefork.settings.schema import Settings

__all__ = ["Settings"]
