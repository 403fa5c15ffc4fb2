# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ProtocolError
from prefork.http.buffer import ReceiveBuffer


def holding(*pieces: bytes) -> ReceiveBuffer:
    """Return a buffer to which these pieces were added."""
    buffer = ReceiveBuffer()
    for piece in pieces:
        buffer.append(piece)
    return buffer


def test_one_piece_is_kept_as_it_came() -> None:
    """Nearly every request arrives whole: it is not copied."""
    piece = bytes(range(200))
    assert holding(piece).data is piece


@given(st.lists(st.one_of(st.binary(min_size=1), st.integers(0, 20))))
def test_gives_out_what_came_in_in_order(steps: list[bytes | int]) -> None:
    """Bytes are added, numbers are taken off the front, against a plain bytes object."""
    buffer = ReceiveBuffer()
    model = b""
    for step in steps:
        if isinstance(step, bytes):
            buffer.append(step)
            model += step
        else:
            piece = buffer.take(step)
            assert type(piece) is bytes
            assert piece == model[:step]
            model = model[step:]
        assert bytes(buffer.data) == model


@pytest.mark.parametrize("pieces", [(b"abcdef",), (b"abc", b"def")], ids=["bytes", "bytearray"])
def test_skip_drops_from_the_front(pieces: tuple[bytes, ...]) -> None:
    buffer = holding(*pieces)
    buffer.skip(2)
    assert bytes(buffer.data) == b"cdef"
    buffer.skip(4)
    assert bytes(buffer.data) == b""


def test_line_is_taken_without_its_end() -> None:
    buffer = holding(b"one\r\n\r\ntwo\r")
    assert [buffer.take_line(10, "line") for _ in range(3)] == [b"one", b"", None]
    buffer.append(b"\n")
    assert buffer.take_line(10, "line") == b"two"
    assert holding(b"\r\n").take_line(10, "line") == b""


def test_line_of_the_limit_is_taken_and_a_longer_one_refused_before_its_end() -> None:
    assert holding(b"12345\r\n").take_line(5, "line") == b"12345"
    assert holding(b"12345\r").take_line(5, "line") is None
    for data in (b"123456\r\n", b"123456\r", b"1234567"):
        with pytest.raises(ProtocolError):
            holding(data).take_line(5, "line")
