# SPDX-License-Identifier: MIT
"""A pre-fork application server for Python."""

from __future__ import annotations

__version__ = "0.1.0"
