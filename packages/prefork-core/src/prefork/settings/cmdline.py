# SPDX-License-Identifier: MIT
"""Settings from a command line, and the text of `--help`.

It decides what is a flag, a value or an application, not what values mean. gunicorn's
flags that prefork does not have are understood too, so that their values are not taken for
something else; the resolver says what becomes of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork.errors import UsageError
from prefork.settings.absent import ABSENT
from prefork.settings.kinds import Shape
from prefork.settings.option import flags_of, off_flags
from prefork.settings.origin import Given, Origin, Source
from prefork.settings.spelling import meant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prefork.settings.option import Option, Table


class Command(Enum):
    """What the command line asks for, by the name of its flag."""

    SERVE = ""
    DEMO = "--demo"
    CHECK_CONFIG = "--check-config"
    PRINT_CONFIG = "--print-config"
    VERSION = "--version"
    LIST_WORKERS = "--list-workers"
    HELP = "--help"


class _CommandFlag(NamedTuple):
    command: Command
    short: str
    help: str


_COMMANDS: Final = (
    _CommandFlag(Command.DEMO, "", "Serve the built-in demo application."),
    _CommandFlag(Command.CHECK_CONFIG, "", "Load the settings and the application, say what is wrong, exit."),
    _CommandFlag(Command.PRINT_CONFIG, "", "Print every setting and the place its value is from, exit."),
    _CommandFlag(Command.LIST_WORKERS, "", "List the installed worker classes, for -k, exit."),
    _CommandFlag(Command.VERSION, "-v", "Print the version, exit."),
    _CommandFlag(Command.HELP, "-h", "Print this, exit."),
)

COMMAND_FLAGS: Final = tuple(flag for row in _COMMANDS for flag in (row.short, row.command.value) if flag)

APPLICATION: Final = "wsgi_app"
"""The setting that the one argument without a flag gives."""

_USAGE: Final = "usage: prefork [flags] MODULE:APP"
_NOTES: Final = (
    "Every setting is also read from a variable such as PREFORK_WORKERS and from the configuration file, and"
    " PREFORK_CMD_ARGS may hold more flags. The command line wins over PREFORK_CMD_ARGS, that over PREFORK_*"
    ' variables, those over the configuration file. Times may have units ("500ms", "1m30s"), sizes too'
    ' ("64k").'
)


class CommandLine(NamedTuple):
    """What a command line says.

    Args:
        command: what is asked for.
        given: the values; those of a repeated flag are one list, of other flags the last counts.
    """

    command: Command
    given: tuple[Given, ...]


class _Meaning(NamedTuple):
    """What one flag does."""

    name: str
    shape: Shape
    switched: object
    """What a flag without an argument gives: a bool, or a Command."""


def parse(table: Table, arguments: Sequence[str], source: Source) -> CommandLine:
    """Read a command line.

    Args:
        table: the settings there are.
        arguments: without the program's name.
        source: COMMAND_LINE or CMD_ARGS.

    Returns:
        The command and the values as they are given.

    Raises:
        UsageError: an unknown flag, a missing value, two applications or two commands.
    """
    prefix = "" if source is Source.COMMAND_LINE else f"{source.value} "
    scan = _Scan(dict(_meanings(table)), source, prefix, deque(arguments), table.unread)
    while scan.rest:
        scan.next()
    return CommandLine(scan.command, tuple(scan.given.values()))


def _meanings(table: Table) -> Iterator[tuple[str, _Meaning]]:
    for option in table.values():
        off = off_flags(option)
        for flag in flags_of(option):
            yield flag, _Meaning(option.name, option.kind.shape, flag not in off)
    for row in ABSENT.values():
        for flag in row.flags:
            yield flag, _Meaning(row.name, row.shape, switched=True)
    for command in _COMMANDS:
        for flag in filter(None, (command.short, command.command.value)):
            yield flag, _Meaning("", Shape.SWITCH, command.command)


@dataclass(slots=True)
class _Scan:
    """A walk over the arguments, from left to right."""

    meanings: Mapping[str, _Meaning]
    source: Source
    prefix: str
    rest: deque[str]
    unread: Sequence[str]
    command: Command = Command.SERVE
    given: dict[str, Given] = field(default_factory=dict)
    lists: dict[str, tuple[list[object], Origin]] = field(default_factory=dict)

    def next(self) -> None:
        argument = self.rest.popleft()
        if argument == "--":
            while self.rest:
                self._application(self.rest.popleft())
        elif argument.startswith("--"):
            flag, sign, value = argument.partition("=")
            self._flag(flag, value if sign else None)
        elif argument.startswith("-") and argument != "-":
            self._short(argument[:2], argument[2:])
        else:
            self._application(argument)

    def _application(self, text: str) -> None:
        if APPLICATION in self.given:
            others = f"{self.given[APPLICATION].value} and {text}"
            raise UsageError(f"{self.prefix}more than one application is given: {others}")
        place = self.prefix.strip() or "command line"
        self.given[APPLICATION] = Given(APPLICATION, text, Origin(self.source, place))

    def _short(self, flag: str, joined: str) -> None:
        """Read `-w4`, `-w=4`, `-w 4`, `-D`, `-Dw4`."""
        if joined and self._meaning(flag).shape is Shape.SWITCH:
            self._flag(flag, None)
            self.rest.appendleft(f"-{joined}")
        else:
            self._flag(flag, joined.removeprefix("=") if joined else None)

    def _flag(self, flag: str, value: str | None) -> None:
        meaning = self._meaning(flag)
        if meaning.shape is not Shape.SWITCH:
            self._give(meaning, flag, self._argument(flag) if value is None else value)
        elif value is not None:
            raise UsageError(f"{self.prefix}flag {flag} takes no value, but {value!r} is given")
        elif isinstance(meaning.switched, Command):
            self._ask(meaning.switched)
        else:
            self._give(meaning, flag, meaning.switched)

    def _meaning(self, flag: str) -> _Meaning:
        found = self.meanings.get(flag)
        if found is None:
            raise UsageError(f"{self.prefix}there is no flag {flag}", hint=self._hint(flag))
        return found

    def _hint(self, flag: str) -> str:
        if not flag.startswith("--"):
            return "`prefork --help` shows all flags"
        known = [known for known in self.meanings if known.startswith("--")]
        return "; ".join(filter(None, (meant(flag, known), *self.unread)))

    def _argument(self, flag: str) -> str:
        if not self.rest or self.rest[0].partition("=")[0] in self.meanings:
            raise UsageError(f"{self.prefix}flag {flag} needs a value")
        return self.rest.popleft()

    def _ask(self, command: Command) -> None:
        if self.command not in (Command.SERVE, command):
            raise UsageError(
                f"{self.prefix}{self.command.value} and {command.value} cannot be given together"
            )
        self.command = command

    def _give(self, meaning: _Meaning, flag: str, value: object) -> None:
        origin = Origin(self.source, f"{self.prefix}flag {flag}")
        if meaning.shape is not Shape.MANY:
            self.given[meaning.name] = Given(meaning.name, value, origin)
            return
        values, first = self.lists.setdefault(meaning.name, ([], origin))
        values.append(value)
        self.given[meaning.name] = Given(meaning.name, values, first)


def help_text(table: Table, width: int = 100) -> str:
    """Return the text of `--help`.

    Args:
        table: the settings to show.
        width: of the text, in columns.
    """
    import textwrap

    def wrapped(text: str) -> str:
        return textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)

    lines = [_USAGE, ""]
    for section, options in _by_section(table).items():
        lines += [f"{section}:"]
        for option in options:
            lines += [f"  {_spelled(option)}", wrapped(f"{option.help} {_default(option)}")]
        lines += [""]
    if table.unread:
        lines += ["Worker classes that cannot be used:", *map(wrapped, table.unread), ""]
    lines += ["Commands:"]
    for flag in _COMMANDS:
        lines += [f"  {', '.join(filter(None, (flag.short, flag.command.value)))}", wrapped(flag.help)]
    return "\n".join([*lines, "", textwrap.fill(_NOTES, width), ""])


def _by_section(table: Table) -> dict[str, list[Option]]:
    sections: dict[str, list[Option]] = {}
    for option in table.values():
        if option.flags or option.name == APPLICATION:
            sections.setdefault(option.section, []).append(option)
    return sections


def _spelled(option: Option) -> str:
    spelled = ", ".join(option.flags)
    if off := off_flags(option):
        return f"{spelled} / {off[0]}"
    return f"{spelled} {option.kind.metavar}".strip()


def _default(option: Option) -> str:
    if option.default in (None, (), ""):
        return ""
    if isinstance(option.default, tuple):
        return f"[{','.join(option.default)}]"
    return f"[{option.default if isinstance(option.default, str) else option.kind.write(option.default)}]"
