# SPDX-License-Identifier: MIT
"""The sync worker's loop with connections kept open, to measure the loop as threads will drive it.

It is not a worker to serve with: one slow request in it holds up every connection of the process.
"""

from __future__ import annotations

from prefork.workers.sync import SyncWorker


class KeepAliveSync(SyncWorker):
    """One request at a time, connections stay open."""

    keepalive = 75.0
