# SPDX-License-Identifier: MIT
from __future__ import annotations

import copy
from typing import Any

import pytest

from prefork.errors import ConfigError
from prefork.observe.logconfig import ACCESS, Table
from prefork.observe.records import LOGGER as ERROR


def table(**keys: Any) -> dict[str, Any]:
    return {"version": 1, **keys}


def handlers(name: str, **more: Any) -> dict[str, Any]:
    return {name: {"handlers": ["console"], **more}}


@pytest.mark.parametrize(("name", "ours"), [("gunicorn.error", ERROR), ("gunicorn.access", ACCESS)])
def test_gunicorns_names_of_loggers_are_ours(name: str, ours: str) -> None:
    read = Table(table(loggers=handlers(name)))
    assert [known for known in (ERROR, ACCESS) if read.takes(known)] == [ours]


@pytest.mark.parametrize(
    ("logger", "takes"),
    [
        ({"handlers": ["console"]}, True),
        ({"level": "DEBUG", "propagate": True}, True),
        ({"level": "DEBUG"}, False),
        ({"handlers": []}, False),
        ({"propagate": False}, False),
        (None, False),
    ],
)
def test_a_logger_is_taken_by_a_table_that_says_where_its_lines_go(logger: Any, takes: bool) -> None:
    assert Table(table(loggers={ERROR: logger})).takes(ERROR) is takes


def test_a_logger_by_both_of_its_names_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'prefork\.error' twice"):
        Table(table(loggers={**handlers("gunicorn.error"), **handlers("prefork.error")}))


def test_loggers_that_are_no_dict_are_an_error() -> None:
    with pytest.raises(ConfigError, match="loggers must be a dict, not list"):
        Table(table(loggers=["gunicorn.error"]))


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        (
            {"formatters": {"f": {"()": "gunicorn.glogging.Formatter"}}},
            r"logconfig_dict\.formatters\.f\.\(\)",
        ),
        ({"formatters": {"f": {"class": "gunicorn.x"}}}, r"logconfig_dict\.formatters\.f\.class"),
        (
            {"handlers": {"h": {"filters": [{"()": "gunicorn"}]}}},
            r"logconfig_dict\.handlers\.h\.filters\[0\]\.\(\)",
        ),
    ],
)
def test_a_class_of_gunicorn_is_an_error_that_says_what_to_use(keys: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError, match=rf"{path} is 'gunicorn.*part of gunicorn") as caught:
        Table(table(**keys))
    assert "log_format" in caught.value.hint


def test_a_class_that_only_begins_like_gunicorn_is_the_users() -> None:
    Table(table(formatters={"f": {"()": "gunicorn_json.Formatter"}}))


def test_the_users_table_is_not_changed() -> None:
    given = table(loggers=handlers("gunicorn.error", qualname="gunicorn.error"))
    before = copy.deepcopy(given)
    Table(given)
    assert given == before


@pytest.mark.parametrize(
    ("keys", "root"),
    [
        ({}, {"level": "INFO", "handlers": ["console"]}),
        ({"handlers": {"console": {}}}, {"level": "INFO", "handlers": ["console"]}),
        ({"root": {"level": "ERROR"}}, {"level": "ERROR"}),
        ({"handlers": {}}, None),
    ],
)
def test_the_applications_loggers_go_to_the_console_as_with_gunicorn(keys: dict[str, Any], root: Any) -> None:
    """Unless the table has another root, or no console."""
    assert Table(table(**keys))._given.get("root") == root
