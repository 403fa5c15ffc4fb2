# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import ProtocolError
from prefork.http import Limits, Request, parse_head
from prefork.http.framing import (
    CHUNKED,
    Framing,
    Plan,
    asks_upgrade,
    content_length,
    has_body,
    plan_response,
)


def framed(*lines: bytes, version: bytes = b"HTTP/1.1", start: bytes = b"POST /") -> Request:
    """Parse a request with these field lines besides Host."""
    block = b"".join(line + b"\r\n" for line in (b"Host: a:1", *lines))
    request = parse_head(start + b" " + version + b"\r\n" + block + b"\r\n", Limits())
    assert request is not None
    return request


def refusal(*lines: bytes, version: bytes = b"HTTP/1.1") -> int:
    """Return the status with which a request is refused."""
    with pytest.raises(ProtocolError) as caught:
        framed(*lines, version=version)
    return caught.value.status


# ------------------------------------------------------------------------------------- body length

LENGTHS = {
    "9110 §8.6 digits": ([b"Content-Length: 5"], 5),
    "9110 §8.6 none": ([b"Content-Length: 0"], 0),
    "9110 §8.6 leading zeros": ([b"Content-Length: 007"], 7),
    "9110 §8.6 eighteen digits": ([b"Content-Length: " + b"9" * 18], 10**18 - 1),
    "9110 §8.6 white space around": ([b"Content-Length:\t 5 \t"], 5),
    "9110 §8.6 identical values": ([b"Content-Length: 5, 5"], 5),
    "9110 §8.6 identical values, tight": ([b"Content-Length: 5,5,5"], 5),
    "9110 §8.6 identical lines": ([b"Content-Length: 5", b"content-length: 5"], 5),
    "9112 §6.1 chunked": ([b"Transfer-Encoding: chunked"], CHUNKED),
    "9112 §7 coding names in any case": ([b"transfer-encoding: ChUnKeD"], CHUNKED),
    "9112 §6.1 white space around": ([b"Transfer-Encoding: \tchunked\t "], CHUNKED),
    "9112 §6.3 neither": ([], 0),
    "a name with an underscore frames nothing": ([b"Content_Length: 5", b"Transfer_Encoding: chunked"], 0),
}


@pytest.mark.parametrize(("lines", "length"), LENGTHS.values(), ids=LENGTHS.keys())
def test_accepts_length(lines: list[bytes], length: int) -> None:
    assert framed(*lines).content_length == length


BAD_LENGTHS = {
    "9110 §8.6 empty": [b"Content-Length:"],
    "9110 §8.6 plus": [b"Content-Length: +5"],
    "9110 §8.6 minus": [b"Content-Length: -5"],
    "9110 §8.6 minus nought": [b"Content-Length: -0"],
    "9110 §8.6 hexadecimal": [b"Content-Length: 0x5"],
    "9110 §8.6 underscore, which int() takes": [b"Content-Length: 5_0"],
    "9110 §8.6 fraction": [b"Content-Length: 5.0"],
    "9110 §8.6 exponent": [b"Content-Length: 5e1"],
    "9110 §8.6 word": [b"Content-Length: five"],
    "9110 §8.6 superscript digit": [b"Content-Length: \xb2"],
    "9110 §8.6 Arabic digit": [b"Content-Length: " + "\N{ARABIC-INDIC DIGIT FIVE}".encode()],
    "9110 §8.6 quoted": [b'Content-Length: "5"'],
    "9110 §8.6 inner space": [b"Content-Length: 5 5"],
    "9110 §8.6 no-break space, which int() trims": [b"Content-Length: 5\xa0"],
    "9110 §8.6 next line (U+0085), which int() trims": [b"Content-Length: \x855"],
    "9110 §8.6 semicolon": [b"Content-Length: 5;a"],
    "9110 §8.6 differing values": [b"Content-Length: 5, 6"],
    "9110 §8.6 differing lines": [b"Content-Length: 5", b"Content-Length: 6"],
    "9110 §8.6 one number, two spellings": [b"Content-Length: 5", b"Content-Length: 05"],
    "9110 §8.6 empty member": [b"Content-Length: 5,"],
    "9110 §8.6 empty first member": [b"Content-Length: ,5"],
    "9110 §8.6 only a comma": [b"Content-Length: ,"],
    "9110 §8.6 empty line beside a right one": [b"Content-Length:", b"Content-Length: 5"],
    "9112 §6.3 both fields": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "9112 §6.3 both fields, other order": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "9112 §6.3 both fields, length 0": [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
    "9112 §6.3 both fields, other coding": [b"Content-Length: 5", b"Transfer-Encoding: identity"],
    "9112 §6.3 both fields, empty coding": [b"Content-Length: 5", b"Transfer-Encoding:"],
    "9112 §6.1 empty": [b"Transfer-Encoding:"],
    "9112 §6.1 prefix": [b"Transfer-Encoding: xchunked"],
    "9112 §6.1 suffix": [b"Transfer-Encoding: chunkedx"],
    "9112 §6.1 identity": [b"Transfer-Encoding: identity"],
    "9112 §6.1 chunked is not last": [b"Transfer-Encoding: chunked, identity"],
    "9112 §6.1 chunked is not last, two lines": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"],
    "9112 §6.1 chunked twice": [b"Transfer-Encoding: chunked, chunked"],
    "9112 §6.1 chunked in two lines": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "9112 §6.1 chunked twice around another": [b"Transfer-Encoding: chunked, gzip, chunked"],
    "9112 §6.1 comma behind": [b"Transfer-Encoding: chunked,"],
    "9112 §6.1 comma in front": [b"Transfer-Encoding: ,chunked"],
    "9112 §6.1 empty line beside": [b"Transfer-Encoding:", b"Transfer-Encoding: chunked"],
    "9112 §6.1 parameter": [b"Transfer-Encoding: chunked;q=1"],
    "9112 §6.1 quoted": [b'Transfer-Encoding: "chunked"'],
    "9112 §6.1 inner space": [b"Transfer-Encoding: chun ked"],
    "9112 §6.1 vertical tab": [b"Transfer-Encoding: \x0bchunked"],
    "9112 §6.1 no-break space": [b"Transfer-Encoding: chunked\xa0"],
    "9112 §6.1 next line (U+0085)": [b"Transfer-Encoding: \x85chunked"],
    "9112 §6.1 folded": [b"Transfer-Encoding:\r\n chunked"],
    "9112 §6.1 space before the colon": [b"Transfer-Encoding : chunked"],
}


@pytest.mark.parametrize("lines", BAD_LENGTHS.values(), ids=BAD_LENGTHS.keys())
def test_refuses_length(lines: list[bytes]) -> None:
    """Each is a way of making two servers in a row see different requests."""
    assert refusal(*lines) == 400


def test_length_beyond_eighteen_digits_is_413() -> None:
    """9110 §8.6: a recipient must be ready for large numbers; it never becomes an int here."""
    assert refusal(b"Content-Length: " + b"9" * 19) == 413
    assert refusal(b"Content-Length: " + b"9" * 8000) == 413


def test_other_transfer_coding_is_501() -> None:
    """9112 §6.1: a coding that is not understood."""
    assert refusal(b"Transfer-Encoding: gzip, chunked") == 501
    assert refusal(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked") == 501


def test_transfer_encoding_in_http10_is_refused() -> None:
    """9112 §6.1: its framing is faulty, whatever the coding."""
    assert refusal(b"Transfer-Encoding: chunked", version=b"HTTP/1.0") == 400


def test_application_sees_one_plain_content_length() -> None:
    assert framed(b"Content-Length: 007, 007").fields["CONTENT_LENGTH"] == "7"
    assert content_length("5,5") == 5


# ------------------------------------------------------------------------------------- persistence

PERSISTENCE = {
    "9112 §9.3 HTTP/1.1": (b"HTTP/1.1", [], True),
    "9112 §9.3 close": (b"HTTP/1.1", [b"Connection: close"], False),
    "9110 §7.6.1 options in any case": (b"HTTP/1.1", [b"Connection: CLOSE"], False),
    "9110 §7.6.1 close in a list": (b"HTTP/1.1", [b"Connection: x, close ,y"], False),
    "9110 §7.6.1 close in another line": (b"HTTP/1.1", [b"Connection: x", b"Connection: close"], False),
    "9112 §9.3 close beats keep-alive": (b"HTTP/1.1", [b"Connection: keep-alive, close"], False),
    "9110 §7.6.1 part of a word is not close": (b"HTTP/1.1", [b"Connection: closed, not-close"], True),
    "9110 §7.6.1 empty": (b"HTTP/1.1", [b"Connection:"], True),
    "9112 §9.3 HTTP/1.0": (b"HTTP/1.0", [], False),
    "9112 §9.3 HTTP/1.0 that asks": (b"HTTP/1.0", [b"Connection: Keep-Alive"], True),
    "9112 §9.3 HTTP/1.0 that asks in a list": (
        b"HTTP/1.0",
        [b"Connection: x", b"Connection: keep-alive"],
        True,
    ),
    "9112 §9.3 HTTP/1.0 with both": (b"HTTP/1.0", [b"Connection: keep-alive, close"], False),
    "9112 C.2.2 Proxy-Connection is nothing": (b"HTTP/1.0", [b"Proxy-Connection: keep-alive"], False),
}


@pytest.mark.parametrize(("version", "lines", "persistent"), PERSISTENCE.values(), ids=PERSISTENCE.keys())
def test_persistence(version: bytes, lines: list[bytes], *, persistent: bool) -> None:
    assert framed(*lines, version=version).persistent is persistent


def test_connect_is_never_persistent() -> None:
    """9110 §9.3.6: what follows a CONNECT may be another protocol."""
    assert framed(start=b"CONNECT a:1", version=b"HTTP/1.1").persistent is False


# ------------------------------------------------------------------------------------------ Expect

EXPECTATIONS = {
    "9110 §10.1.1 100-continue": (b"HTTP/1.1", b"100-continue", True),
    "9110 §10.1.1 in any case": (b"HTTP/1.1", b"100-Continue", True),
    "9110 §10.1.1 ignored in HTTP/1.0": (b"HTTP/1.0", b"100-continue", False),
    "9110 §10.1.1 others in HTTP/1.0": (b"HTTP/1.0", b"miracles", False),
}


@pytest.mark.parametrize(("version", "value", "expects"), EXPECTATIONS.values(), ids=EXPECTATIONS.keys())
def test_expectation(version: bytes, value: bytes, *, expects: bool) -> None:
    request = framed(b"Expect: " + value, b"Content-Length: 1", version=version)
    assert request.expects_continue is expects


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, x", b"100-continue;q=1", b"100"])
def test_other_expectation_is_417(value: bytes) -> None:
    """9110 §10.1.1: an expectation that cannot be met."""
    assert refusal(b"Expect: " + value) == 417


# --------------------------------------------------------------------------------------- responses

LENGTH, CHUNKS, CLOSE, NONE = Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE, Framing.NONE

PLANS = {
    "9112 §6.2 length known": (b"GET /", b"HTTP/1.1", 200, 5, Plan(LENGTH, 5, persistent=True)),
    "9112 §7.1 length not known": (b"GET /", b"HTTP/1.1", 200, None, Plan(CHUNKS, -1, persistent=True)),
    "9112 §6.1 never chunked to 1.0": (b"GET /", b"HTTP/1.0", 200, None, Plan(CLOSE, -1, persistent=False)),
    "9112 §6.2 length to 1.0": (b"GET /", b"HTTP/1.0", 200, 5, Plan(LENGTH, 5, persistent=True)),
    "9110 §9.3.2 HEAD": (b"HEAD /", b"HTTP/1.1", 200, 5, Plan(NONE, 0, persistent=True)),
    "9110 §9.3.2 HEAD without a length": (b"HEAD /", b"HTTP/1.0", 200, None, Plan(NONE, 0, persistent=True)),
    "9110 §9.3.2 HEAD of an error": (b"HEAD /", b"HTTP/1.1", 500, 5, Plan(NONE, 0, persistent=True)),
    "9110 §15.3.5 204": (b"GET /", b"HTTP/1.1", 204, 5, Plan(NONE, 0, persistent=True)),
    "9110 §15.4.5 304": (b"GET /", b"HTTP/1.1", 304, 5, Plan(NONE, 0, persistent=True)),
    "9110 §15.3.6 205 is empty": (b"GET /", b"HTTP/1.1", 205, 5, Plan(LENGTH, 0, persistent=True)),
    "9110 §15.3.6 205 without a length": (b"GET /", b"HTTP/1.1", 205, None, Plan(LENGTH, 0, persistent=True)),
    "9112 §6.3 CONNECT opened": (b"CONNECT a:1", b"HTTP/1.1", 200, 5, Plan(CLOSE, -1, persistent=False)),
    "9112 §6.3 CONNECT refused": (b"CONNECT a:1", b"HTTP/1.1", 405, 5, Plan(LENGTH, 5, persistent=False)),
    "9112 §6.3 CONNECT redirected": (b"CONNECT a:1", b"HTTP/1.1", 300, 5, Plan(LENGTH, 5, persistent=False)),
}


@pytest.mark.parametrize(("start", "version", "status", "length", "plan"), PLANS.values(), ids=PLANS.keys())
def test_plan(start: bytes, version: bytes, status: int, length: int | None, plan: Plan) -> None:
    request = framed(b"Connection: keep-alive", start=start, version=version)
    assert plan_response(request, status, length, persistent=True) == plan


def test_either_side_can_end_the_connection() -> None:
    """9112 §9.6."""
    asked = framed(b"Connection: close")
    assert plan_response(asked, 200, 5, persistent=True).persistent is False
    assert plan_response(framed(), 200, 5, persistent=False).persistent is False


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_statuses_without_content(status: int) -> None:
    """9110 §6.4.1."""
    assert not has_body("GET", status)


@pytest.mark.parametrize(
    ("version", "lines", "asks"),
    [
        (b"HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: websocket"], True),
        (b"HTTP/1.1", [b"Connection: keep-alive, UPGRADE", b"Upgrade: websocket"], True),
        (b"HTTP/1.1", [b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: x/1, y"], True),
        (b"HTTP/1.1", [b"Connection: close, upgrade", b"Upgrade: x"], True),
        (b"HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 0"], True),
        (b"HTTP/1.1", [b"Upgrade: websocket"], False),
        (b"HTTP/1.1", [b"Connection: Upgrade"], False),
        (b"HTTP/1.1", [b"Connection: upgrade-insecure", b"Upgrade: websocket"], False),
        (b"HTTP/1.0", [b"Connection: Upgrade", b"Upgrade: websocket"], False),
        (b"HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 1"], False),
        (b"HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"], False),
    ],
)
def test_an_upgrade_is_asked_for_as_a_connection_option_and_without_a_body(
    version: bytes, lines: list[bytes], *, asks: bool
) -> None:
    """9110 §7.8."""
    assert asks_upgrade(framed(*lines, version=version)) is asks
