# SPDX-License-Identifier: MIT
"""What becomes of the fields and the status of an application."""

from __future__ import annotations

import pytest

from prefork_aio.asgi.cycle import as_text, status_line


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
