# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.http import grammar


def test_field_bytes_are_visible_ones_spaces_tabs_and_obs_text() -> None:
    """9110 §5.5."""
    visible = set(range(0x21, 0x7F)) | set(range(0x80, 0x100))
    assert set(grammar.FIELD_BYTES) == visible | {0x20, 0x09}


def test_token_bytes_are_those_of_the_rfc() -> None:
    """9110 §5.6.2: any VCHAR but delimiters."""
    delimiters = set(b'"(),/:;<=>?@[\\]{}')
    tchars = set(range(0x21, 0x7F)) - delimiters
    assert tchars == grammar.TOKEN_FIRST
    assert {byte for byte in range(256) if grammar.TOKEN.fullmatch(chr(byte))} == tchars


def test_methods_are_tokens_without_lower_case() -> None:
    """9110 §9.1."""
    found = {byte for byte in range(256) if grammar.METHOD.fullmatch(chr(byte))}
    assert found == grammar.TOKEN_FIRST - set(b"abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    "rule", [grammar.TOKEN, grammar.METHOD, grammar.ORIGIN_FORM, grammar.HOST, grammar.STATUS]
)
def test_a_line_end_behind_matches_nothing(rule: object) -> None:
    """`$` would match before it; every rule is used with fullmatch."""
    assert isinstance(rule, type(grammar.TOKEN))
    assert not any(rule.fullmatch(text + "\n") for text in ("a", "A", "/", "a:1", "200 OK"))


LISTS = {
    "one": ("close", ["close"]),
    "lower case": ("Keep-Alive, CLOSE", ["keep-alive", "close"]),
    "white space": (" a\t,\tb ", ["a", "b"]),
    "empty members": (", a,,b ,", ["a", "b"]),
    "nothing": ("", []),
    "only commas": (" , ,", []),
    "next line (U+0085) is no white space": ("\x85a", ["\x85a"]),
}


@pytest.mark.parametrize(("value", "members"), LISTS.values(), ids=LISTS.keys())
def test_lists(value: str, members: list[str]) -> None:
    """9110 §5.6.1."""
    assert grammar.tokens(value) == members
