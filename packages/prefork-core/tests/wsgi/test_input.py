# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.wsgi.input import Input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def source_of(pieces: Iterable[bytes], error: OSError | None = None) -> Callable[[int], bytes]:
    """Return a source that hands out pieces as they would arrive, then ends or fails."""
    left = [piece for piece in pieces if piece]

    def source(limit: int) -> bytes:
        assert limit > 0, "the source was asked for nothing"
        if not left:
            if error is not None:
                raise error
            return b""
        piece, left[0] = left[0][:limit], left[0][limit:]
        if not left[0]:
            del left[0]
        return piece

    return source


def body(*pieces: bytes) -> Input:
    return Input(source_of(pieces))


def broken(*pieces: bytes) -> Input:
    return Input(source_of(pieces, ConnectionError("the client went away")))


sizes = st.one_of(st.none(), st.integers(-2, 40))
calls = st.one_of(
    st.tuples(st.just("read"), sizes),
    st.tuples(st.just("readline"), sizes),
    st.tuples(st.just("readlines"), st.one_of(st.none(), st.integers(-1, 40))),
    st.tuples(st.just("next"), st.none()),
)


def call(file: Any, name: str, size: int | None) -> object:
    if name == "next":
        return next(iter(file), None)
    return getattr(file, name)(size)


@given(
    pieces=st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=12),
    script=st.lists(calls, max_size=12),
)
def test_it_reads_as_a_file_does_however_the_body_arrives(
    pieces: list[bytes], script: list[tuple[str, int | None]]
) -> None:
    ours, oracle = body(*pieces), io.BytesIO(b"".join(pieces))
    for name, size in script:
        assert call(ours, name, size) == call(oracle, name, size)
    assert ours.read() == oracle.read()


@given(
    pieces=st.lists(st.text("ab\n", max_size=12).map(str.encode), max_size=8),
    script=st.lists(calls, max_size=20),
)
def test_a_broken_body_never_looks_like_its_end(
    pieces: list[bytes], script: list[tuple[str, int | None]]
) -> None:
    """What is returned before the break is what a file that goes on would have returned."""
    ours, oracle = broken(*pieces), io.BytesIO(b"".join(pieces) + b"x" * 2000)
    try:
        for name, size in script:
            if size is None or size < 0 or name == "readlines":
                continue
            assert call(ours, name, size) == call(oracle, name, size)
    except ConnectionError:
        return
    with pytest.raises(ConnectionError):
        ours.read()


@pytest.mark.parametrize("method", ["read", "readline", "readlines", "__iter__"])
def test_every_way_of_reading_raises_what_the_source_raises(method: str) -> None:
    def read_all() -> None:
        list(getattr(broken(b"no newline"), method)())

    with pytest.raises(ConnectionError, match="went away"):
        read_all()


def test_a_sized_read_waits_until_all_of_it_is_there() -> None:
    assert body(b"a", b"b", b"c", b"d").read(3) == b"abc"


def test_a_sized_read_that_breaks_in_the_middle_raises() -> None:
    with pytest.raises(ConnectionError):
        broken(b"abc").read(4)


def test_what_was_read_before_the_break_is_returned_once() -> None:
    file = broken(b"one\ntw")
    assert file.readline() == b"one\n"
    with pytest.raises(ConnectionError):
        file.readline()


def test_reading_nothing_asks_nobody() -> None:
    def nobody(_limit: int) -> bytes:
        raise AssertionError

    assert Input(nobody).read(0) == b""
    assert Input(nobody).readline(0) == b""


def test_after_the_end_the_source_is_not_asked_again() -> None:
    asked = []

    def source(limit: int) -> bytes:
        asked.append(limit)
        return b""

    file = Input(source)
    assert [file.read(), file.read(5), file.readline(), file.readlines()] == [b"", b"", b"", []]
    assert len(asked) == 1


def test_a_sized_read_takes_no_more_from_the_source_than_it_returns() -> None:
    """An application that reads part of a body leaves the rest to be drained, or the connection to close."""
    asked = []

    def source(limit: int) -> bytes:
        asked.append(limit)
        return b"x" * limit

    assert Input(source).read(10) == b"x" * 10
    assert asked == [10]


def test_it_iterates_over_lines() -> None:
    assert list(body(b"a\nb", b"\n\nc")) == [b"a\n", b"b\n", b"\n", b"c"]


def test_readlines_stops_after_the_line_that_reaches_the_hint() -> None:
    file = body(b"ab\ncd\nef\n")
    assert file.readlines(4) == [b"ab\n", b"cd\n"]
    assert file.readlines() == [b"ef\n"]


def test_a_line_longer_than_the_limit_comes_in_parts() -> None:
    file = body(b"abcdef\ngh")
    assert [file.readline(4), file.readline(4), file.readline(4)] == [b"abcd", b"ef\n", b"gh"]


def test_long_lines_of_many_pieces_cost_no_squares() -> None:
    """A line of a megabyte in pieces of 16 bytes is put together once."""
    pieces = [b"x" * 16] * 65536
    assert len(body(*pieces).readline()) == 1 << 20
