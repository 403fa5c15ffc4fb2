# SPDX-License-Identifier: MIT
"""Loading: all sources in their order, to one frozen set of settings.

The order is the one rule decided here. The same call loads at the start and on a reload,
and touches nothing but `sys.path`: who calls it decides when a result becomes true.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import UsageError
from prefork.hooks import Hooks
from prefork.settings import contributed, environment, files, idle
from prefork.settings.cmdline import APPLICATION, Command, parse
from prefork.settings.origin import Given, Origin, Source
from prefork.settings.resolve import resolve
from prefork.settings.schema import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefork.settings.cmdline import CommandLine
    from prefork.settings.contributed import Contribution
    from prefork.settings.option import Option, Table
    from prefork.settings.resolve import Resolution

_DEMO: Final = "prefork.demo:app"
_ANSWERED_ALONE: Final = (Command.HELP, Command.LIST_WORKERS, Command.VERSION)
_NEED_APPLICATION: Final = (Command.SERVE, Command.CHECK_CONFIG)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded.

    Args:
        settings: the values.
        origins: where each value, and each hook that is given, is from; by name.
        warnings: to be logged when logging is set up.
        command: what the command line asks for.
        hooks: of the configuration file.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...]
    command: Command
    hooks: Hooks


def load(
    argv: Sequence[str],
    environ: Mapping[str, str],
    cwd: str,
    contributions: Callable[[], Sequence[Contribution]] = tuple,
) -> Loaded:
    """Load the settings from all sources.

    Args:
        argv: the command line without the program's name.
        environ: the environment.
        cwd: the folder that the server was started in, also on a later reload.
        contributions: returns what installed worker classes bring.

    Returns:
        The settings. For HELP, LIST_WORKERS and VERSION they are the defaults, and nothing was read.

    Raises:
        ConfigError: a file or variable is wrong.
        UsageError: the command line or PREFORK_CMD_ARGS is wrong, or there is no application.
    """
    table = contributed.table(contributions())
    line = parse(table, argv, Source.COMMAND_LINE)
    if line.command in _ANSWERED_ALONE:
        return Loaded(Settings(), MappingProxyType({}), (), line.command, Hooks())
    more = parse(table, _words(environ.get(environment.CMD_ARGS, "")), Source.CMD_ARGS)
    command = more.command if line.command is Command.SERVE else line.command
    above = [*environment.prefixed(environ), *more.given, *_with_demo(command, line)]
    file, warnings = _file(above, cwd)
    below = [*environment.platform(table, environ), *file]
    if file:
        below += files.read(table, str(file[0].value), file[0].origin, cwd)
    found = resolve(table, [*below, *above])
    contributed.check_owners(table, found)
    _check_application(command, found.values[APPLICATION])
    settings = _settled(table, found)
    return Loaded(
        settings,
        MappingProxyType(found.origins),
        (
            *environment.unread(environ),
            *warnings,
            *found.warnings,
            *idle.warnings(settings, found.origins),
        ),
        command,
        Hooks(**found.hooks),
    )


def _settled(table: Table, found: Resolution) -> Settings:
    """Return the settings of the server and of the worker class that serves; the others' are forgotten."""
    own: dict[str, Any] = {}
    theirs: list[tuple[Option, Any]] = []
    for name, value in found.values.items():
        if not table[name].workers:
            own[name] = value
        elif found.values["worker_class"] in table[name].workers:
            theirs.append((table[name], value))
        else:
            del found.origins[name]
    return Settings(**own, contributed=tuple(theirs))


def _words(text: str) -> list[str]:
    if not text:
        return []
    # Imported here: few starts need it.
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{environment.CMD_ARGS}: {error} in {text!r}") from error


def _with_demo(command: Command, line: CommandLine) -> tuple[Given, ...]:
    if command is not Command.DEMO:
        return line.given
    if any(item.name == APPLICATION for item in line.given):
        raise UsageError("--demo serves its own application, but another one is given")
    return (*line.given, Given(APPLICATION, _DEMO, Origin(Source.COMMAND_LINE, f"flag {Command.DEMO.value}")))


def _file(above: Sequence[Given], cwd: str) -> tuple[list[Given], tuple[str, ...]]:
    """Return the configuration file, if there is one, as the value of `config`."""
    named = [item for item in above if item.name == "config" and item.value]
    if named:
        return named[-1:], ()
    choice = files.choose(cwd)
    if choice.name is None:
        return [], choice.warnings
    return [Given("config", choice.name, Origin(Source.DEFAULT, f"found in {cwd}"))], choice.warnings


def _check_application(command: Command, application: str | None) -> None:
    if application is None and command in _NEED_APPLICATION:
        raise UsageError(
            "no application is given",
            hint="name one, such as `prefork module:app`, or set wsgi_app; `prefork --demo` serves a demo",
        )
