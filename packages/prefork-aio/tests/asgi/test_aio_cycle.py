# SPDX-License-Identifier: MIT
"""What becomes of the fields and the status of an application."""

from __future__ import annotations

import pytest

from prefork_aio.asgi.cycle import as_text, start_as_text, status_line


def test_fields_become_text_in_their_order() -> None:
    pairs = [(b"Set-Cookie", b"a=1"), (b"x-y", b"\xe9"), (b"set-cookie", b"b=2")]
    assert as_text(pairs) == ([("Set-Cookie", "a=1"), ("x-y", "é"), ("set-cookie", "b=2")], False)


def test_fields_of_the_connection_are_dropped() -> None:
    names = (b"transfer-encoding", b"Keep-Alive", b"Upgrade", b"TE", b"connection")
    assert as_text([(name, b"x") for name in names]) == ([], False)


@pytest.mark.parametrize("value", [b"close", b"Close", b"te, close"])
def test_the_end_of_the_connection_can_be_asked_for(value: bytes) -> None:
    assert as_text([(b"Connection", value)]) == ([], True)


def test_a_field_that_is_no_bytes_is_an_error() -> None:
    with pytest.raises(TypeError):
        as_text([(b"x", "text")])  # type: ignore[list-item]


def test_a_status_has_its_phrase_if_it_has_one() -> None:
    assert [status_line(200), status_line(418), status_line(299)] == ["200 OK", "418 I'm a Teapot", "299 "]


def test_a_start_that_comes_again_is_not_worked_out_again() -> None:
    headers = [(b"content-type", b"text/plain"), (b"x-again", b"yes")]
    first = start_as_text(200, headers)
    assert first == ("200 OK", [("content-type", "text/plain"), ("x-again", "yes")], False)
    assert start_as_text(200, list(headers)) is first
    assert start_as_text(201, headers)[0] == "201 Created"
    assert start_as_text(200, headers[:1])[1] == [("content-type", "text/plain")]


def test_starts_with_cookies_and_long_ones_are_not_kept() -> None:
    for header in ((b"Set-Cookie", b"sessionid=8f1c3a0d"), (b"x-long", b"a" * 1024)):
        assert start_as_text(200, [header]) is not start_as_text(200, [header])


@pytest.mark.parametrize("kind", [tuple, iter, list])
def test_a_start_may_have_any_iterable_of_any_pairs(kind: type) -> None:
    for _ in range(2):
        headers = kind([[b"x-pair", bytearray(b"a")], (b"x-pair", b"b"), (b"connection", b"close")])
        assert start_as_text(204, headers) == ("204 No Content", [("x-pair", "a"), ("x-pair", "b")], True)
