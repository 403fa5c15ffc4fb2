# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork import __version__
from prefork.errors import ProtocolError
from prefork.http import Limits
from prefork.http.forwarded import ForwardPolicy
from prefork.http.head import parse_head
from prefork.wsgi.environ import Peer, base_environ, make_environ
from prefork.wsgi.response import FileWrapper

PEER = Peer("192.0.2.7", "40123")


def environ_of(
    head: bytes,
    *,
    server: tuple[str, int] | None = ("127.0.0.1", 8000),
    script_name: str = "",
    peer: Peer = PEER,
    trusted: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Return the environ of a request head, which is given without its last empty line."""
    request = parse_head(head + b"\r\n", Limits())
    assert request is not None
    policy = ForwardPolicy(trusted, {"X-FORWARDED-PROTO": "https"}, ("SCRIPT_NAME", "PATH_INFO"), "drop")
    base = base_environ(
        server, script_name=script_name, errors=io.StringIO(), multithread=False, multiprocess=True
    )
    return make_environ(base, request, peer, policy.apply(request, peer.address), io.BytesIO())


def get(target: str, *lines: str) -> bytes:
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: example.org", *lines, ""])
    return head.encode("latin-1")


def test_it_has_all_that_pep_3333_asks_for() -> None:
    environ = environ_of(get("/a?b=c"))
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/a"
    assert environ["QUERY_STRING"] == "b=c"
    assert environ["SERVER_NAME"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == "8000"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.file_wrapper"] is FileWrapper
    assert environ["wsgi.input_terminated"] is True
    assert {"wsgi.input", "wsgi.errors"} <= environ.keys()


def test_it_is_a_plain_dict_of_native_strings() -> None:
    environ = environ_of(get("/", "X-Own: 1", "Content-Type: text/plain"))
    assert type(environ) is dict
    assert all(type(value) is str for name, value in environ.items() if not name.startswith("wsgi."))


def test_it_says_who_asks_and_who_answers() -> None:
    environ = environ_of(get("/"))
    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["REMOTE_PORT"] == "40123"
    assert environ["SERVER_SOFTWARE"] == f"prefork/{__version__}"


def test_requests_share_nothing_that_one_of_them_could_change() -> None:
    base = base_environ(("127.0.0.1", 80), script_name="", errors=None, multithread=False, multiprocess=False)
    request = parse_head(get("/") + b"\r\n", Limits())
    assert request is not None
    forwarded = ForwardPolicy((), {}, (), "drop").apply(request, "")
    first = make_environ(base, request, PEER, forwarded, None)
    first["SERVER_NAME"] = first["own"] = "changed"
    second = make_environ(base, request, PEER, forwarded, None)
    assert second["SERVER_NAME"] == "127.0.0.1"
    assert "own" not in second


# Paths


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", "/a b"),
        ("/%C3%A9", "/Ã©"),  # UTF-8 as latin-1: PEP 3333, "Unicode Issues"
        ("/%ff", "/\xff"),
        ("/a%2Fb", "/a/b"),
        ("/%zz%4", "/%zz%4"),
        ("/a//b/../c", "/a//b/../c"),
        ("/a;v=1", "/a;v=1"),
    ],
)
def test_the_path_is_percent_decoded_to_latin_1(target: str, path: str) -> None:
    environ = environ_of(get(target))
    assert environ["PATH_INFO"] == path
    assert environ["RAW_URI"] == target


@given(st.binary(min_size=1, max_size=20))
def test_every_byte_of_a_path_comes_back(raw: bytes) -> None:
    target = "/" + "".join(f"%{byte:02X}" for byte in raw)
    assert environ_of(get(target))["PATH_INFO"].encode("latin-1") == b"/" + raw


def test_the_query_stays_encoded() -> None:
    environ = environ_of(get("/?a=%20&b=%C3%A9&c=1?2"))
    assert environ["QUERY_STRING"] == "a=%20&b=%C3%A9&c=1?2"
    assert environ["RAW_URI"] == "/?a=%20&b=%C3%A9&c=1?2"


def test_the_target_of_a_proxy_request_is_kept_whole_and_its_authority_is_the_host() -> None:
    environ = environ_of(get("http://other.example:81/a?b"))
    assert environ["RAW_URI"] == "http://other.example:81/a?b"
    assert environ["PATH_INFO"] == "/a"
    assert environ["HTTP_HOST"] == "other.example:81"


def test_options_of_the_whole_server_has_an_empty_path() -> None:
    """PATH_INFO begins with "/" or is empty (RFC 3875 §4.1.5); wsgiref.validate insists on it."""
    environ = environ_of(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n")
    assert environ["PATH_INFO"] == ""
    assert environ["RAW_URI"] == "*"


def test_options_of_the_whole_server_is_no_matter_of_mounting() -> None:
    environ = environ_of(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", script_name="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "")


# Mounting


@pytest.mark.parametrize(
    ("path", "rest"), [("/app", ""), ("/app/", "/"), ("/app/x", "/x"), ("/app%2Fx", "/x"), ("/app//x", "//x")]
)
def test_a_mounted_application_sees_its_part_of_the_path(path: str, rest: str) -> None:
    environ = environ_of(get(path), script_name="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", rest)


@pytest.mark.parametrize("path", ["/", "/other", "/apple", "/other/app"])
def test_a_path_outside_of_the_mount_is_a_fault_of_the_configuration(path: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        environ_of(get(path), script_name="/app")
    assert caught.value.status == 500


@pytest.mark.parametrize("given", ["/app/", "/app//"])
def test_a_slash_at_the_end_of_the_mount_is_left_out(given: str) -> None:
    """PEP 3333: SCRIPT_NAME and PATH_INFO joined are the path, and wsgiref.validate refuses "/"."""
    environ = environ_of(get("/app/x"), script_name=given)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


def test_a_mount_at_the_root_is_none() -> None:
    environ = environ_of(get("/x"), script_name="/")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/x")


def test_a_trusted_proxy_may_name_the_mount() -> None:
    environ = environ_of(get("/app/x", "SCRIPT_NAME: /app"), trusted=("192.0.2.7",))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


def test_nobody_else_may_name_the_mount() -> None:
    environ = environ_of(get("/app/x", "SCRIPT_NAME: /app"))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/app/x")


# Who the server is


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("example.org", "example.org", "80"),
        ("example.org:8080", "example.org", "8080"),
        ("example.org:", "example.org", "80"),
        ("[::1]", "[::1]", "80"),
        ("[::1]:8080", "[::1]", "8080"),
        ("192.0.2.1:81", "192.0.2.1", "81"),
    ],
)
def test_on_a_unix_socket_the_host_says_who_the_server_is(host: str, name: str, port: str) -> None:
    environ = environ_of(f"GET / HTTP/1.1\r\nHost: {host}\r\n".encode(), server=None, peer=Peer("", ""))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_on_a_unix_socket_without_a_host_it_is_called_localhost() -> None:
    environ = environ_of(b"GET / HTTP/1.0\r\n", server=None, peer=Peer("", ""))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")


def test_on_a_unix_socket_https_has_its_own_port() -> None:
    environ = environ_of(get("/", "X-Forwarded-Proto: https"), server=None, peer=Peer("", ""))
    assert (environ["wsgi.url_scheme"], environ["SERVER_PORT"]) == ("https", "443")


def test_an_ipv6_server_name_is_one_that_fits_into_a_url() -> None:
    """RFC 3875 §4.1.14: an IPv6 address stands in brackets."""
    assert environ_of(get("/"), server=("::1", 8000))["SERVER_NAME"] == "[::1]"


def test_the_scheme_is_what_a_trusted_proxy_says() -> None:
    head = get("/", "X-Forwarded-Proto: https")
    assert environ_of(head, trusted=("192.0.2.7",))["wsgi.url_scheme"] == "https"
    assert environ_of(head)["wsgi.url_scheme"] == "http"


# Fields


def test_fields_have_cgi_names() -> None:
    environ = environ_of(get("/", "User-Agent: me", "X-a-B: 1"))
    assert environ["HTTP_USER_AGENT"] == "me"
    assert environ["HTTP_X_A_B"] == "1"


def test_type_and_length_of_the_body_have_names_without_a_prefix() -> None:
    environ = environ_of(get("/", "Content-Type: text/plain", "Content-Length: 007"))
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "7"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_what_was_not_sent_is_not_there() -> None:
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH"} & environ_of(get("/")).keys()


def test_a_chunked_body_has_no_length() -> None:
    environ = environ_of(get("/", "Transfer-Encoding: chunked"))
    assert "CONTENT_LENGTH" not in environ
    assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"


def test_the_lines_of_one_field_are_joined() -> None:
    environ = environ_of(get("/", "Accept: a", "X: 1", "accept: b", "Cookie: a=1", "Cookie: b=2"))
    assert environ["HTTP_ACCEPT"] == "a, b"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_values_are_latin_1() -> None:
    assert environ_of(get("/", "X: \xe9"))["HTTP_X"] == "\xe9"


def test_underscored_fields_do_not_get_in() -> None:
    """Otherwise X_Forwarded_For could be taken for what a proxy has checked."""
    environ = environ_of(get("/", "X_Own: 1"))
    assert not [name for name in environ if re.fullmatch("HTTP_X.OWN", name)]
