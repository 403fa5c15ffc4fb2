# SPDX-License-Identifier: MIT
"""The access log: one line for each request, whatever became of it.

Decides what can be said of a request (the atoms, gunicorn's and two more), and how a
format becomes a function. It knows nothing of settings or files, and never looks at a
request but through an `Exchange`.

Text lines are printable ASCII (`escape`), or whatever else the format itself holds. The
common line has nothing to escape, and whether that is so is seen in one pass over the
finished line: no byte outside of the safe alphabet may be there but those of the format.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from prefork.errors import ConfigError
from prefork.observe.clock import clf_time, iso_time
from prefork.observe.escape import SAFE, escape, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefork.observe.destination import Destination

SETTING: Final = "access_log_format"


@dataclass(slots=True)
class Exchange:
    """What one request left behind.

    Attributes:
        peer: remote address, "" for a Unix socket.
        method, target, protocol: of the request line as sent, "-" if none was read.
        fields: request fields by their CGI names (`HTTP_USER_AGENT`, `CONTENT_TYPE`).
        environ: what the application was called with, None if it was not.
        status: the status sent, 0 if nothing was.
        headers: response fields.
        sent: bytes of the response's body that were sent.
        started: when the request began, in seconds since the epoch.
        duration: seconds from there to the end, by a monotonic clock.
        queued: seconds that it has waited for a thread, None when that is not known.
        outcome: "ok", "rejected", "aborted", "timeout", "error" or "shed".
    """

    peer: str = ""
    method: str = "-"
    target: str = "-"
    protocol: str = "-"
    fields: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, Any] | None = None
    status: int = 0
    headers: Sequence[tuple[str, str]] = ()
    sent: int = 0
    started: float = 0.0
    duration: float = 0.0
    queued: float | None = None
    outcome: str = "ok"


Value: TypeAlias = str | int | float | None
Get: TypeAlias = Callable[[Exchange], Value]
Render: TypeAlias = Callable[[Exchange], bytes]


class Kind(Enum):
    """What an atom's value is."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"


CONVERSIONS: Final[Mapping[Kind, str]] = {Kind.TEXT: "s", Kind.INTEGER: "sdif", Kind.REAL: "sdif"}
"""How a value may be written: `%(D)s`, `%(D)09d`, `%(L).3f`."""


class Atom(NamedTuple):
    """Something that can be said of a request.

    `get` returns None for what is missing: `-` in text, null in JSON.
    """

    kind: Kind
    get: Get
    meaning: str


def _known(value: str) -> str | None:
    return None if value == "-" else value


def _request_line(exchange: Exchange) -> str | None:
    if exchange.method == "-":
        return None
    return f"{exchange.method} {exchange.target} {exchange.protocol}"


def _path(exchange: Exchange) -> str | None:
    path = exchange.target.partition("?")[0]
    if not path.startswith("/") and "://" in path:  # absolute-form, RFC 9112 §3.2.2
        path = "/" + path.partition("://")[2].partition("/")[2]
    return _known(path)


def _user(exchange: Exchange) -> str | None:
    """Name of Basic authentication (RFC 7617 §2); its spaces would add columns."""
    scheme, _, credentials = exchange.fields.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        raw = base64.b64decode(credentials.strip().encode("latin-1", "replace"), validate=True)
    except binascii.Error:
        return None
    return raw.partition(b":")[0].decode("latin-1").replace(" ", "%20") or None


def _bytes_or_nothing(exchange: Exchange) -> int | None:
    return exchange.sent if exchange.status else None


ATOMS: Final[Mapping[str, Atom]] = {
    "h": Atom(Kind.TEXT, lambda x: x.peer or None, "address of the peer, `-` on a Unix socket"),
    "l": Atom(Kind.TEXT, lambda _: None, "always `-`"),
    "u": Atom(Kind.TEXT, _user, "user name of Basic authentication, not verified"),
    "t": Atom(
        Kind.TEXT, lambda x: clf_time(x.started), "when the request began, `[23/Nov/2026:06:15:00 +0000]`"
    ),
    "r": Atom(Kind.TEXT, _request_line, "request line as sent"),
    "m": Atom(Kind.TEXT, lambda x: _known(x.method), "method"),
    "U": Atom(Kind.TEXT, _path, "path as sent, without the query"),
    "q": Atom(Kind.TEXT, lambda x: x.target.partition("?")[2], "query as sent, empty if there is none"),
    "H": Atom(Kind.TEXT, lambda x: _known(x.protocol), "protocol"),
    "s": Atom(Kind.INTEGER, lambda x: x.status or None, "status, `-` if nothing was sent"),
    "B": Atom(Kind.INTEGER, lambda x: x.sent, "bytes of the response's body that were sent"),
    "b": Atom(Kind.INTEGER, _bytes_or_nothing, "the same, `-` if there was no response"),
    "f": Atom(Kind.TEXT, lambda x: x.fields.get("HTTP_REFERER"), "Referer"),
    "a": Atom(Kind.TEXT, lambda x: x.fields.get("HTTP_USER_AGENT"), "User-Agent"),
    "T": Atom(Kind.INTEGER, lambda x: int(x.duration), "duration in whole seconds"),
    "M": Atom(Kind.INTEGER, lambda x: int(x.duration * 1e3), "duration in milliseconds"),
    "D": Atom(Kind.INTEGER, lambda x: int(x.duration * 1e6), "duration in microseconds"),
    "L": Atom(Kind.REAL, lambda x: x.duration, "duration in seconds with six decimals"),
    "Q": Atom(
        Kind.INTEGER,
        lambda x: None if x.queued is None else int(x.queued * 1e3),
        "milliseconds for which the request waited for a thread, `-` where that is not known; prefork's own",
    ),
    "p": Atom(Kind.TEXT, lambda _: f"<{os.getpid()}>", "id of the worker process in angle brackets"),
    "O": Atom(
        Kind.TEXT,
        lambda x: x.outcome,
        "what became of the request: `ok`, `rejected` (refused before the application), `aborted` (the "
        "client went away), `timeout`, `error` (the application raised), `shed` (it had waited for "
        "`queue_timeout`); prefork's own",
    ),
}
"""The atoms by letter. `%(t)s` is the request's begin, where gunicorn has its end; `%(U)s` is
as sent, where gunicorn has it percent-decoded."""

NAMED: Final[Mapping[str, str]] = {
    "i": "request field, `-` if missing",
    "o": "response field, several joined by `, `",
    "e": "variable of the WSGI environ, in whatever case it is written",
}
"""The atoms that take a name: `%({user-agent}i)s`."""

OBJECT: Final[Mapping[str, Get]] = {
    "time": lambda x: iso_time(x.started),
    "peer": ATOMS["h"].get,
    "request": ATOMS["r"].get,
    "method": ATOMS["m"].get,
    "target": lambda x: _known(x.target),
    "path": ATOMS["U"].get,
    "query": ATOMS["q"].get,
    "protocol": ATOMS["H"].get,
    "status": ATOMS["s"].get,
    "bytes": ATOMS["B"].get,
    "duration_s": ATOMS["L"].get,
    "queued_ms": ATOMS["Q"].get,
    "user_agent": ATOMS["a"].get,
    "referer": ATOMS["f"].get,
    "pid": lambda _: os.getpid(),
    "outcome": ATOMS["O"].get,
}
"""The JSON object of a request when no format was asked for."""

_NAMED_ATOM: Final = re.compile(r"\{([^{}]+)\}([ioe])")
_PLACEHOLDER: Final = re.compile(
    r"%(?:%|\((?P<atom>[^()]*)\)"
    r"(?P<flags>[-#0 +]*[0-9]{0,3})(?:\.(?P<precision>[0-9]{1,3}))?(?P<kind>[sdif]))"
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _request_field(name: str) -> Get:
    variable = name.upper().replace("-", "_")
    if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):  # RFC 3875 §4.1
        variable = f"HTTP_{variable}"
    return lambda exchange: exchange.fields.get(variable)


def _response_field(name: str) -> Get:
    wanted = name.lower()
    return lambda exchange: ", ".join(v for n, v in exchange.headers if n.lower() == wanted) or None


def _variable(name: str) -> Get:
    spellings = tuple(dict.fromkeys((name, name.upper(), name.lower())))

    def get(exchange: Exchange) -> str | None:
        environ = exchange.environ or {}
        return next((text_of(environ[spelling]) for spelling in spellings if spelling in environ), None)

    return get


_NAMED_GET: Final[Mapping[str, Callable[[str], Get]]] = {
    "i": _request_field,
    "o": _response_field,
    "e": _variable,
}


def find_atom(name: str) -> Atom:
    """Return the atom of a name as it stands between the brackets: `h`, `{user-agent}i`.

    Raises:
        ConfigError: there is none.
    """
    if atom := ATOMS.get(name):
        return atom
    if match := _NAMED_ATOM.fullmatch(name):
        return Atom(Kind.TEXT, _NAMED_GET[match[2]](match[1]), NAMED[match[2]])
    letters = " ".join(ATOMS)
    raise ConfigError(
        f"{SETTING}: there is no atom %({name})s",
        hint=f"the atoms are {letters}, and {{name}}i {{name}}o {{name}}e for fields and environ variables",
    )


class _Field(NamedTuple):
    name: str
    get: Get
    conversion: str


def _cut(get: Get, length: int) -> Get:
    """Cut what the peer sent, not what was escaped: half an escape could end a quoted column."""

    def cut(exchange: Exchange) -> Value:
        value = get(exchange)
        return value[:length] if isinstance(value, str) else value

    return cut


def _or_zero(get: Get) -> Get:
    return lambda exchange: get(exchange) or 0


def _field(match: re.Match[str]) -> _Field:
    name, flags, precision, kind = match.group("atom", "flags", "precision", "kind")
    atom = find_atom(name)
    if kind not in CONVERSIONS[atom.kind] or (atom.kind is Kind.INTEGER and kind == "s" and precision):
        raise ConfigError(f"{SETTING}: {match[0]} does not fit what %({name})s is", hint=f"write %({name})s")
    if atom.kind is Kind.TEXT:
        return _Field(name, _cut(atom.get, int(precision)) if precision else atom.get, f"%{flags}s")
    if kind == "s" and atom.kind is Kind.INTEGER:
        return _Field(name, atom.get, f"%{flags}s")
    if kind == "s":
        kind, precision = "f", precision or "6"
    return _Field(name, _or_zero(atom.get), f"%{flags}{f'.{precision}' if precision else ''}{kind}")


def _parse(layout: str) -> tuple[str, tuple[_Field, ...]]:
    """Return a `%` template and the fields that fill it."""
    own = _PLACEHOLDER.sub("", layout)
    if bad := _CONTROL.search(own):
        raise ConfigError(f"{SETTING}: holds {bad[0]!r}, but a request is one line", hint="leave it out")
    if "%" in own:
        rest = own[own.index("%") :][:20]
        raise ConfigError(f"{SETTING}: cannot read {rest!r}", hint="an atom is %(h)s, a percent sign %%")
    fields: list[_Field] = []

    def conversion(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return match[0]
        fields.append(_field(match))
        return fields[-1].conversion

    return _PLACEHOLDER.sub(conversion, layout), tuple(fields)


def compile_text(layout: str) -> Render:
    """Return the function that writes a request as a line of text.

    Args:
        layout: text with atoms, `%(h)s`; flags, width and precision as in Python.

    Raises:
        ConfigError: an unknown atom, a conversion that does not fit, or a control byte.
    """
    body, fields = _parse(layout)
    template = body + "\n"
    gets = tuple(field.get for field in fields)
    # The format's own bytes, of those that a client's text may not have; the newline is one.
    own = _PLACEHOLDER.sub("", layout) + "\n"
    expected = own.encode("utf-8", "backslashreplace").translate(None, SAFE)

    def render(exchange: Exchange) -> bytes:
        values = ["-" if (value := get(exchange)) is None else value for get in gets]
        line = (template % tuple(values)).encode("utf-8", "backslashreplace")
        if line.translate(None, SAFE) == expected:
            return line
        escaped = tuple(escape(value) if isinstance(value, str) else value for value in values)
        return (template % escaped).encode("utf-8", "backslashreplace")

    return render


def _readable(text: str) -> str:
    """Return a peer's bytes as the UTF-8 they mostly are: PEP 3333 has them as Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def compile_json(layout: str | None) -> Render:
    """Return the function that writes a request as a line of JSON.

    Args:
        layout: a format whose atoms become the keys (other text, widths and precisions do
            not matter), None for `OBJECT`.

    Raises:
        ConfigError: as `compile_text`.
    """
    # The C function that json itself quotes with; a call of json.dumps costs three times as much.
    from json.encoder import encode_basestring_ascii as quote

    names = () if layout is None else [field.name for field in _parse(layout)[1]]
    fields = OBJECT if layout is None else {name: find_atom(name).get for name in names}
    gets = tuple(fields.values())
    template = "{" + ", ".join(f"{quote(name)}: ".replace("%", "%%") + "%s" for name in fields) + "}\n"

    def encode(value: Value) -> str:
        if isinstance(value, str):
            return quote(value if value.isascii() else _readable(value))
        if value is None:
            return "null"
        return f"{value:.6f}" if isinstance(value, float) else str(value)

    def render(exchange: Exchange) -> bytes:
        return (template % tuple([encode(get(exchange)) for get in gets])).encode("ascii")

    return render


def shows_queue(layout: str | None) -> bool:
    """Return whether a format, as given to `compile_json`, has the time that a request has waited."""
    return layout is None or any(field.name == "Q" for field in _parse(layout)[1])


class AccessLog(Protocol):
    """Where the requests are written down.

    Attributes:
        shows_queue: whether `Exchange.queued` is wanted, which costs a system call per request.
    """

    shows_queue: bool

    def write(self, exchange: Exchange) -> None:
        """Write the line of a request. Never raises.

        Args:
            exchange: the request, when all of it is over.
        """


class DirectAccessLog:
    """The access log that is a file or stdout: no logger, no lock, one system call.

    Args:
        render: makes the line.
        destination: takes it.
        shows_queue: see `AccessLog`.
    """

    __slots__ = ("_render", "_write", "shows_queue")

    def __init__(self, render: Render, destination: Destination, *, shows_queue: bool = False) -> None:
        self.shows_queue = shows_queue
        self._render = render
        self._write = destination.write

    def write(self, exchange: Exchange) -> None:
        """Write the line of a request. Never raises."""
        self._write(self._render(exchange))


class _Atoms(dict[str, Value]):
    """All atoms of a request for formatters of users' own; `{name}i` and its like on demand."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__((name, _shown(atom.get(exchange))) for name, atom in ATOMS.items())
        self._exchange = exchange

    def __missing__(self, name: str) -> Value:
        match = _NAMED_ATOM.fullmatch(name)
        if not match:
            raise KeyError(name)
        return _shown(_NAMED_GET[match[2]](match[1])(self._exchange))


def _shown(value: Value) -> Value:
    return escape(value) if isinstance(value, str) else "-" if value is None else value


class LoggerAccessLog:
    """The access log that `logconfig_dict` gave a logger: several times slower.

    The message is the finished line; `record.args` holds the atoms by name, escaped, as
    gunicorn's has them, so that formatters written for it (`record.args["U"]`) work on.

    Args:
        render: makes the line.
        logger: takes it, at level INFO.
        report: told once if a handler or filter of the user raises.
    """

    __slots__ = ("_logger", "_render", "_report", "shows_queue")

    def __init__(self, render: Render, logger: logging.Logger, report: Callable[[str], None]) -> None:
        self._render = render
        self.shows_queue = True  # a user's formatter may want any atom
        self._logger = logger
        self._report: Callable[[str], None] | None = report

    def write(self, exchange: Exchange) -> None:
        """Write the line of a request. Never raises."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        line = self._render(exchange).decode()[:-1].replace("%", "%%")
        try:
            self._logger.info(line, _Atoms(exchange))
        except Exception as error:  # noqa: BLE001 - code of the user, as a hook is
            report, self._report = self._report, None
            if report is not None:
                kind = type(error).__name__
                report(f"accesslog: the logger prefork.access raised {kind}: {text_of(error)}")
