# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import ConfigError, UsageError
from prefork.settings import Settings
from prefork.settings.option import Table
from prefork.settings.origin import Given, Origin, Source
from prefork.settings.resolve import Resolution, resolve

FILE = Origin(Source.FILE, "prefork.toml:3")
VARIABLE = Origin(Source.ENVIRONMENT, "env PREFORK_X")
FLAG = Origin(Source.COMMAND_LINE, "flag -x")


def resolved(*given: tuple[str, object, Origin]) -> Resolution:
    return resolve(Table(Settings), [Given(*item) for item in given])


def test_nothing_given_means_the_defaults() -> None:
    found = resolved()
    assert Settings(**found.values) == Settings()
    assert {str(origin) for origin in found.origins.values()} == {"default"}


def test_the_last_value_of_a_setting_wins_whole() -> None:
    found = resolved(("bind", ["a", "b"], FILE), ("bind", "c", VARIABLE))
    assert (found.values["bind"], found.origins["bind"]) == (("c",), VARIABLE)


@pytest.mark.parametrize(
    ("origin", "error"), [(FILE, ConfigError), (VARIABLE, ConfigError), (FLAG, UsageError)]
)
def test_a_wrong_value_is_an_error_of_its_place_that_says_what_is_expected(
    origin: Origin, error: type[Exception]
) -> None:
    message = f"""^{origin}: workers is 'many', but must be "auto" or a whole number, 1 to 512"""
    with pytest.raises(error, match=message):
        resolved(("workers", "many", origin))


def test_a_wrong_value_is_an_error_even_when_another_wins() -> None:
    with pytest.raises(ConfigError, match=r"prefork\.toml:3"):
        resolved(("workers", 0, FILE), ("workers", "3", FLAG))


def test_the_error_of_a_value_that_only_gunicorn_takes_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="hint: `dangerous` does not exist: rename the fields"):
        resolved(("header_map", "dangerous", FILE))


def test_the_error_of_a_value_says_more_where_its_kind_does() -> None:
    with pytest.raises(ConfigError, match=r"660 is octal 1224; was 0o660 meant\?"):
        resolved(("unix_socket_mode", 660, FILE))


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"^env PREFORK_X: there is no setting wrokers\n  hint: did you mean workers\?"
    ):
        resolved(("wrokers", "3", VARIABLE))


def test_a_refused_setting_of_gunicorn_is_an_error_that_says_what_to_do() -> None:
    message = r"^flag -x: prefork does not have gunicorn's certfile: TLS is not in this version: .*proxy"
    with pytest.raises(UsageError, match=message):
        resolved(("certfile", "a.pem", FLAG))


def test_an_ignored_setting_of_gunicorn_is_a_warning_with_its_place() -> None:
    (warning,) = resolved(("worker_tmp_dir", "/dev/shm", FILE)).warnings
    assert warning.startswith(
        "prefork.toml:3: prefork does not have gunicorn's worker_tmp_dir: workers share"
    )


def test_a_setting_of_gunicorn_that_asks_for_nothing_is_passed_over() -> None:
    assert resolved(("threads", 1, FILE), ("certfile", None, FILE)).warnings == []


def test_none_is_the_default_where_gunicorn_takes_it_so() -> None:
    found = resolved(("sendfile", None, FILE), ("errorlog", None, FILE), ("pidfile", None, FILE))
    assert (found.values["sendfile"], found.values["errorlog"], found.values["pidfile"]) == (True, "-", None)


def test_none_is_no_number() -> None:
    with pytest.raises(ConfigError, match="workers is None"):
        resolved(("workers", None, FILE))


def test_a_hook_of_a_file_is_checked_and_kept() -> None:
    def post_fork(server: object, worker: object) -> None: ...

    found = resolved(("post_fork", post_fork, FILE), ("on_exit", None, FILE))
    assert found.hooks == {"post_fork": post_fork, "on_exit": None}
    assert found.origins["post_fork"] == FILE


def test_a_hook_with_other_parameters_is_an_error_with_the_right_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"toml:3: the hook post_fork\(server, worker\) cannot be .*cannot be called"
    ):
        resolved(("post_fork", lambda _: None, FILE))


@pytest.mark.parametrize(
    ("name", "origin", "message"),
    [
        ("post_fork", VARIABLE, "post_fork can only be set in a configuration file"),
        ("logconfig_dict", VARIABLE, "logconfig_dict can only be set in a configuration file"),
        ("config", FILE, "config can only be set in a flag or variable"),
    ],
)
def test_a_setting_in_a_place_that_cannot_give_it_is_an_error(
    name: str, origin: Origin, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolved((name, "x", origin))
