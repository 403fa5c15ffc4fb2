# SPDX-License-Identifier: MIT
"""Which requests ask for a WebSocket, and what accepts them (RFC 6455 §4.2)."""

from __future__ import annotations

import pytest

from prefork.errors import ProtocolError
from prefork.http import Limits, Request
from prefork.http.head import parse_head
from prefork_aio.asgi.handshake import Handshake, is_asked_for, offered

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""Of the example in RFC 6455 §1.3, which has the answer below."""
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def request(*more: str, line: str = "GET /chat HTTP/1.1", key: str = KEY, **changed: str) -> Request:
    """Return a request for a WebSocket."""
    fields = {"Host": "test", "Upgrade": "WebSocket", "Connection": "keep-alive, Upgrade", **changed}
    fields |= {"Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items()), *more, "", ""]
    found = parse_head("\r\n".join(lines).encode(), Limits())
    assert found is not None
    return found


def handshake(*more: str, compresses: bool = True) -> Handshake:
    """Return the handshake of a request."""
    return Handshake(request(*more), max_size=100, compresses=compresses)


def accepted(shake: Handshake, subprotocol: str | None = None, *fields: tuple[str, str]) -> list[str]:
    """Return the lines of an acceptance."""
    head = shake.accept(subprotocol, fields).decode("latin-1")
    assert head.endswith("\r\n\r\n")
    return head.split("\r\n")


def test_the_example_of_the_rfc_is_accepted() -> None:
    assert is_asked_for(request())
    lines = accepted(handshake())
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert f"Sec-WebSocket-Accept: {ACCEPT}" in lines


@pytest.mark.parametrize(
    "other",
    [
        request(line="POST /chat HTTP/1.1"),
        request(line="GET /chat HTTP/1.0"),
        request(Upgrade="h2c"),
        request(Connection="close"),
        request("Content-Length: 5"),
    ],
    ids=["POST", "1.0", "h2c", "no option", "body"],
)
def test_other_requests_are_plain_http(other: Request) -> None:
    assert not is_asked_for(other)


@pytest.mark.parametrize("key", ["", "short", "%" * 24, KEY + KEY])
def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(ProtocolError):
        Handshake(request(key=key), max_size=100, compresses=True)


def test_compression_is_agreed_on_if_both_want_it() -> None:
    line = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    both, neither = accepted(handshake(line)), accepted(handshake(line, compresses=False))
    assert any(each.startswith("Sec-WebSocket-Extensions: permessage-deflate") for each in both)
    assert not any("Extensions" in each for each in (*neither, *accepted(handshake())))


def test_one_of_the_offered_subprotocols_can_be_chosen() -> None:
    lines = ("Sec-WebSocket-Protocol: chat, , more", "Sec-WebSocket-Protocol: last")
    assert offered(request(*lines)) == ["chat", "more", "last"]
    assert "Sec-WebSocket-Protocol: last" in accepted(handshake(*lines), "last")
    with pytest.raises(ValueError, match="'other'"):
        handshake(*lines).accept("other", [])


@pytest.mark.parametrize(
    "field",
    [("sec-websocket-protocol", "a"), ("Sec-WebSocket-Accept", "a"), ("x", "a\r\nb: c"), ("x\r\ny", "a")],
)
def test_some_fields_are_not_for_the_application(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"field|header"):
        handshake().accept(None, [field])


def test_others_are_and_twice_too() -> None:
    lines = accepted(handshake(), None, ("set-cookie", "a"), ("set-cookie", "b"), ("content-length", "0"))
    assert ("set-cookie: a" in lines, "set-cookie: b" in lines) == (True, True)
    assert not any(line.lower().startswith("content-length") for line in lines)
