# SPDX-License-Identifier: MIT
"""The `prefork` command: load the settings, then do what is asked.

It decides what is printed and with which code the process exits; all else is done below.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from prefork import __version__
from prefork.errors import BootError, ConfigError, ExitCode, PreforkError
from prefork.process import patching
from prefork.settings import Command, load
from prefork.workers import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork.settings import Loaded


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments without the program's name; those of the process if None.

    Returns:
        The exit code, see `prefork.errors.ExitCode`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(arguments)
    except PreforkError as error:
        _complain(error)
        _tell_predecessor(error)
        return error.exit_code


def _run(arguments: list[str]) -> int:
    with patching.refused():
        loaded = load(arguments, os.environ, os.getcwd(), registry.contributions)
    match loaded.command:
        case Command.VERSION:
            _say(f"prefork {__version__}")
        case Command.HELP:
            _help()
        case Command.LIST_WORKERS:
            _list_workers()
        case Command.PRINT_CONFIG:
            _print_config(loaded)
        case Command.CHECK_CONFIG:
            _check_config(loaded)
        case Command.SERVE | Command.DEMO:
            # Imported here, so that the other commands are quick.
            from prefork.arbiter import boot

            return boot.serve(loaded, arguments, os.environ)
    return ExitCode.OK


def _help() -> None:
    from shutil import get_terminal_size

    from prefork.settings.cmdline import help_text
    from prefork.settings.contributed import table

    width = max(40, min(get_terminal_size().columns, 100))
    _say(help_text(table(registry.contributions()), width))


def _list_workers() -> None:
    rows = [("NAME", "DISTRIBUTION", "VERSION", "API", ""), *map(_row, registry.installed())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)))


def _row(each: registry.Installed) -> tuple[str, ...]:
    if each.worker is None:
        return each.name, each.distribution, each.version, "-", f"cannot be used: {each.error}"
    help_line = (each.worker.__doc__ or "").strip().partition("\n")[0]
    return each.name, each.distribution, each.version, str(each.worker.api), help_line


def _print_config(loaded: Loaded) -> None:
    from prefork.settings.show import config_text

    _warn(loaded.warnings)
    _say(config_text(loaded))


def _check_config(loaded: Loaded) -> None:
    """Check all that can be wrong before a socket is opened or a process forked."""
    from prefork import app, autoreload
    from prefork.net.listener import parse_bind
    from prefork.observe.access import compile_text
    from prefork.process import variables

    _warn(loaded.warnings)
    settings = loaded.settings
    for address in (*settings.bind, *settings.status_bind):
        parse_bind(address)
    compile_text(settings.access_log_format)
    worker = registry.serving(settings)
    _warn(registry.without_effect(worker, loaded))
    variables.take_on(settings.raw_env)
    if settings.reload:
        autoreload.check_installed()
    _change_folder(settings.chdir)
    app.load(str(settings.wsgi_app), settings.pythonpath, app.judge(worker))
    _say("ok")


def _change_folder(folder: str | None) -> None:
    try:
        os.chdir(folder or ".")
    except OSError as error:
        raise ConfigError(f"chdir: cannot change to {folder}: {error.strerror}") from error


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        sys.stderr.write(f"prefork: warning: {warning}\n")


def _complain(error: PreforkError) -> None:
    if isinstance(error, BootError) and error.__cause__ is not None:
        # Imported here: only a failing application needs it.
        import traceback

        traceback.print_exception(error.__cause__)
    sys.stderr.write(f"prefork: error: {error}\n")


def _tell_predecessor(error: PreforkError) -> None:
    """Tell the arbiter that this process was to succeed why it does not."""
    # Imported here: only a start that fails needs it.
    from prefork.process import handover

    handover.complain(os.environ, os.getpid(), error.message)


def _say(text: str) -> None:
    sys.stdout.write(f"{text.rstrip()}\n")
