# SPDX-License-Identifier: MIT
from __future__ import annotations

import ipaddress
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ProtocolError
from prefork.http import Limits, Request, parse_head
from prefork.http.forwarded import Forwarded, ForwardPolicy, TrustedPeers, path_info, request_start

PROXY = "192.0.2.1"
STRANGER = "198.51.100.1"
SCHEMES = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}


def policy(
    *,
    allowed: tuple[str, ...] = (PROXY,),
    schemes: dict[str, str] = SCHEMES,
    forwarder: tuple[str, ...] = ("SCRIPT_NAME", "PATH_INFO"),
    header_map: str = "drop",
) -> ForwardPolicy:
    """Return the policy of gunicorn's defaults, but for one proxy."""
    return ForwardPolicy(allowed, schemes, forwarder, header_map)


def request(*lines: bytes) -> Request:
    """Parse a request with these field lines besides Host."""
    block = b"".join(line + b"\r\n" for line in (b"Host: a", *lines))
    found = parse_head(b"GET /app/x HTTP/1.1\r\n" + block + b"\r\n", Limits())
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------------ peers

TRUSTED = {
    "IPv4": (("192.0.2.1",), "192.0.2.1"),
    "IPv6": (("2001:db8::1",), "2001:db8::1"),
    "IPv6 spelled otherwise": (("2001:DB8:0::1",), "2001:db8::1"),
    "one of several": (("10.0.0.1", "192.0.2.1"), "192.0.2.1"),
    "IPv4 network": (("192.0.2.0/24",), "192.0.2.255"),
    "IPv6 network": (("2001:db8::/32",), "2001:db8:1::1"),
    "network of one": (("192.0.2.1/32",), "192.0.2.1"),
    "network of all": (("0.0.0.0/0",), "192.0.2.1"),
    "IPv4 through an IPv6 listener": (("127.0.0.1",), "::ffff:127.0.0.1"),
    "IPv4 network through an IPv6 listener": (("10.0.0.0/8",), "::ffff:10.1.2.3"),
    "mapped entry, plain peer": (("::ffff:10.0.0.1",), "10.0.0.1"),
    "mapped network, mapped peer": (("::ffff:10.0.0.0/104",), "::ffff:10.1.2.3"),
    "all that is mapped": (("::ffff:0:0/96",), "10.1.2.3"),
    "mapped peer in an IPv6 network": (("::/0",), "::ffff:10.1.2.3"),
    "link-local through an interface": (("fe80::/10",), "fe80::1%eth0"),
    "link-local address through an interface": (("fe80::1",), "fe80::1%eth0"),
    "everyone": (("*",), "192.0.2.1"),
    "everyone, and others named": (("10.0.0.1", "*"), "192.0.2.1"),
    "Unix socket": (("192.0.2.1",), ""),
    "Unix socket, nobody named": ((), ""),
}


@pytest.mark.parametrize(("allowed", "peer"), TRUSTED.values(), ids=TRUSTED.keys())
def test_trusts(allowed: tuple[str, ...], peer: str) -> None:
    peers = TrustedPeers(allowed)
    assert [peers.trusts(peer) for _ in range(2)] == [True, True]


UNTRUSTED = {
    "another address": (("192.0.2.1",), "192.0.2.2"),
    "prefix of an address": (("192.0.2.1",), "192.0.2.11"),
    "outside of the network": (("192.0.2.0/24",), "192.0.3.1"),
    "IPv4 is in no IPv6 network": (("::/0",), "192.0.2.1"),
    "IPv6 is in no IPv4 network": (("0.0.0.0/0",), "2001:db8::1"),
    "mapped, not allowed": (("127.0.0.1",), "::ffff:127.0.0.2"),
    "mapped nothing": (("127.0.0.1",), "::ffff:"),
    "only an interface": (("127.0.0.1",), "%eth0"),
    "no address": (("10.0.0.0/8",), "localhost"),
    "nobody named": ((), "127.0.0.1"),
}


@pytest.mark.parametrize(("allowed", "peer"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
def test_does_not_trust(allowed: tuple[str, ...], peer: str) -> None:
    peers = TrustedPeers(allowed)
    assert [peers.trusts(peer) for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    "entry",
    ["localhost", "192.0.2", "192.0.2.1/33", "192.0.2.1/24", "::1/129", "", " 127.0.0.1", "a/8", "**"],
)
def test_entry_that_is_no_address_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="not an IP address") as caught:
        TrustedPeers(("127.0.0.1", entry))
    assert repr(entry) in str(caught.value)


def spelled(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as the kernel says it."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


@given(st.ip_addresses(), st.integers(0, 128))
def test_agrees_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int) -> None:
    """Any address is in its own network, and those far away only if it is large enough."""
    network = ipaddress.ip_network(f"{address}/{min(prefix, address.max_prefixlen)}", strict=False)
    peers = TrustedPeers((str(network),))
    assert peers.trusts(spelled(address))
    for other in map(ipaddress.ip_address, ("203.0.113.77", "2001:db8:ffff::77")):
        assert peers.trusts(str(other)) == (other in network)


def test_verdicts_kept_are_bounded() -> None:
    """A million clients must not stay in memory."""
    peers = TrustedPeers(("10.0.0.0/8",))
    for number in range(5000):
        assert peers.trusts(f"10.0.{number // 250}.{number % 250}")
        assert not peers.trusts(f"11.0.{number // 250}.{number % 250}")
    assert len(peers._verdicts) <= 1024


def test_defaults_do_not_import_ipaddress() -> None:
    program = (
        "import sys; from prefork.http.forwarded import TrustedPeers;"
        "peers = TrustedPeers(('127.0.0.1', '::1'));"
        "assert peers.trusts('::1') and not peers.trusts('192.0.2.1');"
        "sys.exit('ipaddress' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ----------------------------------------------------------------------------------------------- scheme

TRUSTED_SCHEMES = {
    "no field": ([], "http"),
    "one that means https": ([b"X-Forwarded-Proto: https"], "https"),
    "another one": ([b"X-Forwarded-Ssl: on"], "https"),
    "old spelling": ([b"X-Forwarded-Protocol: ssl"], "https"),
    "names in any case": ([b"x-forwarded-proto: https"], "https"),
    "one that means http": ([b"X-Forwarded-Proto: http"], "http"),
    "values are exact": ([b"X-Forwarded-Proto: HTTPS"], "http"),
    "empty": ([b"X-Forwarded-Proto:"], "http"),
    "all agree on https": ([b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: on"], "https"),
    "all agree on http": ([b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: off"], "http"),
    "two equal lines": ([b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: https"], "https"),
    "two lines that mean http": ([b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: ws"], "http"),
    "a list in one line is not the value": ([b"X-Forwarded-Proto: https, http"], "http"),
    "a list of equals in one line neither": ([b"X-Forwarded-Proto: https, https"], "http"),
    "one with an underscore is another name": ([b"X_Forwarded_Proto: https"], "http"),
    "it does not contradict either": ([b"X-Forwarded-Proto: https", b"X_Forwarded_Proto: http"], "https"),
}


@pytest.mark.parametrize(("lines", "scheme"), TRUSTED_SCHEMES.values(), ids=TRUSTED_SCHEMES.keys())
def test_scheme_of_a_trusted_peer(lines: list[bytes], scheme: str) -> None:
    assert policy().apply(request(*lines), PROXY).scheme == scheme
    assert policy().apply(request(*lines), "").scheme == scheme


CONTRADICTIONS = {
    "two fields": [b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: on"],
    "two lines of one": [b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http"],
    "the client's line beside the proxy's": [b"X-Forwarded-Ssl: on", b"X-Forwarded-Ssl:"],
    "a line and a list": [b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: https, http"],
}


@pytest.mark.parametrize("lines", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_contradiction_of_a_trusted_peer_is_400(lines: list[bytes]) -> None:
    with pytest.raises(ProtocolError) as caught:
        policy().apply(request(*lines), PROXY)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "lines", [*(lines for lines, _ in TRUSTED_SCHEMES.values()), *CONTRADICTIONS.values()]
)
def test_scheme_fields_of_a_stranger_do_not_count(lines: list[bytes]) -> None:
    assert policy().apply(request(*lines), STRANGER) == Forwarded("http", "", {})


def test_only_the_configured_fields_count() -> None:
    told = policy(schemes={"X-SCHEME": "https"})
    assert told.apply(request(b"X-Scheme: https"), PROXY).scheme == "https"
    assert told.apply(request(b"X-Forwarded-Proto: https"), PROXY).scheme == "http"
    assert policy(schemes={}).apply(request(b"X-Forwarded-Proto: https"), PROXY).scheme == "http"


def test_scheme_field_with_an_underscore_counts_when_it_is_configured() -> None:
    told = policy(schemes={"X_SCHEME": "https"})
    assert told.apply(request(b"X_Scheme: https"), PROXY).scheme == "https"
    assert told.apply(request(b"X-Scheme: https"), PROXY).scheme == "http"
    assert told.apply(request(b"X_Scheme: https"), STRANGER).scheme == "http"


def test_fields_of_a_proxy_stay_visible_whoever_sent_them() -> None:
    """As under gunicorn: only the scheme is decided here."""
    seen = request(b"X-Forwarded-For: 192.0.2.9", b"X-Forwarded-Proto: https")
    policy().apply(seen, STRANGER)
    assert seen.fields["HTTP_X_FORWARDED_FOR"] == "192.0.2.9"
    assert seen.fields["HTTP_X_FORWARDED_PROTO"] == "https"


# ------------------------------------------------------------------------------------------ underscores


def test_script_name_of_a_trusted_peer_counts() -> None:
    forwarded = policy().apply(request(b"Script_Name: /app"), PROXY)
    assert forwarded == Forwarded("http", "/app", {"HTTP_SCRIPT_NAME": "/app"})


@pytest.mark.parametrize(("value", "script_name"), [(b"", ""), (b"/", ""), (b"/app/", "/app")])
def test_script_name_does_not_end_in_a_slash(value: bytes, script_name: str) -> None:
    """3333: PATH_INFO begins with it."""
    assert policy().apply(request(b"SCRIPT_NAME: " + value), PROXY).script_name == script_name


def test_script_name_with_a_dash_is_an_ordinary_field() -> None:
    assert policy().apply(request(b"Script-Name: /app"), PROXY).script_name == ""


@pytest.mark.parametrize(
    ("line", "client"),
    [
        (b"X-Forwarded-For: 198.51.100.7", "198.51.100.7"),
        (b"X-Forwarded-For: 203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (b"X-Forwarded-For: 203.0.113.9,198.51.100.7 , 192.0.2.1,192.0.2.2", "198.51.100.7"),
        (b"X-Forwarded-For: 192.0.2.3, 192.0.2.1", "192.0.2.3"),
        (b"X-Forwarded-For: 198.51.100.7:4711", "198.51.100.7"),
        (b"X-Forwarded-For: [2001:db8::7]:4711", "2001:db8::7"),
        (b"X-Forwarded-For: 2001:DB8:0::7", "2001:db8::7"),
        (b"X-Forwarded-For: 198.51.100.7, unknown", "192.0.2.1"),
        (b"X-Forwarded-For: unknown, 192.0.2.2", "192.0.2.2"),
        (b"X-Forwarded-For: ", "192.0.2.1"),
        (b"X-Real-IP: 198.51.100.7", "192.0.2.1"),
    ],
)
def test_client_is_the_nearest_one_that_is_no_proxy(line: bytes, client: str) -> None:
    assert policy(allowed=("192.0.2.0/24",)).client(request(line), "192.0.2.1") == client


def test_client_of_several_lines_is_in_the_last() -> None:
    lines = request(b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-For: 198.51.100.7")
    assert policy(allowed=("192.0.2.1",)).client(lines, "192.0.2.1") == "198.51.100.7"


def test_client_is_the_peer_where_that_is_not_trusted() -> None:
    assert (
        policy(allowed=("192.0.2.1",)).client(request(b"X-Forwarded-For: 198.51.100.7"), "192.0.2.9")
        == "192.0.2.9"
    )


def test_client_behind_a_unix_socket_is_known_by_the_field_only() -> None:
    assert policy().client(request(b"X-Forwarded-For: 198.51.100.7"), "") == "198.51.100.7"
    assert policy().client(request(b"Accept: */*"), "") == ""


def test_path_info_is_a_field_and_changes_no_path() -> None:
    """Where a proxy passes it through, every client could name a path that the proxy has not checked."""
    forwarded = policy().apply(request(b"PATH_INFO: /admin"), PROXY)
    assert forwarded == Forwarded("http", "", {"HTTP_PATH_INFO": "/admin"})


def test_scheme_and_script_name_come_together() -> None:
    forwarded = policy().apply(request(b"X-Forwarded-Proto: https", b"SCRIPT_NAME: /app"), PROXY)
    assert (forwarded.scheme, forwarded.script_name) == ("https", "/app")


def test_permitted_names_reach_the_application() -> None:
    told = policy(forwarder=("REMOTE_USER",))
    forwarded = told.apply(request(b"Remote_User: ann", b"X_Other: b", b"SCRIPT_NAME: /app"), PROXY)
    assert forwarded == Forwarded("http", "", {"HTTP_REMOTE_USER": "ann"})


def test_star_permits_every_name() -> None:
    forwarded = policy(forwarder=("*",)).apply(request(b"X_A: 1", b"x_a: 2", b"Y-B_C: 3"), PROXY)
    assert forwarded.fields == {"HTTP_X_A": "1, 2", "HTTP_Y_B_C": "3"}


@pytest.mark.parametrize(
    "lines",
    [[b"X_Forwarded_For: 1", b"X-Forwarded-For: 2"], [b"X_A-B: 1", b"X-A_B: 2"], [b"X_A-B: 1", b"X_A_B: 2"]],
)
def test_two_spellings_of_one_name_are_400(lines: list[bytes]) -> None:
    """CGI would make one field of them (3875 §4.1.18); which of them has the proxy set?"""
    with pytest.raises(ProtocolError):
        policy(forwarder=("*",)).apply(request(*lines), PROXY)


def test_permission_is_for_the_name_as_it_is_spelled() -> None:
    forwarded = policy(forwarder=("X_A_B",)).apply(request(b"X-A_B: 1"), PROXY)
    assert forwarded.fields == {}


@pytest.mark.parametrize("line", [b"SCRIPT_NAME: /app", b"X_A: b", b"Content_Length: 5"])
def test_underscored_fields_of_a_stranger_are_dropped_or_refused(line: bytes) -> None:
    """header_map, as in gunicorn."""
    assert policy().apply(request(line), STRANGER) == Forwarded("http", "", {})
    with pytest.raises(ProtocolError) as caught:
        policy(header_map="refuse").apply(request(line), STRANGER)
    assert caught.value.status == 400


def test_refuse_lets_permitted_names_of_a_trusted_peer_pass() -> None:
    told = policy(header_map="refuse")
    assert told.apply(request(b"SCRIPT_NAME: /app"), PROXY).script_name == "/app"
    with pytest.raises(ProtocolError):
        told.apply(request(b"SCRIPT_NAME: /app", b"X_A: b"), PROXY)


def test_unknown_header_map_is_an_error() -> None:
    with pytest.raises(ValueError, match="dangerous"):
        policy(header_map="dangerous")


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("t=1700000000.123", 1_700_000_000.123),
        ("1700000000", 1_700_000_000.0),
        ("1700000000123", 1_700_000_000.123),
        ("t=1700000000123", 1_700_000_000.123),
        ("t=1700000000123456", 1_700_000_000.123456),
        ("1700000000123456789", 1_700_000_000.123456789),
    ],
)
def test_the_begin_of_a_request_in_whatever_unit_a_proxy_writes_it(value: str, seconds: float) -> None:
    assert request_start(value) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    "value",
    ["", "t=", "now", "12345678", "-1700000000", "1e9", "1_700_000_000", "nan", "t=1700000000,123", "1" * 20,
     "1700000000 ", "t=1700000000.", "\u0661700000000"],
)  # fmt: skip
def test_what_is_no_time_is_no_begin_of_a_request(value: str) -> None:
    assert request_start(value) is None


# ------------------------------------------------------------------------------------------------ paths


@pytest.mark.parametrize(
    ("path", "script_name", "rest"),
    [
        ("/app/x", "/app", "/x"),
        ("/app", "/app", ""),
        ("/app/", "/app", "/"),
        ("/x", "", "/x"),
        ("/a/b/c", "/a/b", "/c"),
    ],
)
def test_path_below_script_name(path: str, script_name: str, rest: str) -> None:
    """3875 §4.1.13."""
    assert path_info(path, script_name) == rest


@pytest.mark.parametrize(
    ("path", "script_name"),
    [("/x", "/app"), ("/apple", "/app"), ("/", "/app"), ("*", "/app"), ("/app", "app"), ("", "/a")],
)
def test_path_elsewhere_is_500(path: str, script_name: str) -> None:
    """As under gunicorn: the proxy or the server is configured wrongly, not the client."""
    with pytest.raises(ProtocolError) as caught:
        path_info(path, script_name)
    assert caught.value.status == 500
