# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import pytest
from http_dialogue import Body, Dialogue, Got, Refused, converse, cut, singly
from http_strategies import Message, anything, conversations, places, spoiled
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork.http import Limits, parse_head

SMALL = Limits(line=60, fields=6, field_size=60)
limits = st.sampled_from([Limits(), SMALL, Limits(line=0, fields=0, field_size=0)])


@settings(max_examples=300)
@given(anything, limits, places, st.integers(1, 50))
@example(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", SMALL, [], 1)
@example(b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost : a\r\n\r\n", SMALL, [], 1)
@example(b"GET /\r" + b"a" * 60 + b" HTTP/1.1\r\nHost: a\r\n\r\n", SMALL, [], 1)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox", SMALL, [], 1)
def test_the_way_bytes_are_split_changes_nothing(
    data: bytes, bounds: Limits, where: list[int], piece: int
) -> None:
    """9112 §2.2: a message is a sequence of octets; how they were sent and read is not part of it."""
    whole = converse([data], bounds)
    assert converse(singly(data), bounds) == whole
    assert converse(cut(data, where), bounds) == whole
    assert converse([data], bounds, piece) == whole


@settings(max_examples=60)
@given(anything.filter(lambda data: len(data) < 400), limits)
def test_one_cut_at_any_byte_changes_nothing(data: bytes, bounds: Limits) -> None:
    whole = converse([data], bounds)
    for at in range(len(data) + 1):
        assert converse([data[:at], data[at:]], bounds) == whole


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("over", range(-6, 7))
def test_a_head_near_its_limits_is_decided_alike_however_it_arrives(over: int, end: bytes) -> None:
    """The limits are checked in parts and in whole, in two places."""
    for data in (
        b"GET /" + b"a" * (46 + over) + b" HTTP/1.1\r\nHost: a" + end,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (57 + over) + end,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 57 + b"\r\n") * (5 + over // 3) + end,
        b"G" * (SMALL.head + over) + end,
        b"GET / HTTP/1.1\r\n" + b"X:" + b"a" * (SMALL.head - 20 + over) + end,
    ):
        whole = converse([data], SMALL)
        assert converse(singly(data), SMALL) == whole
        assert converse(cut(data, [SMALL.head - 1, SMALL.head]), SMALL) == whole


@settings(max_examples=300)
@given(anything, places)
def test_nothing_but_the_two_errors_ever_comes_out(data: bytes, where: list[int]) -> None:
    """ProtocolError and ClientDisconnected; a Dialogue lets all others through."""
    dialogue = Dialogue()
    for piece in cut(data, where):
        if piece:
            dialogue.hear(piece)
    dialogue.hear(b"")
    assert len(dialogue.finished()) <= 2 * data.count(b"\r\n\r\n") + 2


@settings(max_examples=300)
@given(conversations, places)
def test_valid_requests_are_read_as_they_were_meant(sent: list[Message], where: list[int]) -> None:
    """9112 §2 to §7: pipelined, whatever their framing."""
    events = converse(cut(b"".join(message.wire for message in sent), where))
    heads = [event for event in events if isinstance(event, Got)]
    bodies = [event for event in events if isinstance(event, Body)]
    assert len(events) == 2 * len(sent)
    for message, head, body in zip(sent, heads, bodies, strict=True):
        assert (head.method, head.target, head.version) == (message.method, message.target, message.version)
        assert (head.path, head.query) == (message.path, message.query)
        assert dict(head.fields) == message.fields()
        assert dict(head.underscored) == underscored(message)
        assert body == Body(message.body, whole=True)


def underscored(message: Message) -> dict[str, tuple[str, ...]]:
    """Return the fields that must be set apart."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in message.lines:
        if "_" in name:
            found[name.upper()] = (*found.get(name.upper(), ()), value)
    return found


@given(conversations)
def test_pairs_are_what_was_sent(sent: list[Message]) -> None:
    request = parse_head(sent[0].wire, Limits())
    assert request is not None
    lines = [(name.lower().encode(), value.encode("latin-1")) for name, value in sent[0].lines]
    assert request.pairs() == lines


@settings(max_examples=300)
@given(spoiled())
def test_no_accepted_text_holds_what_could_break_a_line(data: bytes) -> None:
    """9110 §5.5: whatever is written to a log, an environ or another server."""
    for event in converse([data]):
        if isinstance(event, Got):
            texts = [event.method, event.target, *(text for field in event.fields for text in field)]
            assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", "".join(texts))
            assert re.fullmatch("[!-~]+", event.method + event.target)


@given(conversations, spoiled(), conversations)
def test_what_follows_a_refusal_changes_nothing(
    before: list[Message], bad: bytes, after: list[Message]
) -> None:
    """9112 §9.3: not one byte behind it is looked at."""
    start = b"".join(message.wire for message in before) + bad
    events = converse([start])
    if isinstance(events[-1], Refused):
        assert converse([start, *(message.wire for message in after)]) == events
