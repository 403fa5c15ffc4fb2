# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.testing.waiting import until


def test_what_becomes_true_is_returned() -> None:
    found = iter([0, 0, 3])
    assert until(lambda: next(found), "a number") == 3


def test_what_does_not_become_true_is_named() -> None:
    with pytest.raises(AssertionError, match=r"waited 0\.01 s, but never: a miracle"):
        until(lambda: False, "a miracle", timeout=0.01)
