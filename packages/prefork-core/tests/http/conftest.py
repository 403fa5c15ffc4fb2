# SPDX-License-Identifier: MIT
"""Lets the tests of the HTTP core share their builders: without packages, a folder is found by path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
