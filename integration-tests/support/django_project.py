# SPDX-License-Identifier: MIT
"""The Django project of frameworks/applications, made ready to be served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from prefork.testing.server import clean_environ

APPLICATIONS: Final = Path(__file__).parents[1] / "frameworks" / "applications"


def prepare(folder: Path) -> None:
    """Do in a folder what a deployment does before it serves: tables, an administrator, static files."""
    subprocess.run(
        [sys.executable, "-m", "django_shop.manage"],
        cwd=APPLICATIONS,
        env=clean_environ(SHOP_FOLDER=str(folder)),
        check=True,
        timeout=60,
    )
