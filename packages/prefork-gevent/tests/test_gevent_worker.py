# SPDX-License-Identifier: MIT
"""The class that `-k gevent` names; integration-tests/workers has what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prefork.settings import Settings
from prefork.worker import API_VERSION
from prefork.workers import registry
from prefork_gevent.worker import GeventWorker


def test_it_is_found_by_its_name() -> None:
    found = registry.find("gevent")
    assert found is GeventWorker
    assert found.api == API_VERSION


def test_as_many_requests_are_in_hand_as_connections_may_be_open() -> None:
    assert GeventWorker.at_once(Settings(worker_connections=77)) == 77


def test_it_is_refused_without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GeventWorker.lacks(Settings()) is None
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert "without the GIL, which gevent needs" in str(GeventWorker.lacks(Settings()))


@pytest.mark.parametrize(
    ("version", "is_refused"), [("2.0.2", True), ("3.2.1", True), ("3.2.2", False), ("10.0a1", False)]
)
def test_it_is_refused_with_an_old_greenlet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_refused: bool
) -> None:
    """As other packages ask for, and pip installs."""
    found = tmp_path / f"greenlet-{version}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: greenlet\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    why = f"gevent needs greenlet 3.2.2 or later, and {version} is installed (pip check says for whom)"
    assert GeventWorker.lacks(Settings()) == (why if is_refused else None)


def test_the_arbiter_imports_nothing_of_gevent() -> None:
    """It would patch, or start, what only a worker may."""
    program = "import sys, prefork_gevent.worker; print([name for name in sys.modules if 'greenlet' in name])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
