# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import UsageError
from prefork.settings import Command, Settings
from prefork.settings.cmdline import CommandLine, help_text, parse
from prefork.settings.option import Table
from prefork.settings.origin import Source


def read(*arguments: str, source: Source = Source.COMMAND_LINE) -> CommandLine:
    return parse(Table(Settings), arguments, source)


def values(*arguments: str) -> dict[str, object]:
    return {item.name: item.value for item in read(*arguments).given}


@pytest.mark.parametrize(
    "arguments", [["-w4"], ["-w", "4"], ["-w=4"], ["--workers", "4"], ["--workers=4"], ["-w", "2", "-w", "4"]]
)
def test_a_flag_has_its_value_joined_or_apart_and_the_last_one_counts(arguments: list[str]) -> None:
    assert values(*arguments) == {"workers": "4"}


def test_short_switches_can_be_joined() -> None:
    assert values("-Dw4") == {"daemon": True, "workers": "4"}


def test_a_repeated_flag_of_a_list_adds_to_it() -> None:
    assert values("-b", "a", "app:app", "--bind=b") == {"bind": ["a", "b"], "wsgi_app": "app:app"}


def test_switches_turn_on_and_off() -> None:
    assert values("--no-sendfile", "--daemon") == {"sendfile": False, "daemon": True}


def test_a_dash_is_a_value() -> None:
    assert values("--error-logfile", "-", "--access-logfile=-") == {"errorlog": "-", "accesslog": "-"}


def test_a_value_may_start_with_a_dash() -> None:
    assert values("-e", "-X=1") == {"raw_env": ["-X=1"]}


def test_after_two_dashes_comes_the_application() -> None:
    assert values("--daemon", "--", "app:app") == {"daemon": True, "wsgi_app": "app:app"}


def test_both_spellings_of_the_field_size_flag_are_read() -> None:
    assert values("--limit-request-field_size", "1") == values("--limit-request-field-size", "1")


def test_the_place_of_a_value_is_its_flag() -> None:
    given = {item.name: str(item.origin) for item in read("-w4", "--timeout=3", "app:app").given}
    assert given == {"workers": "flag -w", "timeout": "flag --timeout", "wsgi_app": "command line"}


def test_the_place_of_a_value_in_prefork_cmd_args_says_so() -> None:
    (item,) = read("--workers=4", source=Source.CMD_ARGS).given
    assert str(item.origin) == "PREFORK_CMD_ARGS flag --workers"


def test_flags_that_only_gunicorn_has_take_their_value_with_them() -> None:
    assert values("--worker-tmp-dir", "/dev/shm", "--reuse-port", "app:app") == {
        "worker_tmp_dir": "/dev/shm",
        "reuse_port": True,
        "wsgi_app": "app:app",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--wrokers", "4"], r"no flag --wrokers\n  hint: did you mean --workers\?"),
        (["--worker", "4"], r"no flag --worker\n  hint: did you mean --workers\?"),
        (["-W4"], "no flag -W"),
        (["--workers"], "--workers needs a value"),
        (["--pid", "--daemon"], "--pid needs a value"),
        (["--daemon=yes"], "--daemon takes no value, but 'yes' is given"),
        (["a:app", "b:app"], "more than one application is given: a:app and b:app"),
        (["--demo", "--check-config"], "--demo and --check-config cannot be given together"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_that_names_the_flag(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(*arguments)


@pytest.mark.parametrize(
    ("flag", "command"),
    [("-h", Command.HELP), ("--version", Command.VERSION), ("-v", Command.VERSION), ("--demo", Command.DEMO)],
)
def test_commands_are_flags(flag: str, command: Command) -> None:
    assert read(flag).command is command


def test_nothing_said_means_serve() -> None:
    assert read() == (Command.SERVE, ())


def test_help_shows_every_flag_within_the_width() -> None:
    table = Table(Settings)
    text = help_text(table, width=80)
    assert [flag for option in table.values() for flag in option.flags if flag not in text] == []
    assert max(len(line) for line in text.splitlines() if not line.strip().startswith("-")) <= 80


def test_help_shows_no_flag_that_prefork_does_not_have() -> None:
    assert "--certfile" not in help_text(Table(Settings))
