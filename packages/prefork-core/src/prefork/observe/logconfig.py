# SPDX-License-Identifier: MIT
"""What the setting `logconfig_dict` means for our two loggers.

Decides how a table written for gunicorn is read. It knows nothing of our own files.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from prefork.errors import ConfigError
from prefork.observe.records import LOGGER as ERROR

ACCESS: Final = "prefork.access"

ALIASES: Final[Mapping[str, str]] = {
    "gunicorn": "prefork",
    "gunicorn.error": ERROR,
    "gunicorn.access": ACCESS,
}
"""Names of loggers in tables that were written for gunicorn."""

_DEFAULTS: Final[Mapping[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
}
"""What a table need not say: the key is ours if it is missing, as in gunicorn."""

_FACTORY_KEYS: Final = ("class", "()", "factory")


def _copied(value: Any, path: str) -> Any:
    """Return a copy of dicts and lists, which dictConfig may change, and check classes on the way."""
    if isinstance(value, Mapping):
        for key in _FACTORY_KEYS:
            _refuse_gunicorn(value.get(key), f"{path}.{key}")
        return {key: _copied(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def _refuse_gunicorn(factory: Any, path: str) -> None:
    if isinstance(factory, str) and (factory == "gunicorn" or factory.startswith("gunicorn.")):
        raise ConfigError(
            f"{path} is {factory!r}, a part of gunicorn",
            hint="take a class of logging or your own; for JSON leave the table out and set log_format",
        )


def _renamed(loggers: Any) -> dict[str, Any]:
    if not isinstance(loggers, Mapping):
        raise ConfigError(f"logconfig_dict.loggers must be a dict, not {type(loggers).__name__}")
    renamed: dict[str, Any] = {}
    for name, logger in loggers.items():
        ours = ALIASES.get(name, name)
        if ours in renamed:
            raise ConfigError(f"logconfig_dict.loggers has {ours!r} twice, once by gunicorn's name")
        renamed[ours] = logger
    return renamed


def _with_root(table: dict[str, Any]) -> dict[str, Any]:
    """Send the application's own loggers to the console, as gunicorn does with such a table."""
    handlers = table["handlers"]
    if "root" not in table and isinstance(handlers, Mapping) and "console" in handlers:
        table["root"] = {"level": "INFO", "handlers": ["console"]}
    return table


class Table:
    """A checked `logconfig_dict`.

    Args:
        given: the setting's value; it is not changed.

    Raises:
        ConfigError: it names a logger twice, or a class of gunicorn.
    """

    __slots__ = ("_given",)

    def __init__(self, given: Mapping[str, Any]) -> None:
        table = {**_DEFAULTS, **given}
        table["loggers"] = _renamed(table.get("loggers", {}))
        self._given = _with_root(_copied(table, "logconfig_dict"))

    def takes(self, name: str) -> bool:
        """Return whether the table says where the lines of a logger go.

        Args:
            name: `prefork.error` or `prefork.access`.
        """
        logger = self._given["loggers"].get(name)
        return isinstance(logger, Mapping) and bool(logger.get("handlers") or logger.get("propagate"))

    def apply(self) -> None:
        """Configure logging.

        Raises:
            ConfigError: logging cannot be configured so; the reason is in the message.
        """
        import logging.config  # not needed without a table

        try:
            logging.config.dictConfig(_copied(self._given, "logconfig_dict"))
        except Exception as error:  # the load of users' classes: they may raise anything
            causes = [str(error)] + ([str(error.__cause__)] if error.__cause__ else [])
            raise ConfigError(f"logconfig_dict: {': '.join(causes)}") from error

    def files(self) -> tuple[logging.FileHandler, ...]:
        """Return the handlers that are files, of all loggers of the table, for reopening."""
        names = (None, *self._given["loggers"])
        handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
        files = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
        return tuple(dict.fromkeys(files))
