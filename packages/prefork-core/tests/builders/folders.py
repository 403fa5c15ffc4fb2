# SPDX-License-Identifier: MIT
"""Folders for tests that become somebody else. Those of pytest are closed to others."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, and that is gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
