# SPDX-License-Identifier: MIT
"""What was worked out before and is asked for again, within bounds.

Clients ask for the same targets, and applications send the same heads. Who looks here first has to make sure
that the key has all that the answer depends on. Where nothing ever repeats it gives up, so that a look which
is always in vain is not paid for each time.
"""

from __future__ import annotations

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEPT: Final = 512
"""Most answers that are kept; at one more all are forgotten."""

PATIENCE: Final = 2 * KEPT
"""Looks in vain in a row after which nobody needs to look any more."""


class Known(dict[K, V]):
    """Answers by what was asked.

    Attributes:
        patience: how many more looks may be in vain, 0 when looking is not worth while. Who finds something
            sets it to `PATIENCE`.
    """

    __slots__ = ("patience",)

    def __init__(self) -> None:
        super().__init__()
        self.patience = PATIENCE

    def keep(self, key: K, answer: V) -> None:
        """Note an answer that was looked for in vain.

        Args:
            key: what was asked.
            answer: the answer, which nobody changes from now on.
        """
        self.patience = max(self.patience - 1, 0)
        if not self.patience or len(self) >= KEPT:
            self.clear()
        if self.patience:
            self[key] = answer
