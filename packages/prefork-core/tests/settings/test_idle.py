# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest

from prefork.settings import load
from prefork.settings.idle import IDLE


def warnings_of(folder: Path, *arguments: str) -> tuple[str, ...]:
    return load(["app:app", *arguments], {}, str(folder)).warnings


@pytest.mark.parametrize(
    ("given", "needed", "warning"),
    [
        (
            ["--unix-socket-mode=600"],
            ["--status-bind=unix:status.sock"],
            "flag --unix-socket-mode: unix_socket_mode has no effect: no address is a Unix socket",
        ),
        (
            ["--min-workers=2"],
            ["--max-workers=4"],
            "flag --min-workers: min_workers has no effect: max_workers is 0",
        ),
        (
            ["--max-requests-jitter=5"],
            ["--max-requests=50"],
            "flag --max-requests-jitter: max_requests_jitter has no effect: max_requests is 0",
        ),
        (
            ["--max-worker-lifetime-jitter=5m"],
            ["--max-worker-lifetime=1h"],
            (
                "flag --max-worker-lifetime-jitter: max_worker_lifetime_jitter has no effect:"
                " max_worker_lifetime is 0"
            ),
        ),
        (
            ["--max-worker-memory=300m", "--max-worker-memory-hard=300m"],
            ["--max-worker-memory-hard=400m"],
            (
                "flag --max-worker-memory: max_worker_memory has no effect:"
                " max_worker_memory_hard is not above it"
            ),
        ),
        (
            ["--min-rate=50", "--body-timeout=0", "--write-timeout=0"],
            ["--write-timeout=5"],
            "flag --min-rate: min_rate has no effect: body_timeout and write_timeout are 0",
        ),
        (
            ["--initgroups"],
            ["--user=nobody"],
            "flag --initgroups: initgroups has no effect: neither user nor group is set",
        ),
        (
            ["--preload", "--reload"],
            ["--no-reload"],
            "flag --preload: preload_app has no effect: reload is on",
        ),
        (
            ["--warmup=/"],
            ["--preload"],
            "flag --warmup: warmup has no effect: preload_app is off",
        ),
        (
            ["--refork=50"],
            ["--preload"],
            "flag --refork: refork has no effect: preload_app is off",
        ),
        (
            ["--refork=50", "--preload", "--max-requests=50"],
            ["--max-requests=51"],
            "flag --refork: refork has no effect: max_requests is not above it",
        ),
        (
            ["--capture-output"],
            ["--error-logfile=error.log"],
            "flag --capture-output: capture_output has no effect: errorlog is not a file",
        ),
        (
            ["--access-logformat=%(h)s"],
            ["--access-logfile=-"],
            "flag --access-logformat: access_log_format has no effect: there is no accesslog",
        ),
        (
            ["--statsd-prefix=shop"],
            ["--statsd-host=localhost"],
            "flag --statsd-prefix: statsd_prefix has no effect: there is no statsd_host",
        ),
        (
            ["--dogstatsd-tags=zone:eu"],
            ["--statsd-host=localhost"],
            "flag --dogstatsd-tags: dogstatsd_tags has no effect: there is no statsd_host",
        ),
        (
            ["--reload-extra-file=prices.toml"],
            ["--reload"],
            "flag --reload-extra-file: reload_extra_files has no effect: reload is off",
        ),
    ],
    ids=[row.name for row in IDLE],
)
def test_a_setting_that_another_one_leaves_idle_is_named(
    tmp_path: Path, given: list[str], needed: list[str], warning: str
) -> None:
    assert warnings_of(tmp_path, *given) == (warning,)
    assert warnings_of(tmp_path, *given, *needed) == ()


def test_what_asks_for_nothing_is_not_missed(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, "--max-requests-jitter=0", "--no-capture-output") == ()


def test_the_defaults_are_not_warned_of(tmp_path: Path) -> None:
    assert warnings_of(tmp_path) == ()
    assert warnings_of(tmp_path, "--body-timeout=0", "--write-timeout=0") == ()
