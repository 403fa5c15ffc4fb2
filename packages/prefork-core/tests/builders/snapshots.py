# SPDX-License-Identifier: MIT
"""Facts about a server that never ran."""

from __future__ import annotations

from typing import Any

from prefork.control.report import InHand, Listening, Seat, Snapshot, Totals


def seat(slot: int = 0, **other: Any) -> Seat:
    """Return a slot whose worker is ready and idle, but for what is given."""
    facts: dict[str, Any] = {
        "pid": 1000 + slot,
        "generation": 1,
        "state": "ready",
        "age": 61.0,
        "threads": 4,
        "busy": 0,
        "requests": 10,
        "errors": 1,
        "connections": 3,
        "idle": 2,
        "oldest": None,
    }
    return Seat(slot, **{**facts, **other})


def in_hand(target: str = "/slow", age: float = 2.5) -> InHand:
    """Return a request in the application."""
    return InHand("GET", target, age, "application")


def snapshot(*seats: Seat, **other: Any) -> Snapshot:
    """Return a server with these slots in use, but for what is given."""
    facts: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 999,
        "started": 1_700_000_000.0,
        "uptime": 3700.0,
        "mode": "running",
        "generation": 1,
        "target": len(seats),
        "rolled_back": "",
        "upgrade": "",
        "seats": seats,
        "listeners": (Listening("http://127.0.0.1:8000", 3, closing=False),),
        "totals": Totals(100, 2, 1, 0.5, 10),
        "kills": {"timeout": 2, "memory": 0, "operator": 1},
    }
    return Snapshot(**{**facts, **other})
