# SPDX-License-Identifier: MIT
"""The `preforkctl` command: ask a running server through its control socket, and print what it says.

It decides how the socket is found, what is printed, and with which code the process exits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefork import __version__
from prefork.control import client
from prefork.control.protocol import ARGUMENTS, Command, Refused, Request, Trouble
from prefork.control.show import SHOWN
from prefork.errors import PreforkError
from prefork.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Code(IntEnum):
    """Exit codes of the `preforkctl` command."""

    OK = 0
    """Done."""
    REFUSED = 1
    """The server could not do it: the reload was rolled back, the upgrade failed, there is no such slot."""
    USAGE = 2
    """The command line, or the configuration file that should name the socket, is wrong."""
    NO_SERVER = 3
    """There is no server at the socket, or it went away."""
    NOT_ALLOWED = 4
    """The socket belongs to somebody else."""
    TOO_SLOW = 5
    """No answer within `--timeout`."""


_CODES: Final[tuple[tuple[type[PreforkError], Code], ...]] = (
    (client.NoServer, Code.NO_SERVER),
    (client.NotAllowed, Code.NOT_ALLOWED),
    (client.TooSlow, Code.TOO_SLOW),
    (PreforkError, Code.USAGE),
)


class Verb(NamedTuple):
    """How a command is told on the command line."""

    command: Command
    help: str
    timeout: float = 10.0
    """Seconds, unless `--timeout` says others."""


VERBS: Final = (
    Verb(Command.STATUS, "Show version, uptime, mode, workers, queues and totals."),
    Verb(Command.WORKERS, "Show each worker: state, age, busy threads, counts, and its oldest request."),
    Verb(Command.RELOAD, "Load configuration and application anew; wait until that is done.", inf),
    Verb(
        Command.UPGRADE,
        "Start the server's program anew beside it, and have that take over; wait until this has gone.",
        inf,
    ),
    Verb(Command.SCALE, "Change the number of workers."),
    Verb(Command.STOP, "Stop the server; wait until it has ended.", inf),
    Verb(Command.STACKS, "Show what each thread of a worker, or of all workers, does at this moment."),
    Verb(Command.KILL_SLOT, "Kill the worker in a slot, with the requests that it has."),
    Verb(Command.SETTINGS, "Show every setting, and where its value is from."),
    Verb(Command.METRICS, "Print counters and gauges in the text format of Prometheus."),
)
"""In the order in which `--help` shows them."""

_TO_THE_END: Final = frozenset({Command.STOP, Command.UPGRADE})
"""Done when the server that was asked has ended."""
VERIFIED_WITHIN: Final = 10.0
"""Seconds that the successor has to answer, after an upgrade."""

_EPILOG: Final = """\
The socket is the one of -s, else the control_socket of the configuration file of -c, else the one that
`prefork` itself would use here: of PREFORK_CONTROL_SOCKET, prefork.conf.py, prefork.toml or pyproject.toml.

exit codes:
  0  done
  1  the server could not do it: a reload that is refused or rolled back, an upgrade that failed, a slot
     without a worker
  2  the command line or the configuration file is wrong
  3  there is no server at the socket, or it went away
  4  the socket belongs to somebody else
  5  no answer within --timeout

examples:
  preforkctl -s /run/shop/control.sock status
  preforkctl -c /etc/shop/prefork.toml reload && echo deployed
  preforkctl -s /run/shop/control.sock workers --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments without the program's name; those of the process if None.

    Returns:
        The exit code, see `Code`.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except PreforkError as error:
        _complain(str(error))
        return next(code for kind, code in _CODES if isinstance(error, kind))
    except KeyboardInterrupt:
        return 130  # as shells have it: 128 and SIGINT


def _run(arguments: argparse.Namespace) -> int:
    verb: Verb = arguments.verb
    given = {
        name: value
        for name in ARGUMENTS.get(verb.command, ())
        if (value := getattr(arguments, name)) is not None
    }
    path = arguments.socket or _configured(arguments.config)
    timeout = verb.timeout if arguments.timeout is None else arguments.timeout
    request = Request(verb.command, given)
    try:
        result = client.ask(path, request, timeout=timeout, until_gone=verb.command in _TO_THE_END)
        if verb.command is Command.UPGRADE:
            _verify(path, result["pid"])
    except Refused as refused:
        if arguments.json:
            _print_json({"trouble": refused.trouble.value, "why": refused.why})
        _complain(refused.why)
        return Code.USAGE if refused.trouble is Trouble.BAD_REQUEST else Code.REFUSED
    if arguments.json:
        _print_json(result)
    else:
        sys.stdout.write(SHOWN[verb.command.value](result))
    return Code.OK


def _verify(path: str, pid: int) -> None:
    """Ask at the same place whether the one that has taken over serves there.

    Raises:
        Refused: it does not.
        PreforkError: it does not answer.
    """
    try:
        status = client.ask(path, Request(Command.STATUS, {}), timeout=VERIFIED_WITHIN)
    except client.NoServer as error:
        hint = "its configuration may name another control_socket"
        raise client.NoServer(
            f"arbiter {pid} has taken over, but cannot be asked whether it serves: {error.message}", hint=hint
        ) from error
    if status["pid"] != pid:
        raise Refused(Trouble.REFUSED, f"arbiter {pid} should have taken over, but {status['pid']} answers")
    if not status["workers"]["ready"]:
        raise Refused(Trouble.REFUSED, f"arbiter {pid} has taken over, and none of its workers is ready")


def _configured(config: str | None) -> str:
    """Return the socket that a server with this configuration has."""
    flags = [] if config is None else ["-c", config]
    # Imported here: with -s there is no need to know what may stand in a configuration.
    from prefork.workers.registry import contributions

    settings = load(["--print-config", *flags], os.environ, os.getcwd(), contributions).settings
    if settings.control_socket is None:
        of = settings.config or "the configuration"
        raise PreforkError(
            f"{of} has no control_socket", hint="name the socket with -s, or the configuration file with -c"
        )
    return os.path.join(settings.chdir or "", settings.control_socket)


# ---------------------------------------------------------------- the command line


def _parser() -> argparse.ArgumentParser:
    shared = _shared(suppress=True)
    parser = argparse.ArgumentParser(
        prog="preforkctl",
        description="Show and steer a running prefork server.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_shared(suppress=False)],
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--version", action="version", version=f"preforkctl {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb in VERBS:
        added = verbs.add_parser(
            verb.command.value, help=verb.help, description=verb.help, parents=[shared], allow_abbrev=False
        )
        added.set_defaults(verb=verb)
        if verb.command in _ADD_ARGUMENTS:
            _ADD_ARGUMENTS[verb.command](added)
    return parser


def _shared(*, suppress: bool) -> argparse.ArgumentParser:
    """Return the flags that may stand before the command and after it.

    Args:
        suppress: whether a flag that is not there leaves what stood before the command.
    """
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS if suppress else None)
    parser.add_argument("-s", "--socket", metavar="PATH", help="the server's control socket")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="the server's configuration file, which names the socket"
    )
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="how long to wait for the answer")
    default = argparse.SUPPRESS if suppress else False
    parser.add_argument("--json", action="store_true", default=default, help="print the answer as JSON")
    return parser


def _add_workers(parser: argparse.ArgumentParser) -> None:
    argument = ARGUMENTS[Command.SCALE]["workers"]
    parser.add_argument("workers", type=int, metavar="N", help=f"from {argument.least} to {argument.most}")


def _add_quick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="drop running requests instead of finishing them"
    )


def _add_slot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slot", type=int, metavar="N", help="the slot, as `preforkctl workers` shows it")


def _add_slots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slot", type=int, metavar="N", nargs="?", help="the slot; all if there is none")


_ADD_ARGUMENTS: Final[dict[Command, Callable[[argparse.ArgumentParser], None]]] = {
    Command.SCALE: _add_workers,
    Command.STOP: _add_quick,
    Command.KILL_SLOT: _add_slot,
    Command.STACKS: _add_slots,
}


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError("a number of seconds above 0 is needed")
    return seconds


# ---------------------------------------------------------------- what is printed


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"preforkctl: error: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
