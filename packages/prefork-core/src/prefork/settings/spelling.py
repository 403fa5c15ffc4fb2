# SPDX-License-Identifier: MIT
"""Which known name was meant by an unknown one. It knows no names itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], closeness: float = 0.6) -> str | None:
    """Return the known name that is most like another.

    Args:
        name: the unknown name.
        known: the names to choose from.
        closeness: the least likeness, from 0 (anything) to 1 (equal).

    Returns:
        The name, None if none is like it.
    """
    # Imported here: only mistakes need it.
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1, closeness)), None)


def meant(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" for the nearest known name, an empty text if there is none."""
    found = nearest(name, known)
    return f"did you mean {found}?" if found else ""
