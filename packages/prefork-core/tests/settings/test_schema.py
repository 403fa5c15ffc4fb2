# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from prefork.settings import Settings
from prefork.settings.option import Option, Table

_OPTIONS = list(Table(Settings).values())


@pytest.mark.parametrize("declared", _OPTIONS, ids=lambda option: option.name)
def test_every_default_is_a_value_of_its_own_kind(declared: Option) -> None:
    assert declared.kind.read(declared.default) == declared.default


@pytest.mark.parametrize("declared", _OPTIONS, ids=lambda option: option.name)
def test_every_setting_is_explained_in_sentences(declared: Option) -> None:
    assert declared.help.endswith(".")
    assert declared.gunicorn == "" or declared.gunicorn.endswith((".", ")"))


def test_settings_are_frozen_and_can_be_replaced() -> None:
    settings: Any = dataclasses.replace(Settings(), workers=2)
    assert settings.workers == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.workers = 3
