# SPDX-License-Identifier: MIT
"""Settings from environment variables: PREFORK_* and the few that platforms set.

It decides which variables are settings, not what their values mean.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prefork.settings.option import ENVIRONMENT_PREFIX
from prefork.settings.origin import Given, Origin, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prefork.settings.option import Table

CMD_ARGS: Final = "PREFORK_CMD_ARGS"

PLATFORM: Final = (
    ("WEB_CONCURRENCY", "workers", "{}"),
    ("PORT", "bind", "0.0.0.0:{}"),
    ("FORWARDED_ALLOW_IPS", "forwarded_allow_ips", "{}"),
)
"""Variables that platforms set: the variable, the setting whose default it changes, the value."""

# Kubernetes gives every pod such variables for each service, and one may well be named prefork.
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_(?:HOST|PORT(?:_.+)?)$|_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_.+)?)$"
)


def platform(table: Table, environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield what the variables of platforms give; an empty variable gives nothing."""
    for variable, name, form in PLATFORM:
        if name in table and environ.get(variable):
            yield Given(name, form.format(environ[variable]), Origin(Source.PLATFORM, f"env {variable}"))


def prefixed(environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield what the PREFORK_* variables give, unknown names included."""
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CMD_ARGS or _is_link(variable, text):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        yield Given(name, text, Origin(Source.ENVIRONMENT, f"env {variable}"))


def unread(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about variables of gunicorn's that nothing reads."""
    if environ.get("GUNICORN_CMD_ARGS"):
        yield f"GUNICORN_CMD_ARGS is not read: use {CMD_ARGS}"


def _is_link(variable: str, text: str) -> bool:
    return bool(_SERVICE_LINK.search(variable)) or (variable.endswith("_PORT") and "://" in text)
