# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from prefork.errors import ConfigError, UsageError
from prefork.settings import Command, Loaded, Settings, load

if TYPE_CHECKING:
    from pathlib import Path


def loaded(cwd: Path, *arguments: str, **environ: str) -> Loaded:
    return load(["app:app", *arguments], environ, str(cwd))


GIVEN_BY = {
    "env WEB_CONCURRENCY": ("WEB_CONCURRENCY", "1"),
    "prefork.conf.py:1": ("prefork.conf.py", "workers = 2"),
    "env PREFORK_WORKERS": ("PREFORK_WORKERS", "3"),
    "PREFORK_CMD_ARGS flag -w": ("PREFORK_CMD_ARGS", "-w 4"),
    "flag --workers": ("--workers", "5"),
}
"""From the weakest source to the strongest: the place of its value, and what gives it."""


@pytest.mark.parametrize(
    "places", [places for count in range(1, 6) for places in itertools.combinations(GIVEN_BY, count)]
)
def test_the_strongest_source_that_gives_a_value_wins(tmp_path: Path, places: tuple[str, ...]) -> None:
    arguments: list[str] = []
    environ: dict[str, str] = {}
    for name, text in (GIVEN_BY[place] for place in places):
        if name.startswith("--"):
            arguments += [name, text]
        elif name.endswith(".py"):
            (tmp_path / name).write_text(text)
        else:
            environ[name] = text
    found = loaded(tmp_path, *arguments, **environ)
    assert str(found.origins["workers"]) == places[-1]
    assert found.settings.workers == list(GIVEN_BY).index(places[-1]) + 1


def test_nothing_but_an_application_means_the_defaults(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert found.settings == Settings(wsgi_app="app:app")
    assert (found.command, found.warnings) == (Command.SERVE, ())


def test_the_configuration_file_is_named_by_the_strongest_source(tmp_path: Path) -> None:
    for name in ("prefork", "a", "b", "c"):
        (tmp_path / f"{name}.toml").write_text(f'proc_name = "{name}"')
    environ = {"PREFORK_CONFIG": "a.toml"}
    assert loaded(tmp_path).settings.proc_name == "prefork"
    assert loaded(tmp_path, **environ).settings.proc_name == "a"
    environ["PREFORK_CMD_ARGS"] = "-c b.toml"
    assert loaded(tmp_path, **environ).settings.proc_name == "b"
    found = loaded(tmp_path, "--config", "c.toml", **environ)
    assert (found.settings.proc_name, found.settings.config) == ("c", "c.toml")


def test_a_file_that_was_found_is_shown_as_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "prefork.toml").touch()
    found = loaded(tmp_path)
    assert (found.settings.config, str(found.origins["config"])) == ("prefork.toml", f"found in {tmp_path}")


def test_warnings_come_from_all_sources(tmp_path: Path) -> None:
    (tmp_path / "prefork.toml").write_text("reuse_port = true")
    (tmp_path / "prefork.conf.py").write_text("reuse_port = True")
    starts = (
        "GUNICORN_CMD_ARGS is not read",
        "prefork.conf.py is used",
        "prefork.conf.py:1: prefork does not",
    )
    warnings = loaded(tmp_path, GUNICORN_CMD_ARGS="-w4").warnings
    assert [text.startswith(start) for text, start in zip(warnings, starts, strict=True)] == [True] * 3


GUNICORN = """
import multiprocessing
import os

bind = "0.0.0.0:80"
workers = multiprocessing.cpu_count() * 2 + 1
worker_class = "sync"
timeout = "120"
keepalive = 5
accesslog = "-"
errorlog = "-"
loglevel = "INFO"
forwarded_allow_ips = "*"
umask = 0o007
user = None
preload_app = False
threads = 1
raw_env = ["A=1"]
secure_scheme_headers = {"X-Forwarded-Proto": "https"}
pythonpath = "lib,src"
max_requests = int(os.environ.get("MAX_REQUESTS", 1000))

def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)

def post_request(worker, req):
    pass
"""


def test_a_common_file_of_gunicorn_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(GUNICORN)
    found = loaded(tmp_path, "-c", "gunicorn.conf.py")
    settings = found.settings
    assert settings.bind == ("0.0.0.0:80",)
    assert isinstance(settings.workers, int)
    assert (settings.timeout, settings.keepalive, settings.umask) == (120.0, 5.0, 7)
    assert (settings.loglevel, settings.user, settings.pythonpath) == ("info", None, ("lib", "src"))
    assert (settings.forwarded_allow_ips, settings.raw_env) == (("*",), ("A=1",))
    assert settings.secure_scheme_headers == {"X-FORWARDED-PROTO": "https"}
    assert found.warnings == ()
    assert found.hooks.post_fork is not None
    assert found.hooks.post_request is not None
    assert found.hooks.post_request(None, None, None, None) is None  # type: ignore[arg-type]


def test_a_hook_can_be_named_in_toml(tmp_path: Path) -> None:
    (tmp_path / "hooks_for_toml.py").write_text("def ready(server): return 'called'")
    (tmp_path / "prefork.toml").write_text('when_ready = "hooks_for_toml:ready"')
    hook = loaded(tmp_path).hooks.when_ready
    assert hook is not None
    assert hook(None) == "called"  # type: ignore[arg-type]


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_help_and_version_do_not_need_a_right_configuration(tmp_path: Path, command: str) -> None:
    (tmp_path / "prefork.toml").write_text("broken")
    assert (
        load([command], {"PREFORK_X": "1", "PREFORK_CMD_ARGS": "--x"}, str(tmp_path)).command.value == command
    )


@pytest.mark.parametrize("arguments", [[], ["--check-config"]])
def test_without_an_application_there_is_a_usage_error_with_an_example(
    tmp_path: Path, arguments: list[str]
) -> None:
    with pytest.raises(
        UsageError, match="no application is given\n  hint: name one, such as `prefork module:app`"
    ):
        load(arguments, {}, str(tmp_path))


def test_print_config_does_not_need_an_application(tmp_path: Path) -> None:
    assert load(["--print-config"], {}, str(tmp_path)).command is Command.PRINT_CONFIG


def test_the_demo_brings_its_own_application(tmp_path: Path) -> None:
    found = load(["--demo"], {"PREFORK_WSGI_APP": "other:app"}, str(tmp_path))
    assert (found.settings.wsgi_app, found.command) == ("prefork.demo:app", Command.DEMO)
    with pytest.raises(UsageError, match="another one is given"):
        loaded(tmp_path, "--demo")


def test_prefork_cmd_args_is_split_as_a_shell_does(tmp_path: Path) -> None:
    assert loaded(tmp_path, PREFORK_CMD_ARGS="--name 'two words'").settings.proc_name == "two words"
    with pytest.raises(UsageError, match=r"^PREFORK_CMD_ARGS: No closing quotation"):
        loaded(tmp_path, PREFORK_CMD_ARGS="--name 'two")


def test_prefork_cmd_args_can_hold_a_command(tmp_path: Path) -> None:
    assert loaded(tmp_path, PREFORK_CMD_ARGS="--check-config").command is Command.CHECK_CONFIG
    assert (
        loaded(tmp_path, "--print-config", PREFORK_CMD_ARGS="--check-config").command is Command.PRINT_CONFIG
    )


def test_an_unknown_variable_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^env PREFORK_WORKRES: .*\n  hint: did you mean workers\?"):
        loaded(tmp_path, PREFORK_WORKRES="3")


def test_an_empty_name_of_a_configuration_file_is_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, PREFORK_CONFIG="").settings.config is None
