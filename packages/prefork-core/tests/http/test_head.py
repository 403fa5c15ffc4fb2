# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import ProtocolError
from prefork.http import Limits, Request, head, parse_head

LIMITS = Limits()


def parse(data: bytes, limits: Limits = LIMITS) -> Request:
    """Parse a head that is whole."""
    request = parse_head(data, limits)
    assert request is not None
    return request


def parse_line(line: bytes) -> Request:
    """Parse a head with this request line and a Host."""
    return parse(line + b"\r\nHost: example.com\r\n\r\n")


def parse_fields(*lines: bytes, version: bytes = b"HTTP/1.1") -> Request:
    """Parse a head with these field lines and nothing else."""
    return parse(b"GET / " + version + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


def refusal(data: bytes, limits: Limits = LIMITS) -> int:
    """Return the status with which a head, or what there is of it, is refused."""
    with pytest.raises(ProtocolError) as caught:
        parse_head(data, limits)
    return caught.value.status


# ------------------------------------------------------------------------------------ request line

REQUEST_LINES = {
    "9112 §3.2.1 origin-form": (b"GET /a?b=1 HTTP/1.1", "GET", "/a", "b=1"),
    "9112 §3.2.1 root": (b"GET / HTTP/1.1", "GET", "/", ""),
    "9112 §3.2.1 empty query": (b"GET /? HTTP/1.1", "GET", "/", ""),
    "9112 §3.2.1 second question mark": (b"GET /a?b?c HTTP/1.1", "GET", "/a", "b?c"),
    "9112 §3.2.1 two slashes are a path, not an authority": (b"GET //evil/x HTTP/1.1", "GET", "//evil/x", ""),
    "9112 §3.2.1 percent stays encoded": (b"GET /%2F%zz HTTP/1.1", "GET", "/%2F%zz", ""),
    "9112 §3.2.1 what browsers leave as it is": (b'GET /{a}|"^<> HTTP/1.1', "GET", '/{a}|"^<>', ""),
    "9112 §2.3 HTTP/1.0": (b"GET / HTTP/1.0", "GET", "/", ""),
    "9110 §9.1 unknown method": (b"PURGE / HTTP/1.1", "PURGE", "/", ""),
    "9110 §9.1 every tchar but lower case": (b"A!#$%&'*+-.^_`|~9 / HTTP/1.1", "A!#$%&'*+-.^_`|~9", "/", ""),
    "9112 §3.2.2 absolute-form": (b"GET http://a.b:81/c?d HTTP/1.1", "GET", "/c", "d"),
    "9112 §3.2.2 https": (b"GET https://a/ HTTP/1.1", "GET", "/", ""),
    "9110 §4.2.3 scheme in any case": (b"GET HtTp://a/ HTTP/1.1", "GET", "/", ""),
    "9112 §3.2.2 absolute-form without a path": (b"GET http://a HTTP/1.1", "GET", "/", ""),
    "9112 §3.2.2 query without a path": (b"GET http://a?b HTTP/1.1", "GET", "/", "b"),
    "9112 §3.2.4 OPTIONS of the server": (b"OPTIONS * HTTP/1.1", "OPTIONS", "*", ""),
    "9112 §3.2.4 the same through a proxy": (b"OPTIONS http://a HTTP/1.1", "OPTIONS", "*", ""),
    "9112 §3.2.4 OPTIONS of the root": (b"OPTIONS http://a/ HTTP/1.1", "OPTIONS", "/", ""),
    "9112 §3.2.3 authority-form": (b"CONNECT a.b:443 HTTP/1.1", "CONNECT", "", ""),
    "9112 §3.2.3 IPv6 authority": (b"CONNECT [::1]:443 HTTP/1.1", "CONNECT", "", ""),
}


@pytest.mark.parametrize(
    ("line", "method", "path", "query"), REQUEST_LINES.values(), ids=REQUEST_LINES.keys()
)
def test_accepts_request_line(line: bytes, method: str, path: str, query: str) -> None:
    request = parse_line(line)
    assert (request.method, request.path, request.query) == (method, path, query)
    assert [request.method, request.target, request.version] == line.decode().split(" ")


BAD_REQUEST_LINES = {
    "9112 §3 no target": (b"GET HTTP/1.1", 400),
    "9112 §3 no version (HTTP/0.9)": (b"GET /", 400),
    "9112 §3 nothing but a method": (b"GET", 400),
    "9112 §3 space before the method": (b" GET / HTTP/1.1", 400),
    "9112 §3 two spaces before the target": (b"GET  / HTTP/1.1", 400),
    "9112 §3 two spaces before the version": (b"GET /  HTTP/1.1", 400),
    "9112 §3 space behind the version": (b"GET / HTTP/1.1 ", 400),
    "9112 §3 tab for space": (b"GET\t/\tHTTP/1.1", 400),
    "9112 §3 tab in the target": (b"GET /\tx HTTP/1.1", 400),
    "9112 §3.2 space in the target": (b"GET /a b HTTP/1.1", 400),
    "9112 §3.2 vertical tab in the target": (b"GET /\x0bx HTTP/1.1", 400),
    "9112 §3.2 NUL in the target": (b"GET /\x00x HTTP/1.1", 400),
    "9112 §3.2 DEL in the target": (b"GET /\x7f HTTP/1.1", 400),
    "9112 §3.2 raw UTF-8 in the target": ("GET /ü HTTP/1.1".encode(), 400),
    "9112 §3.2 no-break space in the target": (b"GET /\xa0 HTTP/1.1", 400),
    "9112 §3.2.1 fragment": (b"GET /a#b HTTP/1.1", 400),
    "9112 §3.2.1 path without slash": (b"GET index.html HTTP/1.1", 400),
    "9112 §3.2.1 query alone": (b"GET ?a HTTP/1.1", 400),
    "9110 §9.1 lower case method": (b"get / HTTP/1.1", 501),
    "9110 §9.1 method of 33 bytes": (b"M" * 33 + b" / HTTP/1.1", 501),
    "9110 §9.1 method is no token": (b"GE(T / HTTP/1.1", 400),
    "9110 §9.1 method with a colon": (b"GET: / HTTP/1.1", 400),
    "9110 §9.1 method with obs-text": (b"GET\xe9 / HTTP/1.1", 400),
    "9112 §2.3 lower case version": (b"GET / http/1.1", 400),
    "9112 §2.3 no such version": (b"GET / HTTP/1.2", 505),
    "9112 §2.3 HTTP/2": (b"PRI * HTTP/2.0", 505),
    "9112 §2.3 HTTP/0.9 in words": (b"GET / HTTP/0.9", 505),
    "9112 §2.3 two digits": (b"GET / HTTP/1.10", 400),
    "9112 §2.3 leading zero": (b"GET / HTTP/01.1", 400),
    "9112 §2.3 no minor": (b"GET / HTTP/1", 400),
    "9112 §2.3 comma": (b"GET / HTTP/1,1", 400),
    "9112 §2.3 sign": (b"GET / HTTP/+1.1", 400),
    "9112 §2.3 superscript digit": (b"GET / HTTP/1.\xb9", 400),
    "9112 §2.3 another protocol": (b"GET / ICY/1.1", 400),
    "9112 §3.2.4 asterisk for another method": (b"GET * HTTP/1.1", 400),
    "9112 §3.2.4 asterisk with more": (b"OPTIONS *x HTTP/1.1", 400),
    "9112 §3.2.3 authority for another method": (b"GET a.b:443 HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT to a path": (b"CONNECT / HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT to a URL": (b"CONNECT http://a:80/ HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT without port": (b"CONNECT a.b HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT with empty port": (b"CONNECT a.b: HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT to IPv6 without port": (b"CONNECT [::1] HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT to no host": (b"CONNECT :443 HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT to a port that is none": (b"CONNECT a:65536 HTTP/1.1", 400),
    "9112 §3.2.3 CONNECT with userinfo": (b"CONNECT u@a:443 HTTP/1.1", 400),
    "9112 §3.2.2 another scheme": (b"GET ftp://a/ HTTP/1.1", 400),
    "9112 §3.2.2 no authority": (b"GET http:///a HTTP/1.1", 400),
    "9112 §3.2.2 one slash": (b"GET http:/a HTTP/1.1", 400),
    "9110 §4.2.4 userinfo": (b"GET http://u:p@a/ HTTP/1.1", 400),
    "9112 §3.2.2 fragment": (b"GET http://a/#b HTTP/1.1", 400),
    "9112 §3.2.2 malformed authority": (b"GET http://a:b/ HTTP/1.1", 400),
    "9112 §3.2.2 backslash for slash": (b"GET http://a\\@b/ HTTP/1.1", 400),
}


@pytest.mark.parametrize(("line", "status"), BAD_REQUEST_LINES.values(), ids=BAD_REQUEST_LINES.keys())
def test_refuses_request_line(line: bytes, status: int) -> None:
    assert refusal(line + b"\r\nHost: example.com\r\n\r\n") == status


def test_tls_hello_is_refused_at_its_first_byte() -> None:
    """A client that speaks TLS to a plain port is told at once, not after header_timeout (9112 §3)."""
    assert refusal(b"\x16\x03\x01\x02\x00\x01\x00") == 400


def test_wrong_first_byte_counts_more_than_a_long_line() -> None:
    """As it does when the line has not arrived yet."""
    assert refusal(b"\x16" + b"a" * 9000) == 400
    assert refusal(b"\x16" + b"a" * 9000 + b"\r\nHost: a\r\n\r\n") == 400


def test_method_of_32_bytes_is_accepted() -> None:
    assert parse_line(b"M" * 32 + b" / HTTP/1.1").method == "M" * 32


# ------------------------------------------------------------------------------------------ fields

FIELDS = {
    "9112 §5 one space behind the colon": (b"X-A: b", "b"),
    "9112 §5.1 no space": (b"X-A:b", "b"),
    "9112 §5.1 many spaces": (b"X-A:   b", "b"),
    "9112 §5.1 tabs around": (b"X-A:\t b \t", "b"),
    "9112 §5.1 space behind": (b"X-A: b  ", "b"),
    "9110 §5.5 empty": (b"X-A:", ""),
    "9110 §5.5 only white space": (b"X-A: \t ", ""),
    "9110 §5.5 inner white space stays": (b"X-A: b \t c", "b \t c"),
    "9110 §5.5 colons": (b"X-A: b:c: d", "b:c: d"),
    "9110 §5.5 colon first": (b"X-A::b", ":b"),
    "9110 §5.5 obs-text is latin-1": (b"X-A: \xe9\xff", "é\xff"),
    "9110 §5.5 no-break space is not trimmed": (b"X-A: \xa0b\xa0", "\xa0b\xa0"),
    "9110 §5.5 next line (U+0085) is not trimmed": (b"X-A: b\x85", "b\x85"),
    "9110 §5.1 names in any case": (b"x-a: b", "b"),
}


@pytest.mark.parametrize(("line", "value"), FIELDS.values(), ids=FIELDS.keys())
@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
def test_accepts_field(line: bytes, value: str, *, last: bool) -> None:
    lines = [b"Host: a", line] if last else [line, b"Host: a"]
    assert parse_fields(*lines).fields == {"HTTP_HOST": "a", "HTTP_X_A": value}


@pytest.mark.parametrize(("line", "value"), FIELDS.values(), ids=FIELDS.keys())
def test_known_names_are_read_like_unknown_ones(line: bytes, value: str) -> None:
    """The quick way for names seen before gives the same values (9112 §5)."""
    known = b"Accept" + line[3:]
    assert parse_fields(b"Host: a", known).fields["HTTP_ACCEPT"] == value


BAD_FIELDS = {
    "9112 §5.1 space before the colon": b"X-A : b",
    "9112 §5.1 tab before the colon": b"X-A\t: b",
    "9112 §5.1 space before the colon of a known name": b"Content-Length : 5",
    "9112 §5.2 folded line": b"X-A: b\r\n c",
    "9112 §5.2 folded line with a colon": b"X-A: b\r\n\tc: d",
    "9112 §5.2 space before the first name": b" X-A: b",
    "9112 §5 no colon": b"X-A",
    "9112 §5 known name without colon": b"Host",
    "9112 §5 known name, space, no colon": b"Accept b",
    "9112 §5 nothing but a colon": b":",
    "9112 §5 empty name": b": b",
    "9110 §5.6.2 name with a space": b"X A: b",
    "9110 §5.6.2 name with a slash": b"X/A: b",
    "9110 §5.6.2 name with brackets": b"X(A): b",
    "9110 §5.6.2 quoted name": b'"X": b',
    "9110 §5.6.2 name with obs-text": b"X-\xc4: b",
    "9110 §5.6.2 long s, which is an S in capitals": b"Ho\xc5\xbft: b",
    "9110 §5.5 NUL in a value": b"X-A: b\x00c",
    "9110 §5.5 NUL in a name": b"X\x00A: b",
    "9110 §5.5 escape": b"X-A: \x1b[31m",
    "9110 §5.5 vertical tab": b"X-A: b\x0bc",
    "9110 §5.5 form feed": b"X-A: b\x0cc",
    "9110 §5.5 DEL": b"X-A: b\x7f",
    "9112 §2.2 bare CR in a value": b"X-A: b\rc",
    "9112 §2.2 bare CR behind a value": b"X-A: b\r",
    "9112 §2.2 bare LF in a value": b"X-A: b\nc",
    "9112 §2.2 bare LF as a line end": b"X-A: b\nTransfer-Encoding: chunked",
    "9112 §2.2 bare CR as a line end": b"X-A: b\rTransfer-Encoding: chunked",
    "9112 §2.2 LF CR": b"X-A: b\n\rX-B: c",
}


@pytest.mark.parametrize("line", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
@pytest.mark.parametrize("order", ["first", "last"])
def test_refuses_field(line: bytes, order: str) -> None:
    lines = [line, b"Host: a"] if order == "first" else [b"Host: a", line]
    with pytest.raises(ProtocolError) as caught:
        parse_fields(*lines)
    assert caught.value.status == 400


def test_bare_lf_does_not_end_a_head() -> None:
    """9112 §2.2 lets a server take LF for a line end; whoever is in front may not, so we do not."""
    assert parse_head(b"GET / HTTP/1.1\nHost: a\n\n", LIMITS) is None
    assert refusal(b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n") == 400


def test_head_without_fields_is_whole() -> None:
    assert parse(b"GET / HTTP/1.0\r\n\r\n").fields == {}


def test_lines_of_one_name_are_joined_in_order() -> None:
    """9110 §5.3: a list in several lines is one list."""
    request = parse_fields(b"Host: a", b"X-A: 1", b"X-B: 2", b"x-a:", b"X-A: 3")
    assert request.fields == {"HTTP_HOST": "a", "HTTP_X_A": "1, , 3", "HTTP_X_B": "2"}


def test_cookies_are_joined_with_semicolons() -> None:
    """6265 §5.4 knows one Cookie line; gateways from HTTP/2 may send several (9113 §8.2.3)."""
    assert parse_fields(b"Host: a", b"Cookie: a=1", b"Cookie: b=2").fields["HTTP_COOKIE"] == "a=1; b=2"


def test_second_content_type_is_refused() -> None:
    """9110 §5.3: a field that is no list cannot have two lines."""
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n") == 400


def test_content_type_and_length_have_no_prefix() -> None:
    """3875 §4.1.2, §4.1.3."""
    fields = parse_fields(b"Host: a", b"content-type: a/b", b"content-length: 3").fields
    assert fields == {"HTTP_HOST": "a", "CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "3"}


UNDERSCORED = {
    "in place of a dash": (b"X_Forwarded_For: b", "X_FORWARDED_FOR"),
    "beside a dash": (b"X-Forwarded_For: b", "X-FORWARDED_FOR"),
    "in a name that frames": (b"Content_Length: b", "CONTENT_LENGTH"),
    "in another one": (b"Transfer_Encoding: b", "TRANSFER_ENCODING"),
    "in front": (b"_Host: b", "_HOST"),
}


@pytest.mark.parametrize(("line", "name"), UNDERSCORED.values(), ids=UNDERSCORED.keys())
def test_names_with_an_underscore_are_set_apart(line: bytes, name: str) -> None:
    """CGI cannot tell "_" from "-" (3875 §4.1.18), so such a name could pose as another."""
    for _ in range(2):  # no cache must let it in the second time
        request = parse_fields(b"Host: a", line, line)
        assert request.fields == {"HTTP_HOST": "a"}
        assert request.underscored == {name: ["b", "b"]}


def test_many_invented_names_leave_the_cache_bounded() -> None:
    for start in range(0, 3000, 50):
        lines = [b"X-%d: a" % number for number in range(start, start + 50)]
        parse_fields(b"Host: a", *lines)
    parse_fields(b"Host: a", b"Y" * 5000 + b": a")
    assert len(head._names) <= head._NAMES_KEPT
    assert max(map(len, head._names)) <= head._NAME_LENGTH_KEPT


def test_known_names_are_read_alike_after_the_cache_was_emptied() -> None:
    for number in range(2000):
        parse_fields(b"Host: a", b"Z-%d: a" % number)
    assert parse_fields(b"Host: a", b"accept: b").fields["HTTP_ACCEPT"] == "b"


# -------------------------------------------------------------------------------------------- Host

HOSTS = {
    "9110 §7.2 name": b"example.com",
    "9110 §7.2 name and port": b"example.com:8080",
    "3986 §3.2.3 empty port": b"example.com:",
    "3986 §3.2.2 IPv4": b"192.0.2.1:80",
    "3986 §3.2.2 IPv6": b"[2001:db8::1]",
    "3986 §3.2.2 IPv6 and port": b"[::1]:65535",
    "3986 §3.2.2 IPv6 that ends in IPv4": b"[::ffff:192.0.2.1]",
    "3986 §3.2.2 underscore, as container networks have it": b"my_app:80",
    "3986 §3.2.2 percent-encoded": b"%C3%BC.example",
    "3986 §3.2.2 dot behind": b"example.com.",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())
def test_accepts_host(host: bytes) -> None:
    assert parse_fields(b"Host: " + host).fields["HTTP_HOST"] == host.decode()


BAD_HOSTS = {
    "9112 §3.2 empty": b"",
    "9110 §7.2 comma, as of two lines joined": b"a,b",
    "9110 §7.2 comma and space": b"a, b",
    "9110 §7.2 userinfo": b"user@example.com",
    "9110 §7.2 userinfo with password": b"user:pass@example.com",
    "9110 §7.2 path": b"example.com/",
    "9110 §7.2 URL": b"http://example.com",
    "9110 §7.2 query": b"example.com?a",
    "9110 §7.2 fragment": b"example.com#a",
    "9110 §7.2 backslash": b"example.com\\a",
    "9110 §7.2 inner space": b"exam ple.com",
    "9110 §7.2 inner tab": b"exam\tple.com",
    "9110 §7.2 quotes": b'"example.com"',
    "9110 §7.2 obs-text": b"ex\xe4mple.com",
    "3986 §3.2.2 no name": b":80",
    "3986 §3.2.2 broken percent": b"%zz",
    "3986 §3.2.2 IPv6 without brackets": b"::1",
    "3986 §3.2.2 bracket not closed": b"[::1",
    "3986 §3.2.2 bracket not opened": b"::1]",
    "3986 §3.2.2 empty brackets": b"[]",
    "3986 §3.2.2 name in brackets": b"[example]",
    "3986 §3.2.2 IPv4 in brackets": b"[192.0.2.1]",
    "3986 §3.2.2 nine groups": b"[1:2:3:4:5:6:7:8:9]",
    "3986 §3.2.2 two runs of zeros": b"[1::2::3]",
    "3986 §3.2.2 only colons": b"[:::]",
    "6874 zone": b"[fe80::1%25eth0]",
    "3986 §3.2.2 more behind the bracket": b"[::1]a",
    "3986 §3.2.3 port of letters": b"a:http",
    "3986 §3.2.3 port with a sign": b"a:+80",
    "3986 §3.2.3 port too large": b"a:65536",
    "3986 §3.2.3 port of six digits": b"a:000080",
    "3986 §3.2.3 two ports": b"a:80:80",
    "3986 §3.2.3 superscript port": b"a:\xb2",
}


@pytest.mark.parametrize("host", BAD_HOSTS.values(), ids=BAD_HOSTS.keys())
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_refuses_host(host: bytes, version: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_fields(b"Host: " + host, version=version)
    assert caught.value.status == 400


HOST_COUNTS = {
    "9112 §3.2 none in HTTP/1.1": (b"HTTP/1.1", []),
    "9112 §3.2 two": (b"HTTP/1.1", [b"Host: a", b"Host: b"]),
    "9112 §3.2 two equal ones": (b"HTTP/1.1", [b"Host: a", b"host: a"]),
    "9112 §3.2 two, one empty": (b"HTTP/1.1", [b"Host:", b"Host: a"]),
    "9112 §3.2 two in HTTP/1.0": (b"HTTP/1.0", [b"Host: a", b"Host: a"]),
}


@pytest.mark.parametrize(("version", "lines"), HOST_COUNTS.values(), ids=HOST_COUNTS.keys())
def test_refuses_number_of_hosts(version: bytes, lines: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        parse_fields(*lines, version=version)


def test_http10_needs_no_host() -> None:
    """9112 §3.2."""
    assert "HTTP_HOST" not in parse_fields(version=b"HTTP/1.0").fields


def test_authority_of_the_target_replaces_host() -> None:
    """9112 §3.2.2: else two servers in a row could take the request for two different sites."""
    request = parse(b"GET http://b:81/ HTTP/1.1\r\nHost: a\r\n\r\n")
    assert request.fields["HTTP_HOST"] == "b:81"
    assert parse(b"GET http://b/ HTTP/1.0\r\n\r\n").fields["HTTP_HOST"] == "b"


def test_absolute_form_does_not_excuse_host() -> None:
    """9112 §3.2.2: the client must send it all the same, and exactly one."""
    assert refusal(b"GET http://b/ HTTP/1.1\r\n\r\n") == 400
    assert refusal(b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n") == 400
    assert refusal(b"GET http://b/ HTTP/1.1\r\nHost: b\r\nHost: b\r\n\r\n") == 400


def test_many_invented_hosts_leave_what_is_remembered_bounded() -> None:
    for number in range(1000):
        parse_fields(b"Host: h%d" % number)
    parse_fields(b"Host: " + b"h" * 5000)
    assert len(head._hosts) <= head._HOSTS_KEPT
    assert max(map(len, head._hosts)) <= head._NAME_LENGTH_KEPT


def test_wrong_host_is_refused_every_time() -> None:
    for _ in range(3):
        assert refusal(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n") == 400


# ------------------------------------------------------------------------------------------ limits


def line_of(size: int) -> bytes:
    """Return a request line of so many bytes."""
    return b"GET /" + b"a" * (size - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"


def test_request_line_of_8190_bytes_is_accepted() -> None:
    assert len(parse_line(line_of(8190)).target) == 8190 - len("GET  HTTP/1.1")


def test_longer_request_line_is_414() -> None:
    """9112 §3: a target longer than wanted is answered 414."""
    assert refusal(line_of(8191) + b"\r\nHost: a\r\n\r\n") == 414


def test_longer_request_line_is_414_before_its_end_arrives() -> None:
    assert parse_head(line_of(8191)[:8191], LIMITS) is None
    assert refusal(line_of(9000)[:8192]) == 414


def test_field_line_of_the_limit_is_accepted_and_a_longer_one_is_431() -> None:
    """6585 §5."""
    limits = Limits(field_size=100)
    longest = b"X-A: " + b"b" * 95
    assert parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + longest + b"\r\n\r\n", limits).raw.endswith(longest)
    assert refusal(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 96 + b"\r\n\r\n", limits) == 431


def test_as_many_fields_as_the_limit_are_accepted_and_more_are_431() -> None:
    """6585 §5. A dropped name with an underscore counts too."""
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A_B: c\r\n" * 98
    assert parse(many + b"X: y\r\n\r\n").fields["HTTP_X"] == "y"
    assert refusal(many + b"X: y\r\nX: y\r\n\r\n") == 431


def test_endless_head_is_431_at_its_limit() -> None:
    limits = Limits(line=50, fields=2, field_size=50)
    endless = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100
    assert parse_head(endless[: limits.head - 1], limits) is None
    assert refusal(endless[: limits.head], limits) == 431


def test_limits_of_zero_are_off() -> None:
    limits = Limits(line=0, fields=0, field_size=0)
    many = b"".join(b"X-%d: a\r\n" % number for number in range(500))
    assert len(parse(line_of(20000) + b"\r\nHost: a\r\n" + many + b"\r\n", limits).fields) == 501
    assert refusal(b"G" * limits.head, limits) == 431


# ------------------------------------------------------------------------------------- the message


def test_head_that_is_not_whole_gives_nothing() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert [parse_head(whole[:size], LIMITS) for size in range(len(whole))] == [None] * len(whole)


def test_what_follows_the_head_is_not_looked_at() -> None:
    request = parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x00\xff garbage")
    assert request.size == len(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert request.raw == b"GET / HTTP/1.1\r\nHost: a"


def test_pairs_are_the_lines_as_sent() -> None:
    """What ASGI wants: lower-cased names, trimmed values, every line for itself."""
    request = parse(b"GET http://b/ HTTP/1.1\r\nHost: a\r\nX-A:  1\t\r\nx_b: 2\r\nx-a: 3\r\n\r\n")
    assert request.pairs() == [(b"host", b"a"), (b"x-a", b"1"), (b"x_b", b"2"), (b"x-a", b"3")]


def test_lines_are_the_values_before_they_were_joined() -> None:
    request = parse_fields(b"Host: a", b"X-A: 1, 2", b"x_a: 4", b"x-a: 3")
    assert request.lines("HTTP_X_A") == ["1, 2", "3"]
    assert request.lines("CONTENT_TYPE") == []


def test_error_message_holds_no_byte_of_the_peer() -> None:
    """It goes to the log."""
    for line in BAD_FIELDS.values():
        with pytest.raises(ProtocolError) as caught:
            parse_fields(b"Host: a", line.replace(b"b", b"@"))
        assert caught.value.message.isprintable()
        assert "@" not in caught.value.message
