# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.http.known import KEPT, PATIENCE, REST, Known


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


def test_where_nothing_repeats_it_rests_keeps_nothing_and_tries_again() -> None:
    known: Known[int, int] = Known()
    for key in range(PATIENCE):
        assert known.patience > 0
        known.keep(key, key)
    assert len(known) == 0
    for _ in range(REST):
        assert known.patience <= 0
        known.rest()
    assert known.patience == PATIENCE
