# SPDX-License-Identifier: MIT
"""What a WSGI application may do in its thread (PEP 3333)."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from typing import Any

import pytest

from prefork_tornado.container import Answer, ResponseArgs

HEAD: ResponseArgs = ("200 OK", [("Content-Type", "text/plain")])


class Client:
    """Takes what is sent, or not."""

    def __init__(self) -> None:
        self.got: list[tuple[ResponseArgs | None, bytes]] = []
        self.next: Future[None] = Future()
        self.next.set_result(None)

    def send(self, head: ResponseArgs | None, data: bytes) -> Future[None]:
        self.got.append((head, data))
        return self.next


def answer(method: str = "GET") -> tuple[Answer, Client]:
    client = Client()
    return Answer(method, client.send), client


def test_a_list_is_sent_in_one_piece_with_its_head() -> None:
    given, client = answer()
    given.start(*HEAD)
    given.take([b"one", b"two"])
    assert (given.unsent(), given.last, client.got) == (HEAD, b"onetwo", [])


def test_each_piece_is_sent_when_it_is_made() -> None:
    given, client = answer()
    given.start(*HEAD)
    given.take(iter([b"", b"one", b"two"]))
    assert client.got == [(HEAD, b"one"), (None, b"two")]
    assert given.unsent() is None


def test_a_piece_waits_until_the_one_before_is_taken() -> None:
    given, client = answer()
    given.start(*HEAD)
    client.next = Future()
    client.next.set_exception(ConnectionResetError())
    given.write(b"one")
    with pytest.raises(ConnectionResetError):
        given.write(b"two")
    assert client.got == [(HEAD, b"one")]


def test_an_error_may_replace_a_head_that_is_not_sent() -> None:
    given, _ = answer()
    given.start(*HEAD)
    with pytest.raises(AssertionError):
        given.start(*HEAD)
    error = ("500 Oh", [("A", "b")])
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        given.start(*error, _current())
    assert given.unsent() == error


def test_an_error_behind_the_head_ends_the_call() -> None:
    given, _ = answer()
    given.start(*HEAD)
    given.write(b"one")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            given.start(*HEAD, _current())


def _current() -> Any:
    return sys.exc_info()


@pytest.mark.parametrize("body", [["text"], iter(["text"]), [None]])
def test_a_body_is_made_of_bytes(body: Any) -> None:
    given, _ = answer()
    given.start(*HEAD)
    with pytest.raises(TypeError):
        given.take(body)
    assert not given.is_complete


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("OK", []),
        ("200 OK", [("A\n", "b")]),
        ("200 OK", [("Connection", "close")]),
        ("200 OK", (("A", "b"),)),
    ],
)
def test_a_head_that_breaks_the_rules_is_refused_where_it_is_made(status: str, fields: Any) -> None:
    given, _ = answer()
    with pytest.raises((TypeError, ValueError)):
        given.start(status, fields)


def test_a_body_without_a_head_is_an_error() -> None:
    given, _ = answer()
    given.take([b"one"])
    with pytest.raises(AssertionError):
        given.unsent()


class Endless:
    """A body without an end."""

    closed = False

    def __iter__(self) -> Any:
        while True:
            yield b"piece"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("method", "fields"), [("HEAD", []), ("GET", [("Content-Length", "7")])])
def test_nobody_makes_what_nobody_gets(method: str, fields: list[tuple[str, str]]) -> None:
    given, _ = answer(method)
    given.start("200 OK", fields)
    body = Endless()
    given.take(body)
    assert body.closed
    assert given.is_complete
