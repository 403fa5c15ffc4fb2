# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.settings.spelling import meant, nearest


def test_the_nearest_name_is_found() -> None:
    assert nearest("wrokers", ["worker_class", "workers", "bind"]) == "workers"


def test_a_name_like_nothing_has_no_nearest() -> None:
    assert nearest("xyz", ["workers", "bind"]) is None
    assert meant("xyz", ["workers", "bind"]) == ""
