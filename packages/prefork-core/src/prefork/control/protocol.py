# SPDX-License-Identifier: MIT
"""What can be said on the control socket: one line of JSON for each request, one for each answer.

It decides which commands there are, what a request must look like, and the kinds of trouble. It knows
nothing of sockets, and nothing of what a command does.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefork.settings.schema import MOST_WORKERS

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_REQUEST: Final = 4096
"""Bytes of the longest request, its end of line included."""


class Command(Enum):
    """What can be asked, by its name on the wire and on the command line."""

    STATUS = "status"
    WORKERS = "workers"
    RELOAD = "reload"
    SCALE = "scale"
    STOP = "stop"
    KILL_SLOT = "kill-slot"
    SETTINGS = "settings"
    METRICS = "metrics"
    STACKS = "stacks"
    UPGRADE = "upgrade"


class Trouble(Enum):
    """Why an answer is not what was asked for."""

    BAD_REQUEST = "bad-request"
    """It cannot be understood."""
    DENIED = "denied"
    """Who asks may not."""
    REFUSED = "refused"
    """It cannot be done, or not now; nothing has changed."""
    ROLLED_BACK = "rolled-back"
    """It was tried, and undone."""


class Refused(Exception):
    """A request that is not answered with a result.

    Args:
        trouble: which kind.
        why: in a sentence, for a person.
    """

    def __init__(self, trouble: Trouble, why: str) -> None:
        super().__init__(why)
        self.trouble = trouble
        self.why = why


class Argument(NamedTuple):
    """One argument of a command.

    Args:
        kind: int or bool.
        needed: whether it must be there.
        least: the least value of a number.
        most: the greatest.
    """

    kind: type[int]
    needed: bool
    least: int = 0
    most: int = 2**31 - 1


ARGUMENTS: Final[Mapping[Command, Mapping[str, Argument]]] = {
    Command.SCALE: {"workers": Argument(int, needed=True, least=1, most=MOST_WORKERS)},
    Command.STOP: {"quick": Argument(bool, needed=False)},
    Command.KILL_SLOT: {"slot": Argument(int, needed=True)},
    Command.STACKS: {"slot": Argument(int, needed=False)},
}
"""The arguments of each command that has any."""


class Request(NamedTuple):
    """What a client asks.

    Args:
        command: which command.
        arguments: the ones that are given, each of its kind.
    """

    command: Command
    arguments: Mapping[str, int] = {}


def parse_request(line: bytes | bytearray) -> Request:
    """Return the request of one line.

    Args:
        line: with or without its end.

    Raises:
        Refused: it is no request.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused(Trouble.BAD_REQUEST, "a request is one line of JSON") from None
    if not isinstance(found, dict):
        raise Refused(Trouble.BAD_REQUEST, 'a request is an object such as {"command": "status"}')
    name = found.pop("command", None)
    command = _COMMANDS.get(name) if isinstance(name, str) else None
    if command is None:
        raise Refused(Trouble.BAD_REQUEST, f"the commands are {', '.join(_COMMANDS)}")
    return Request(command, _checked(command, found))


def _checked(command: Command, given: dict[str, Any]) -> dict[str, int]:
    known = ARGUMENTS.get(command, {})
    if set(given) - set(known):
        expected = ", ".join(known) or "none"
        raise Refused(Trouble.BAD_REQUEST, f"unknown argument; those of {command.value}: {expected}")
    for name, argument in known.items():
        if name in given:
            _check(name, argument, given[name])
        elif argument.needed:
            raise Refused(Trouble.BAD_REQUEST, f"{command.value} needs {name}")
    return given


def _check(name: str, argument: Argument, value: object) -> None:
    if argument.kind is bool:
        if not isinstance(value, bool):
            raise Refused(Trouble.BAD_REQUEST, f"{name} is true or false")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise Refused(Trouble.BAD_REQUEST, f"{name} is a whole number")
    elif not argument.least <= value <= argument.most:
        span = f"from {argument.least} to {argument.most}"
        raise Refused(Trouble.BAD_REQUEST, f"{name} is a number {span}")


def render_request(request: Request) -> bytes:
    """Return a request as it goes over the wire."""
    return _line({"command": request.command.value, **request.arguments})


def render_result(result: Mapping[str, Any]) -> bytes:
    """Return an answer that brings what was asked for.

    Args:
        result: texts, numbers, lists and mappings; what JSON does not have becomes a text.
    """
    return _line({"ok": True, "result": result})


def render_refusal(refused: Refused) -> bytes:
    """Return an answer that says what is the trouble."""
    return _line({"ok": False, "trouble": refused.trouble.value, "why": refused.why})


def parse_answer(line: bytes) -> dict[str, Any]:
    """Return the result that an answer brings.

    Args:
        line: as it came, with its end.

    Raises:
        Refused: it brings none.
        ValueError: it is no answer.
    """
    answer = json.loads(line)
    if isinstance(answer, dict) and answer.get("ok") is True and isinstance(answer.get("result"), dict):
        result: dict[str, Any] = answer["result"]
        return result
    try:
        trouble, why = Trouble(answer["trouble"]), str(answer["why"])
    except (KeyError, TypeError) as error:
        raise ValueError("neither a result nor a refusal") from error
    raise Refused(trouble, why)


def _line(message: Mapping[str, Any]) -> bytes:
    # ASCII, so that no terminal or log is surprised; JSON escapes line ends, so there is one at the end only.
    return json.dumps(message, separators=(",", ":"), default=str).encode("ascii") + b"\n"


_COMMANDS: Final = {command.value: command for command in Command}
