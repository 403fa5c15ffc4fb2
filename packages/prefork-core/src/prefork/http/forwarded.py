# SPDX-License-Identifier: MIT
"""What a proxy may say about its client, and who counts as a proxy.

Decides three things of a request: the scheme its client used, the SCRIPT_NAME, and which fields
with an underscore in their name reach the application. All else stays as it came: fields like
`X-Forwarded-For` are visible to the application whoever sent them, REMOTE_ADDR is always the peer,
and a WSGI application that reads those fields has to know its proxies itself (as under gunicorn). Worker
classes whose applications expect that of the server can ask for the address of the client.
A field PATH_INFO never changes the path: where a proxy passes it through, every client could name
a path that the proxy has not checked.

Knows nothing of sockets and settings; gunicorn's semantics unless said otherwise.
"""

from __future__ import annotations

import re
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from prefork.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

EVERYONE: Final = "*"

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_MAPPED: Final = "::ffff:"
_VERDICTS_KEPT: Final = 1024
_ADDRESSES_KEPT: Final = 1024
"""Clients whose addresses were parsed; it takes 5 µs, and most of them ask more than once."""

_REQUEST_START: Final = re.compile(r"(?:t=)?([0-9]{9,19}(?:\.[0-9]{1,9})?)")
_UNITS: Final = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
"""Below what number it has how many units a second: seconds until the year 5138, then milliseconds…"""


class TrustedPeers:
    """The peers whose proxy fields count.

    Args:
        allowed: IP addresses, CIDR networks, or "*" for everyone.

    Raises:
        ValueError: an entry is none of these, or a network has bits set behind its prefix.
    """

    __slots__ = ("_everyone", "_exact", "_networks", "_verdicts")

    def __init__(self, allowed: Sequence[str]) -> None:
        self._everyone = EVERYONE in allowed
        self._exact = frozenset(_LOOPBACK.intersection(allowed)) | {""}
        self._networks: list[IPv4Network | IPv6Network] = []
        self._verdicts: dict[str, bool] = {}
        for entry in allowed:
            if entry != EVERYONE and entry not in _LOOPBACK:
                self._add(entry)

    def _add(self, entry: str) -> None:
        network = _network(entry)
        if network.num_addresses == 1:
            self._exact |= {str(network.network_address)}
        else:
            self._networks.append(network)

    def trusts(self, address: str) -> bool:
        """Return whether the proxy fields of a peer count.

        Args:
            address: the peer's IP address as the kernel says it; "" for a Unix socket, whose access
                rights have decided already who may connect.
        """
        if address in self._exact or self._everyone:
            return True
        try:
            return self._verdicts[address]
        except KeyError:
            return self._decide(address)

    def _decide(self, address: str) -> bool:
        # A listener on [::] sees IPv4 peers as ::ffff:192.0.2.1 (RFC 4291 §2.5.5.2); link-local ones
        # carry their interface (RFC 4007 §11), which no entry names.
        plain = address.partition("%")[0]
        name = plain.removeprefix(_MAPPED)
        verdict = (bool(name) and name in self._exact) or (bool(self._networks) and self._in_network(plain))
        if len(self._verdicts) >= _VERDICTS_KEPT:
            self._verdicts = {}  # a new one: another thread may be reading the old one
        self._verdicts[address] = verdict
        return verdict

    def _in_network(self, address: str) -> bool:
        from ipaddress import IPv6Address, ip_address

        try:
            ip = ip_address(address)
        except ValueError:
            return False
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        return any(ip in network or (mapped is not None and mapped in network) for network in self._networks)


def _network(entry: str) -> IPv4Network | IPv6Network:
    """Return an entry as a network, IPv4-mapped IPv6 ones as the IPv4 network they mean."""
    # Imported here: the default entries need no parsing, and the module costs 3 ms of start.
    from ipaddress import IPv4Network, IPv6Network, ip_network

    try:
        network = ip_network(entry)
    except ValueError as error:
        raise ValueError(f"not an IP address, a CIDR network or {EVERYONE!r}: {entry!r} ({error})") from None
    if isinstance(network, IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return IPv4Network((mapped, network.prefixlen - 96))
    return network


class Forwarded(NamedTuple):
    """What is believed of a request beyond its own connection.

    Attributes:
        scheme: "http" or "https".
        script_name: the path below which the proxy has mounted the application, "" for the root.
        fields: the permitted fields with an underscore in their name, by CGI name ("HTTP_REMOTE_USER").
    """

    scheme: str
    script_name: str
    fields: Mapping[str, str]


_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_PLAIN: Final = {scheme: Forwarded(scheme, "", _NONE) for scheme in ("http", "https")}


class Head(Protocol):
    """What has the fields of a request, as `prefork.http.Request` does."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Values by CGI name, those of repeated lines joined."""

    @property
    def underscored(self) -> Mapping[str, list[str]]:
        """The values of lines with an underscore in their name, by upper-case name."""

    def lines(self, key: str) -> list[str]:
        """Return the values of one field before its lines were joined."""


class Fields:
    """The fields of a request that another HTTP than prefork's has read.

    Args:
        pairs: names and values, as received.

    Attributes:
        fields, underscored: see `prefork.http.Request`.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._lines: dict[str, list[str]] = {}
        self.underscored: dict[str, list[str]] = {}
        for name, value in pairs:
            if "_" in name:
                self.underscored.setdefault(name.upper(), []).append(value)
            else:
                self._lines.setdefault("HTTP_" + name.upper().replace("-", "_"), []).append(value)
        self.fields = {key: ", ".join(lines) for key, lines in self._lines.items()}

    def lines(self, key: str) -> list[str]:
        """Return the values of one field before they were joined.

        Args:
            key: the CGI name of the field.
        """
        return self._lines.get(key, [])


class ForwardPolicy:
    """What is believed of whom.

    Args:
        allowed: see `TrustedPeers`.
        secure_scheme_headers: upper-case field names, and of each the one value that means https; the
            comparison is exact, and any other value means http.
        forwarder_headers: upper-case names with an underscore which a trusted peer may send, "*" for any.
        header_map: what becomes of others with an underscore: "drop", or "refuse" the request.

    Raises:
        ValueError: an entry of `allowed` is not an address, or `header_map` is neither.
    """

    __slots__ = ("_any", "_drop", "_forwarder", "_peers", "_schemes", "_underscored_schemes")

    def __init__(
        self,
        allowed: Sequence[str],
        secure_scheme_headers: Mapping[str, str],
        forwarder_headers: Sequence[str],
        header_map: str,
    ) -> None:
        if header_map not in {"drop", "refuse"}:
            raise ValueError(f"header_map is neither 'drop' nor 'refuse': {header_map!r}")
        self._peers = TrustedPeers(allowed)
        self._drop = header_map == "drop"
        self._any = EVERYONE in forwarder_headers
        self._forwarder = frozenset(forwarder_headers)
        pairs = secure_scheme_headers.items()
        self._schemes = tuple(("HTTP_" + n.replace("-", "_"), v) for n, v in pairs if "_" not in n)
        self._underscored_schemes = tuple((n, v) for n, v in pairs if "_" in n)

    def trusts(self, peer: str) -> bool:
        """Return whether a peer counts as a proxy; see `TrustedPeers.trusts`."""
        return self._peers.trusts(peer)

    def apply(self, request: Head, peer: str) -> Forwarded:
        """Return what is believed of a request.

        Args:
            request: its head.
            peer: the peer's address, "" for a Unix socket.

        Raises:
            ProtocolError: the fields contradict each other, or one has an underscore in its name and
                `header_map` is "refuse".
        """
        if request.underscored:
            return self._apply_all(request, trusted=self._peers.trusts(peer))
        fields = request.fields
        for key, _ in self._schemes:
            if key in fields:
                break
        else:
            return _PLAIN["http"]
        return _PLAIN[self.scheme(request) if self._peers.trusts(peer) else "http"]

    def client(self, request: Head, peer: str) -> str:
        """Return the address of the client: the nearest one in X-Forwarded-For that is no trusted proxy.

        Each proxy adds whom it has met at the end. So the last entry is a trusted peer's word, the one before
        that of the proxy which the last entry names, and so on; what a client has written itself is further
        to the front. If all are trusted it is the first.

        Args:
            request: its head.
            peer: the peer's address, "" for a Unix socket; returned if it is not trusted, or says nothing.
        """
        found = peer
        if self._peers.trusts(peer):
            for entry in reversed(request.fields.get("HTTP_X_FORWARDED_FOR", "").split(",")):
                address = _address(entry)
                if not address:
                    break  # "unknown" or a name (RFC 7239 §6): whose word the next one is nobody can say
                found = address
                if not self._peers.trusts(address):
                    break
        return found

    def scheme(self, request: Head) -> str:
        """Return the scheme that the fields of a trusted peer name.

        Raises:
            ProtocolError: they contradict each other: one of them was not set by the proxy.
        """
        fields = request.fields
        found = set()
        for key, secure in self._schemes:
            value = fields.get(key)
            if value == secure:
                found.add("https")
            elif value is not None:
                # Lines of one name were joined; each speaks for itself, so take them apart again.
                lines = request.lines(key) if ", " in value else [value]
                found.update("https" if line == secure else "http" for line in lines)
        for name, secure in self._underscored_schemes:
            lines = request.underscored.get(name, [])
            found.update("https" if line == secure else "http" for line in lines)
        if len(found) > 1:
            raise ProtocolError("fields contradict each other about the scheme")
        return found.pop() if found else "http"

    def _apply_all(self, request: Head, *, trusted: bool) -> Forwarded:
        permitted = {}
        for name, lines in request.underscored.items():
            if trusted and (self._any or name in self._forwarder):
                key = "HTTP_" + name.replace("-", "_")
                if key in request.fields or key in permitted:
                    # gunicorn joins them; but which of them has the proxy checked?
                    raise ProtocolError("one field in two spellings")
                permitted[key] = ", ".join(lines)
            elif not self._drop:
                raise ProtocolError("underscore in a header field name")
        scheme = self.scheme(request) if trusted else "http"
        if not permitted:
            return _PLAIN[scheme]
        # PEP 3333: SCRIPT_NAME is what comes before the "/" of PATH_INFO, so it does not end in one.
        return Forwarded(scheme, permitted.get("HTTP_SCRIPT_NAME", "").rstrip("/"), permitted)


@lru_cache(_ADDRESSES_KEPT)
def _address(entry: str) -> str:
    """Return the IP address of an entry of X-Forwarded-For, which some proxies give a port; "" for none."""
    from ipaddress import ip_address

    text = entry.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def request_start(value: str) -> float | None:
    """Return when a request arrived at a proxy, in seconds since the epoch; None for what is no time.

    Args:
        value: of X-Request-Start. No RFC has it: nginx writes `t=1700000000.123`, others milliseconds
            (HAProxy, Heroku), microseconds (Apache) or nanoseconds, so the size of the number decides.
    """
    match = _REQUEST_START.fullmatch(value)
    if match is None:
        return None
    number = float(match[1])
    return next((number / units for below, units in _UNITS if number < below), None)


def path_info(path: str, script_name: str) -> str:
    """Return the part of a path that is the application's (RFC 3875 §4.1.5, §4.1.13).

    Args:
        path: the path of the request.
        script_name: where the application is mounted, "" for the root.

    Raises:
        ProtocolError: 500, as under gunicorn, when the path is not below `script_name`: proxy and server
            are configured for different places. Also where gunicorn cuts "/app" off "/apple".
    """
    rest = path.removeprefix(script_name)
    if script_name and (len(rest) == len(path) or rest[:1] not in {"", "/"}):
        raise ProtocolError("the path is not below SCRIPT_NAME", 500)
    return rest
