# SPDX-License-Identifier: MIT
"""What aiohttp's parser refuses is answered as prefork's own would."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser

from prefork_aio.web import refusal

LONG = b"x" * 200


def error_of(data: bytes) -> HttpProcessingError:
    """Return what the parser says of some bytes, with narrow limits."""

    async def parse() -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        HttpRequestParser(
            protocol, loop, 65536, max_line_size=100, max_field_size=100, max_headers=3
        ).feed_data(data)

    with pytest.raises(HttpProcessingError) as caught:
        asyncio.run(parse())
    return caught.value


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "too long a line in the head"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + LONG + b"\r\n\r\n", 431, "too long a line in the head"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + LONG + b": 1\r\n\r\n", 431, "too long a line in the head"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n", 431, "Too many headers received"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "Invalid header token"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing"),
        (b"secret\r\n\r\n", 400, "Invalid method encountered"),
        (b"\x16\x03\x01\x02\x00", 400, "Received HTTPS traffic on an HTTP port"),
    ],
)
def test_each_fault_has_its_status_and_a_reason_without_the_client_s_bytes(
    data: bytes, status: int, reason: str
) -> None:
    error = error_of(data)
    assert (refusal.status_of(error), refusal.reason_of(error)) == (status, reason)


def test_a_body_that_breaks_is_the_client_s_fault_and_other_errors_are_not() -> None:
    assert refusal.status_of(web.RequestPayloadError("400, message:\n  'secret'")) == 400
    assert [refusal.status_of(error) for error in (None, LookupError(), web.HTTPNotFound())] == [0, 0, 0]


@pytest.mark.parametrize(
    ("method", "body"), [("GET", b"400 Bad Request\n"), ("HEAD", b""), ("", b"400 Bad Request\n")]
)
def test_the_answer_is_prefork_s_own(method: str, body: bytes) -> None:
    answer = refusal.rendered(400, "own", method)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nServer: own\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\n" + body)
    assert refusal.body_of(answer) == len(body)
    assert b"Server" not in refusal.rendered(400, "")
