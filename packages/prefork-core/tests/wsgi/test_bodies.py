# SPDX-License-Identifier: MIT
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork.wsgi.bodies import BodyRoom


def test_one_body_has_an_eighth_at_most() -> None:
    room = BodyRoom(800)
    assert not room.reserve(101)
    assert room.reserve(100)


def test_without_memory_there_is_no_room() -> None:
    assert not BodyRoom(0).reserve(1)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 2_000)))
def test_never_more_than_there_is_and_all_of_it_again_at_the_end(size: int, wanted: list[int]) -> None:
    room = BodyRoom(size)
    held = [count for count in wanted if room.reserve(count)]
    assert sum(held) <= size
    for count in held:
        room.release(count)
    share = size // 8
    assert share == 0 or all(room.reserve(share) for _ in range(8))
