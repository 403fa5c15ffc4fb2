# SPDX-License-Identifier: MIT
"""Request heads: from bytes to a `Request`, or to the error that refuses them.

This is the first of the two hot functions, so a head is never walked byte by byte: its end is
found by one search, its control bytes by one `translate`, and its names through a bounded
dictionary of names seen before. Knows nothing of sockets, time or settings.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ProtocolError
from prefork.http import framing, grammar
from prefork.http.limits import METHOD_LENGTH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.http.limits import Limits

END: Final = b"\r\n\r\n"

COMMON_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that need no look at their letters. CONNECT is not among them: its target has a form of its own."""

_COMMON_NAMES: Final = (  # noqa: SIM905 - a table of sixty lines says no more
    "Accept Accept-Charset Accept-Encoding Accept-Language Authorization Cache-Control Connection "
    "Content-Encoding Content-Language Content-Length Content-Type Cookie DNT Date Expect Forwarded From "
    "Host If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive Origin Pragma "
    "Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode "
    "Sec-Fetch-Site Sec-Fetch-User Sec-GPC TE Traceparent Tracestate Transfer-Encoding Upgrade "
    "Upgrade-Insecure-Requests User-Agent Via X-CSRF-Token X-CSRFToken X-Forwarded-For X-Forwarded-Host "
    "X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Protocol X-Forwarded-Ssl X-Real-IP X-Request-ID "
    "X-Request-Start X-Requested-With"
).split()
_NAMES_KEPT: Final = 1024
_NAME_LENGTH_KEPT: Final = 64


def _cgi_name(name: str) -> str:
    """Return the meta-variable of a field name (RFC 3875 §4.1.18, PEP 3333)."""
    key = name.upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + key


_SEED: Final = {spelling: _cgi_name(name) for name in _COMMON_NAMES for spelling in (name, name.lower())}
# Spelling on the wire → CGI name, of names already found to be well-formed. Names with an
# underscore are never in it: they need a decision each time (`_field_key`).
_names: dict[str, str] = dict(_SEED)

_HOSTS_KEPT: Final = 256
# Values of Host already found to be well-formed.
_hosts: set[str] = set()

NO_LINES: Final[Mapping[str, list[str]]] = MappingProxyType({})


class Request:
    """The head of one request, checked.

    Attributes:
        method: as sent.
        target: the request target as sent.
        path: its path, still percent-encoded; "*" for asterisk-form, "" for authority-form.
        query: what follows the first "?", "" when there is none.
        version: "HTTP/1.1" or "HTTP/1.0".
        fields: values by CGI name ("HTTP_HOST", "CONTENT_TYPE"), the lines of one name joined by
            ", " ("; " for cookies). Text is latin-1, as PEP 3333 has it. The next request may have the same
            mapping, so nobody changes it.
        underscored: fields with an underscore in their name: the values of the lines by upper-case name.
            They are not in `fields`: "X_Forwarded_For" would be taken for the "X-Forwarded-For" that a
            proxy has checked. `forwarded.ForwardPolicy` decides about them.
        content_length: bytes of body, `framing.CHUNKED` for a chunked one, 0 for none.
        persistent: whether the client is willing to use the connection again.
        expects_continue: whether the client waits for 100 (Continue) before it sends the body.
        line: method and target as received, with the space between.
        rest: the bytes of the head behind the target, from the space before the version to the empty line.
        size: bytes that the head took in the buffer.
        memo: what was worked out of the fields, for whoever wants to keep it: all requests that repeat a head
            have the same one. None for a request that does not repeat the one before on its connection.
    """

    __slots__ = (
        "content_length",
        "expects_continue",
        "fields",
        "line",
        "memo",
        "method",
        "path",
        "persistent",
        "query",
        "rest",
        "size",
        "target",
        "underscored",
        "version",
    )

    line: bytes | bytearray
    content_length: int
    persistent: bool
    expects_continue: bool

    def __init__(
        self,
        method: str,
        target: str,
        version: str,
        path: str,
        query: str,
        fields: Mapping[str, str],
        underscored: Mapping[str, list[str]],
        rest: bytes,
        size: int,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.path = path
        self.query = query
        self.fields = fields
        self.underscored = underscored
        self.rest = rest
        self.size = size
        self.memo: dict[str, Any] | None = None

    @property
    def raw(self) -> bytes:
        """The bytes of the head, without the empty line that ends it."""
        return bytes(self.line) + self.rest[: -len(END)]

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Return the fields as sent: lower-cased name and trimmed value, in order (as ASGI wants)."""
        lines = (line.partition(b":") for line in self.rest[: -len(END)].split(b"\r\n")[1:])
        return [(name.lower(), value.strip(b" \t")) for name, _, value in lines]

    def lines(self, key: str) -> list[str]:
        """Return the values of one field before its lines were joined.

        Args:
            key: the CGI name of the field.
        """
        pairs = [(str(name, "latin-1"), value) for name, value in self.pairs() if b"_" not in name]
        return [str(value, "latin-1") for name, value in pairs if _cgi_name(name) == key]


def parse_head(buffer: bytes | bytearray, limits: Limits, scan_from: int = 0) -> Request | None:
    """Parse the request head at the start of a buffer (RFC 9112 §2 to §6).

    Args:
        buffer: what was received and not consumed yet.
        limits: what the peer may send.
        scan_from: where to look for the end of the head; what is before was looked through already.

    Returns:
        The request, or None when the buffer does not hold the whole head yet.

    Raises:
        ProtocolError: the head, or what there is of it, must be refused: 400, 414 (request line),
            417 (expectation), 431 (fields), 501 (method, transfer coding) or 505 (version).
    """
    end = buffer.find(END, scan_from)
    if end < 0:
        _check_partial(buffer, limits, scan_from)
        return None
    if buffer[0] not in grammar.TOKEN_FIRST:
        raise ProtocolError("a request cannot start with this byte")
    size = end + len(END)
    raw = buffer[:end]
    text = str(raw, "latin-1")
    if size > limits.ample:
        _check_sizes(text.split("\r\n"), size, limits)
    # splitlines() is the quicker one, and the same for ASCII: the next check makes sure that there is no line
    # end but CRLF. In latin-1 there is one more (NEL) among what values may hold.
    lines = text.splitlines() if text.isascii() else text.split("\r\n")
    # One pass at C speed: what is left after deleting all that may be in a line must be exactly
    # the line ends. Refuses NUL, control bytes, bare CR and bare LF (RFC 9112 §2.2, RFC 9110 §5.5).
    if raw.translate(None, grammar.FIELD_BYTES) != b"\r\n" * (len(lines) - 1):
        raise ProtocolError("control byte, bare CR or bare LF in the head")
    method, target, version = _parse_request_line(lines.pop(0))
    if limits.fields and len(lines) > limits.fields:
        raise ProtocolError("too many header fields", 431)
    fields, underscored = _parse_fields(lines)
    path, query = _parse_target(method, target, version, fields)
    at = len(method) + len(target) + 1
    rest = buffer[at:size]
    if isinstance(rest, bytearray):
        rest = bytes(rest)
    request = Request(method, target, version, path, query, fields, underscored, rest, size)
    request.line = raw[:at]
    framing.frame_request(request, fields)
    return request


def _check_partial(buffer: bytes | bytearray, limits: Limits, scan_from: int) -> None:
    """Refuse a head that is not whole yet but cannot become acceptable any more.

    Decides exactly as `parse_head` does for a whole head, in the same order, so that the answer
    does not depend on how the bytes were split on their way.
    """
    if not buffer:
        return
    if buffer[0] not in grammar.TOKEN_FIRST:
        raise ProtocolError("a request cannot start with this byte")
    # Once is enough: what was scanned before was checked then.
    first = limits.line + 2
    if limits.line and scan_from < first <= len(buffer) and buffer.find(b"\r\n", 0, first) < 0:
        raise ProtocolError("request line too long", 414)
    if len(buffer) >= limits.head:
        raise ProtocolError("request head too large", 431)


def _parse_request_line(line: str) -> tuple[str, str, str]:
    """RFC 9112 §3: method SP request-target SP HTTP-version, single spaces and nothing else."""
    try:
        method, target, version = line.split(" ")
    except ValueError:
        raise ProtocolError("malformed request line") from None
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        if grammar.VERSION.fullmatch(version):
            raise ProtocolError("HTTP version not supported", 505)
        raise ProtocolError("malformed HTTP version")
    if method not in COMMON_METHODS:
        _check_method(method)
    return method, target, version


def _check_method(method: str) -> None:
    """RFC 9110 §9.1: a token, or 400; one that nobody can implement, 501."""
    if not grammar.TOKEN.fullmatch(method):
        raise ProtocolError("malformed method")
    if len(method) > METHOD_LENGTH or not grammar.METHOD.fullmatch(method):
        raise ProtocolError("method not implemented", 501)


def _parse_fields(lines: list[str]) -> tuple[dict[str, str], Mapping[str, list[str]]]:
    """RFC 9112 §5: each line is name, colon, value; only SP and HTAB are trimmed from the value."""
    names = _names
    fields: dict[str, str] = {}
    try:
        for line in lines:
            name, colon, value = line.partition(": ")
            if not colon:
                break
            fields[names[name]] = value.strip(" \t")
    except KeyError:
        pass
    # Nearly every head ends here: known names, each once, and a space behind each colon. Whatever else
    # there may be is decided line by line.
    return (fields, NO_LINES) if len(fields) == len(lines) else _decide_fields(lines)


def _decide_fields(lines: list[str]) -> tuple[dict[str, str], Mapping[str, list[str]]]:
    fields: dict[str, str] = {}
    underscored: dict[str, list[str]] = {}
    repeated: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        key = _field_key(name, colon)
        if key is None:
            underscored.setdefault(name.upper(), []).append(value)
        elif key in fields:
            repeated.append((key, value))
        else:
            fields[key] = value
    if repeated:
        _join(fields, repeated)
    return fields, underscored


def _check_sizes(lines: list[str], size: int, limits: Limits) -> None:
    """RFC 9112 §3: 414 for the line; RFC 6585 §5: 431 for fields larger than the server wants to process."""
    if limits.line and len(lines[0]) > limits.line:
        raise ProtocolError("request line too long", 414)
    if size > limits.head:
        raise ProtocolError("request head too large", 431)
    if limits.field_size and any(len(line) > limits.field_size for line in lines[1:]):
        raise ProtocolError("header field too large", 431)


def _field_key(name: str, colon: str) -> str | None:
    """Return the CGI name of a field not seen before, None when it has an underscore."""
    global _names  # noqa: PLW0603 - a cache that is replaced as a whole
    key = _names.get(name)
    if key is not None and colon:
        return key
    if not colon:
        raise ProtocolError("header line without a colon")
    if not grammar.TOKEN.fullmatch(name):
        # An empty name, a space before the colon (RFC 9112 §5.1) or a folded line (§5.2) too.
        raise ProtocolError("malformed header field name")
    if "_" in name:
        return None
    key = _cgi_name(name)
    if len(name) <= _NAME_LENGTH_KEPT:
        if len(_names) >= _NAMES_KEPT:
            # A peer that invents names must not make everybody's names slow for ever. A new
            # dictionary, because other threads may be reading the old one.
            _names = dict(_SEED)
        _names[name] = key
    return key


def _join(fields: dict[str, str], repeated: list[tuple[str, str]]) -> None:
    """Join the lines of one name, or refuse them (RFC 9110 §5.3)."""
    # All at once: joining them one by one copies the growing value each time, which is quadratic.
    lines: dict[str, list[str]] = {}
    for key, value in repeated:
        lines.setdefault(key, [fields[key]]).append(value)
    if not grammar.SINGLETONS.isdisjoint(lines):
        raise ProtocolError("duplicate Host or Content-Type")
    for key, values in lines.items():
        # RFC 6265 §5.4 has one Cookie line; HTTP/2 gateways that split it join it with "; ".
        fields[key] = ("; " if key == "HTTP_COOKIE" else ", ").join(values)


def _parse_target(method: str, target: str, version: str, fields: dict[str, str]) -> tuple[str, str]:
    """RFC 9112 §3.2: the four forms of a request target, and the Host that goes with them.

    Returns:
        Path and query.
    """
    path = query = ""
    if grammar.ORIGIN_FORM.fullmatch(target):
        path, _, query = target.partition("?")
    elif method == "CONNECT":
        _check_authority(target)
    elif target == "*":
        if method != "OPTIONS":
            raise ProtocolError("asterisk-form is for OPTIONS only")
        path = "*"
    else:
        path, query = _parse_absolute(method, target, version, fields)
    if path and method == "CONNECT":
        raise ProtocolError("CONNECT needs authority-form")
    _check_host(version, fields)
    return path, query


def _check_authority(target: str) -> None:
    """RFC 9112 §3.2.3: host and port, both present."""
    port = target.rpartition(":")[2]
    if port == target or not port.isdecimal() or not _host_is_valid(target):
        raise ProtocolError("CONNECT needs host and port")


def _parse_absolute(method: str, target: str, version: str, fields: dict[str, str]) -> tuple[str, str]:
    """RFC 9112 §3.2.2: the authority of an absolute-form target replaces the Host received."""
    match = grammar.ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise ProtocolError("malformed request target")
    authority, rest = match[1], match[2]
    path, _, query = rest.partition("?")
    if version == "HTTP/1.1" and "HTTP_HOST" not in fields:
        raise ProtocolError("Host is missing")
    if not _host_is_valid(fields.get("HTTP_HOST", authority)):
        raise ProtocolError("malformed Host")
    fields["HTTP_HOST"] = authority  # checked next, like any other
    # RFC 9112 §3.2.4: OPTIONS on an absolute-form without a path means the server itself.
    return path or ("*" if method == "OPTIONS" and not query else "/"), query


def _check_host(version: str, fields: dict[str, str]) -> None:
    """RFC 9112 §3.2: exactly one well-formed Host in HTTP/1.1; at most one in HTTP/1.0."""
    host = fields.get("HTTP_HOST")
    if host is None:
        if version == "HTTP/1.1":
            raise ProtocolError("Host is missing")
    elif host not in _hosts:
        if not _host_is_valid(host):
            raise ProtocolError("malformed Host")
        if len(host) <= _NAME_LENGTH_KEPT:
            if len(_hosts) >= _HOSTS_KEPT:
                _hosts.clear()  # whoever invents hosts must not make everybody's slow for ever
            _hosts.add(host)


def _host_is_valid(host: str) -> bool:
    match = grammar.HOST.fullmatch(host)
    if match is None or (match[2] and int(match[2]) > 65535):
        return False
    return host[0] != "[" or _is_ipv6(match[1][1:-1])


def _is_ipv6(address: str) -> bool:
    # Imported here: hardly anybody calls a server by such a name, and the module costs 3 ms of start.
    from ipaddress import IPv6Address

    try:
        IPv6Address(address)
    except ValueError:
        return False
    return True
