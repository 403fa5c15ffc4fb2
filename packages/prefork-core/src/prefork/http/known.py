# SPDX-License-Identifier: MIT
"""What was worked out before and is asked for again, within bounds.

Clients ask for the same targets, and applications send the same heads. Who looks here first has to make sure
that the key has all that the answer depends on. A look in vain is paid for: so where they are the more it
rests, and tries again later.
"""

from __future__ import annotations

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

KEPT: Final = 512
"""Most answers that are kept; at one more all are forgotten."""

PATIENCE: Final = 2 * KEPT
"""How many more looks may be in vain than not, before it rests."""

REST: Final = 64 * PATIENCE
"""Questions that are not looked for then."""


class Known(dict[K, V]):
    """Answers by what was asked.

    Whoever asks looks while `patience` is above 0, and calls `rest` otherwise. What was found raises
    `patience` by one, up to `PATIENCE`; what was not is told to `keep`.

    Attributes:
        patience: how many more looks may be in vain; below 0, how many questions it rests for.
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
        self.patience -= 1
        if not self.patience:
            self.patience = -REST
            self.clear()
        else:
            if len(self) >= KEPT:
                self.clear()
            self[key] = answer

    def rest(self) -> None:
        """Note a question that was not looked for."""
        self.patience = self.patience + 1 or PATIENCE
