# SPDX-License-Identifier: MIT
"""Settings that were given, but that have no effect beside the others.

It decides what is said of them. Nothing is refused: such a file serves, only not as its author may think.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.settings.origin import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork.settings.origin import Origin
    from prefork.settings.schema import Settings


class Idle(NamedTuple):
    """A setting that does nothing as long as another one does not ask for it."""

    name: str
    reason: str
    applies: Callable[[Settings], bool]


IDLE: Final = (
    Idle(
        "unix_socket_mode",
        "no address is a Unix socket",
        lambda given: not any(text.startswith("unix:") for text in (*given.bind, *given.status_bind)),
    ),
    Idle("min_workers", "max_workers is 0", lambda given: not given.max_workers),
    Idle("max_requests_jitter", "max_requests is 0", lambda given: not given.max_requests),
    Idle(
        "max_worker_lifetime_jitter",
        "max_worker_lifetime is 0",
        lambda given: not given.max_worker_lifetime,
    ),
    Idle(
        "max_worker_memory",
        "max_worker_memory_hard is not above it",
        lambda given: 0 < given.max_worker_memory_hard <= given.max_worker_memory,
    ),
    Idle(
        "min_rate",
        "body_timeout and write_timeout are 0",
        lambda given: not given.body_timeout and not given.write_timeout,
    ),
    Idle(
        "initgroups",
        "neither user nor group is set",
        lambda given: given.user is None and given.group is None,
    ),
    Idle("preload_app", "reload is on", lambda given: given.reload),
    Idle("warmup", "preload_app is off", lambda given: not given.preload_app),
    Idle("refork", "preload_app is off", lambda given: not given.preload_app),
    Idle(
        "refork",
        "max_requests is not above it",
        lambda given: given.preload_app and 0 < given.max_requests <= given.refork,
    ),
    Idle("capture_output", "errorlog is not a file", lambda given: given.errorlog == "-"),
    Idle(
        "access_log_format",
        "there is no accesslog",
        lambda given: given.accesslog is None and not given.logconfig_dict,
    ),
    Idle("statsd_prefix", "there is no statsd_host", lambda given: given.statsd_host is None),
    Idle("dogstatsd_tags", "there is no statsd_host", lambda given: given.statsd_host is None),
    Idle("reload_extra_files", "reload is off", lambda given: not given.reload),
)


def warnings(settings: Settings, origins: Mapping[str, Origin]) -> list[str]:
    """Return a warning for each setting that the others leave without effect.

    Args:
        settings: the resolved settings.
        origins: where each is from.
    """
    return without_effect({row.name: row.reason for row in IDLE if row.applies(settings)}, settings, origins)


def without_effect(
    reasons: Mapping[str, str], settings: Settings, origins: Mapping[str, Origin]
) -> list[str]:
    """Return a warning for each of some settings that was given.

    Args:
        reasons: names of settings or hooks, and why they have no effect.
        settings: the resolved settings. A value such as 0 asks for nothing, so nothing is missing.
        origins: where each is from.
    """
    given = {name: origin for name, origin in origins.items() if origin.source is not Source.DEFAULT}
    return [
        f"{given[name]}: {name} has no effect: {reason}"
        for name, reason in reasons.items()
        if name in given and getattr(settings, name, True)  # a hook has no value that asks for nothing
    ]
