# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.observe.escape import SAFE, continued, escape, text_of


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, 100%!", "plain text, 100%!"),
        ('a"b', r"a\"b"),
        ("a\\b", r"a\\b"),
        ("a\r\nb\tc\0", r"a\x0D\x0Ab\x09c\x00"),
        ("\x1b[31m\x7f", r"\x1B[31m\x7F"),
        ("\xc3\xa9", r"\xC3\xA9"),
        ("€", r"\xE2\x82\xAC"),
        ("\ud800", r"\xED\xA0\x80"),
    ],
)
def test_what_is_not_plain_ascii_is_escaped(text: str, line: str) -> None:
    assert escape(text) == line


@given(st.text())
def test_an_escaped_text_is_safe_but_for_its_escapes(text: str) -> None:
    left = escape(text).encode("ascii").translate(None, SAFE)
    assert set(left) <= set(b'"\\')


@given(st.text(alphabet=st.characters(max_codepoint=0xFF)))
def test_the_bytes_of_a_peer_can_be_had_back_from_an_escaped_text(text: str) -> None:
    assert escape(text).encode("ascii").decode("unicode_escape") == text


@given(st.text())
def test_only_the_first_line_of_a_record_begins_in_the_first_column(text: str) -> None:
    first, *others = continued(text).split("\n")
    assert all(line.startswith("  ") for line in others)
    assert all(len(line.splitlines()) <= 1 for line in (first, *others))


def test_terminal_control_in_a_record_is_shown_not_sent() -> None:
    assert continued("a\x1b[2J\x9b\u2028b\tc\n") == "a\\x1B[2J\\x9B\\u2028b\tc"


def test_an_object_that_cannot_be_shown_is_named() -> None:
    assert text_of(Unprintable()) == "<Unprintable that cannot be shown>"
    assert text_of(7) == "7"
