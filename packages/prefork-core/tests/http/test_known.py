# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.http.known import KEPT, PATIENCE, Known


def test_what_is_kept_is_found() -> None:
    known: Known[str, int] = Known()
    known.keep("a", 1)
    assert known.get("a") == 1
    assert known.get("b") is None


def test_it_stays_bounded() -> None:
    known: Known[int, int] = Known()
    for key in range(3 * KEPT):
        known.patience = PATIENCE  # as if something else were found all the time
        known.keep(key, key)
        assert len(known) <= KEPT
    assert known.get(3 * KEPT - 1) is not None


def test_it_gives_up_where_nothing_repeats_and_keeps_nothing_then() -> None:
    known: Known[int, int] = Known()
    for key in range(PATIENCE):
        assert known.patience
        known.keep(key, key)
    assert known.patience == 0
    assert len(known) == 0
    known.keep(0, 0)
    assert known.patience == 0
    assert len(known) == 0


def test_it_does_not_give_up_while_something_repeats_now_and_then() -> None:
    known: Known[int, int] = Known()
    for key in range(4 * PATIENCE):
        known.keep(key, key)
        if key % KEPT == 0:
            known.patience = PATIENCE
    assert known.patience
