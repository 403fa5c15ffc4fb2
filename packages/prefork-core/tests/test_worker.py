# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys

import pytest

from prefork.worker import no_gil


@pytest.mark.parametrize(("has_gil", "is_refused"), [(None, False), (True, False), (False, True)])
def test_who_needs_the_gil_is_refused_without_it_only(
    monkeypatch: pytest.MonkeyPatch, has_gil: bool | None, is_refused: bool
) -> None:
    if has_gil is None:
        monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    else:
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: has_gil, raising=False)
    assert (no_gil("cheese") is not None) == is_refused
