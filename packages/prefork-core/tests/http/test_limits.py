# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import ProtocolError
from prefork.http.head import parse_head
from prefork.http.limits import UNLIMITED_HEAD, Limits


def test_head_limit_is_the_largest_head_that_the_others_allow() -> None:
    limits = Limits(line=20, fields=2, field_size=10)
    largest = b"GET /aaaaaa HTTP/1.1\r\nHost: 6789\r\nAb: 456789\r\n\r\n"
    assert limits.head == len(largest)
    assert parse_head(largest, limits) is not None


def test_head_limit_does_not_depend_on_where_the_bytes_were_cut() -> None:
    """Limits(line=20…) bounds the sum, so a head over it breaks one of them whole, and the sum in parts."""
    limits = Limits(line=20, fields=2, field_size=10)
    endless = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20
    for data in (endless, endless + b"\r\n"):
        with pytest.raises(ProtocolError) as caught:
            parse_head(data, limits)
        assert caught.value.status == 431


@pytest.mark.parametrize("limits", [Limits(line=0), Limits(fields=0), Limits(field_size=0)])
def test_something_bounds_the_buffer_when_a_limit_is_off(limits: Limits) -> None:
    assert limits.head == UNLIMITED_HEAD
