# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from prefork.settings import Settings, load
from prefork.settings.option import Table
from prefork.settings.show import config_text, described

if TYPE_CHECKING:
    from pathlib import Path


def test_every_value_is_shown_with_its_place(tmp_path: Path) -> None:
    lines = config_text(load(["app:app", "-w", "4", "-m", "27"], {"PREFORK_TIMEOUT": "1m"}, str(tmp_path)))
    shown = {" ".join(line.split()) for line in lines.splitlines()}
    assert 'wsgi_app = "app:app" # command line' in shown
    assert "workers = 4 # flag -w" in shown
    assert "umask = 0o027 # flag -m" in shown
    assert "timeout = 60 # env PREFORK_TIMEOUT" in shown
    assert "backlog = 2048 # default" in shown
    assert "# pidfile is not set # default" in shown


def test_every_setting_is_a_row_of_plain_values(tmp_path: Path) -> None:
    loaded = load(["app:app", "-w", "4"], {"PREFORK_UMASK": "27"}, str(tmp_path))
    rows = {row["name"]: row for row in described(loaded.settings, loaded.origins)}
    assert set(rows) == set(Table(Settings))
    workers = {"name": "workers", "section": "Workers", "value": 4, "text": "4", "origin": "flag -w"}
    assert rows["workers"] == workers
    assert (rows["umask"]["text"], rows["umask"]["origin"]) == ("0o027", "env PREFORK_UMASK")
    assert (rows["pidfile"]["value"], rows["pidfile"]["text"]) == (None, "")
    assert json.loads(json.dumps(rows))["secure_scheme_headers"]["value"]["X-FORWARDED-SSL"] == "on"


def test_hooks_are_shown_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "prefork.conf.py").write_text("\ndef on_exit(server): pass\n")
    text = config_text(load(["app:app"], {}, str(tmp_path)))
    assert text.splitlines()[-1].split() == ["#", "on_exit", "#", "prefork.conf.py:2"]


def test_what_is_shown_can_be_used_as_a_configuration_file(tmp_path: Path) -> None:
    arguments = [
        "app:app",
        "-b",
        "a",
        "-b",
        "unix:b",
        "-e",
        'X="\\',
        "--no-sendfile",
        "-t",
        "0.125",
        "-m",
        "27",
    ]
    first = load(arguments, {}, str(tmp_path))
    (tmp_path / "prefork.toml").write_text(config_text(first))
    second = load([], {}, str(tmp_path))
    assert dataclasses.replace(second.settings, config=None) == first.settings
