# SPDX-License-Identifier: MIT
"""Answers of a server as text for a person.

It decides columns, units and words. It is given results as `report` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_LEFT: Final = frozenset({"STATE", "REQUEST", "SETTING", "VALUE", "FROM"})
"""Columns of words; those of numbers are aligned to the right."""


def duration(seconds: float) -> str:
    """Return a time in its two largest units, or in fractions of a second.

    Args:
        seconds: that time.
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = int(seconds)
    parts: list[str] = []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def size(count: int | None) -> str:
    """Return a size in MiB, or a dash when it is not known.

    Args:
        count: bytes.
    """
    return "-" if count is None else f"{count / 1024**2:.1f} MiB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns, whatever bytes the cells hold.

    Args:
        head: the titles; those of `_LEFT` are of words.
        rows: as many cells each.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    aligned = [
        [
            cell.ljust(width) if title in _LEFT else cell.rjust(width)
            for cell, width, title in zip(line, widths, head, strict=True)
        ]
        for line in lines
    ]
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def printable(text: str) -> str:
    """Return a text without what would steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def status(result: Mapping[str, Any]) -> str:
    """Return the result of `status`."""
    workers = result["workers"]
    others = [f"{workers[state]} {state}" for state in workers if state not in {"target", "ready"}]
    lines = [
        ("server", f"prefork {result['version']}, pid {result['pid']}, up {duration(result['uptime'])}"),
        ("mode", f"{result['mode']}, generation {result['generation']}"),
        ("workers", f"{workers['ready']} ready of {workers['target']} ({', '.join(others)})"),
        *(("template", _template(template)) for template in result["templates"]),
        *(("listening", _listening(listening)) for listening in result["listeners"]),
        ("requests", f"{result['requests']} ({result['errors']} errors, {result['shed']} turned away)"),
        ("queue time", _queue_time(result)),
        ("kills", _kills(result)),
    ]
    if any(result["reforks"].values()):
        lines.append(("reforks", f"{result['reforks']['done']} ({result['reforks']['failed']} failed)"))
    if result["rolled_back"]:
        lines.insert(2, ("last reload", f"rolled back: {result['rolled_back']}"))
    if result["upgrade"]:
        lines.insert(2, ("upgrade", result["upgrade"]))
    return "".join(f"{name:<12}{printable(text)}\n" for name, text in lines)


def _template(template: Mapping[str, Any]) -> str:
    requests = template["requests"]
    made = "has loaded the application" if requests is None else f"was a worker for {requests} requests"
    state, age = template["state"], duration(template["age"])
    return f"pid {template['pid']}, generation {template['generation']}, {state}, up {age}; {made}"


def _listening(listening: Mapping[str, Any]) -> str:
    waiting = "queue not known" if listening["waiting"] is None else f"{listening['waiting']} waiting"
    return f"{listening['url']} ({waiting}{', closing' if listening['closing'] else ''})"


def _queue_time(result: Mapping[str, Any]) -> str:
    if result["queue_time"] is None:
        return "not measured"
    return f"{duration(result['queue_time'])} on average ({result['measured']} requests measured)"


def _kills(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} ({reason})" for reason, count in result["kills"].items() if count) or "none"


_WORKERS: Final = (
    "SLOT",
    "PID",
    "GEN",
    "STATE",
    "AGE",
    "BUSY",
    "REQUESTS",
    "ERRORS",
    "CONNS",
    "IDLE",
    "MEMORY",
    "REQUEST",
)


def workers(result: Mapping[str, Any]) -> str:
    """Return the result of `workers`."""
    return table(_WORKERS, [_worker(row) for row in result["workers"]])


def _worker(row: Mapping[str, Any]) -> list[str]:
    first = [str(row["slot"]), str(row["pid"]), str(row["generation"]), row["state"], duration(row["age"])]
    counts = [str(row[name]) for name in ("requests", "errors", "connections", "idle")]
    return [*first, f"{row['busy']}/{row['threads']}", *counts, size(row["memory"]), _in_hand(row)]


def _in_hand(row: Mapping[str, Any]) -> str:
    oldest = row["oldest"]
    if oldest is None:
        return ""
    more = f", {row['busy'] - 1} more" if row["busy"] > 1 else ""
    line = f"{oldest['method']} {oldest['target']}"
    return f"{line} ({oldest['phase']}, {duration(oldest['age'])}{more})"


def settings(result: Mapping[str, Any]) -> str:
    """Return the result of `settings`."""
    rows = [[row["name"], row["text"] or "not set", row["origin"]] for row in result["settings"]]
    return table(("SETTING", "VALUE", "FROM"), rows)


def metrics(result: Mapping[str, Any]) -> str:
    """Return the result of `metrics`."""
    return str(result["text"])


def reload(result: Mapping[str, Any]) -> str:
    """Return the result of `reload`."""
    return f"generation {result['generation']} serves, after {duration(result['took'])}\n"


def upgrade(result: Mapping[str, Any]) -> str:
    """Return the result of `upgrade`."""
    return f"arbiter {result['pid']} serves, after {duration(result['took'])}\n"


def scale(result: Mapping[str, Any]) -> str:
    """Return the result of `scale`."""
    return f"workers: {result['target']} (were {result['was']})\n"


def stop(result: Mapping[str, Any]) -> str:
    """Return the result of `stop`."""
    return f"stopped: exit code {result['exit_code']}\n"


def kill_slot(result: Mapping[str, Any]) -> str:
    """Return the result of `kill-slot`."""
    return (
        f"worker {result['pid']} in slot {result['slot']} is being killed; its stacks are in the error log\n"
    )


def stacks(result: Mapping[str, Any]) -> str:
    """Return the result of `stacks`."""
    return "\n".join(_stack(row) for row in result["workers"])


def _stack(row: Mapping[str, Any]) -> str:
    lines = (
        [row["words"], *row["stacks"].rstrip().split("\n")] if row["stacks"] else [row["words"], "nothing"]
    )
    return "".join(f"{printable(line)}\n" for line in lines)


SHOWN: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "status": status,
    "workers": workers,
    "settings": settings,
    "metrics": metrics,
    "reload": reload,
    "upgrade": upgrade,
    "scale": scale,
    "stop": stop,
    "kill-slot": kill_slot,
    "stacks": stacks,
}
"""By the name of the command."""
