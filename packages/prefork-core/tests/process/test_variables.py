# SPDX-License-Identifier: MIT
from __future__ import annotations

import os

import pytest

from prefork.process import variables


def test_a_value_may_hold_the_sign_and_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"COLOUR": "red", "KEPT": "yes"})
    variables.take_on(["COLOUR=green", "QUERY=a=b&c=d", "EMPTY="])
    assert os.environ == {"COLOUR": "green", "KEPT": "yes", "QUERY": "a=b&c=d", "EMPTY": ""}
