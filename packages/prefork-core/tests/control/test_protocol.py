# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.control.protocol import (
    ARGUMENTS,
    Command,
    Refused,
    Request,
    Trouble,
    parse_answer,
    parse_request,
    render_refusal,
    render_request,
    render_result,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def requests(draw: Any) -> Request:
    command = draw(st.sampled_from(Command))
    arguments = {}
    for name, argument in ARGUMENTS.get(command, {}).items():
        if argument.needed or draw(st.booleans()):
            values = st.booleans() if argument.kind is bool else st.integers(argument.least, argument.most)
            arguments[name] = draw(values)
    return Request(command, arguments)


@given(requests())
def test_every_request_is_one_line_and_comes_back(request: Request) -> None:
    line = render_request(request)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_request(line) == request


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_every_result_is_one_line_of_ascii_and_comes_back(result: dict[str, Any]) -> None:
    line = render_result(result)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert parse_answer(line) == result


@given(st.sampled_from(Trouble), st.text())
def test_every_refusal_comes_back(trouble: Trouble, why: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_answer(render_refusal(Refused(trouble, why)))
    assert (caught.value.trouble, caught.value.why) == (trouble, why)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_request_or_refused(line: bytes) -> None:
    kind = Trouble.BAD_REQUEST
    try:
        parse_request(line)
    except Refused as refused:
        kind = refused.trouble
    assert kind is Trouble.BAD_REQUEST


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_an_answer_or_none(line: bytes) -> None:
    try:
        parse_answer(line)
    except (Refused, ValueError):
        pass


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "one line of JSON"),
        (b"\xff", "one line of JSON"),
        (b"[" * 4000, "one line of JSON"),
        (b"[]", "an object"),
        (b"{}", "the commands are status, "),
        (b'{"command": 1}', "the commands are"),
        (b'{"command": "dance"}', "the commands are"),
        (b'{"command": "status", "verbose": true}', "those of status: none"),
        (b'{"command": "stop", "slow": true}', "those of stop: quick"),
        (b'{"command": "stop", "quick": 1}', "quick is true or false"),
        (b'{"command": "scale"}', "scale needs workers"),
        (b'{"command": "scale", "workers": "3"}', "whole number"),
        (b'{"command": "scale", "workers": true}', "whole number"),
        (b'{"command": "scale", "workers": 0}', "from 1 to 512"),
        (b'{"command": "scale", "workers": 513}', "from 1 to 512"),
        (b'{"command": "kill-slot", "slot": -1}', "from 0 to"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(line: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        parse_request(line)


def test_what_json_does_not_have_becomes_a_text() -> None:
    assert parse_answer(render_result({"stream": Trouble})) == {"stream": str(Trouble)}
