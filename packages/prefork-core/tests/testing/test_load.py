# SPDX-License-Identifier: MIT
"""A load notices every request that was not answered rightly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from prefork.testing.load import Load
from prefork.testing.waiting import until
from prefork.trial.answers import REPEAT

Respond = Callable[[bytes], bytes]


def right(path: bytes) -> bytes:
    body = b"one 7 %b\n" % path * REPEAT
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def serving(respond: Respond, *, requests: int = 1) -> Iterator[tuple[str, int]]:
    """Answer in a thread, a number of requests on each connection; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    for _ in range(requests):
                        if data := sock.recv(65536):
                            sock.sendall(respond(data.split(b" ")[1]))

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RD)  # wakes the thread


def test_right_answers_are_counted() -> None:
    with serving(right) as address, Load(address, clients=1) as load:
        load.wait(3)
        load.wait_version("one", 3)
        load.finish()
        load.check()
        assert set(load.pids) == {7}
        assert set(load.versions) == {"one"}


@pytest.mark.parametrize(
    ("respond", "kind"),
    [
        (lambda _: right(b"/of/another"), "wrong"),
        (lambda path: right(path).replace(b"200", b"503"), "wrong"),
        (lambda path: right(path)[:-1], "cut"),
        (lambda path: right(path) + b"more", "garbage"),
        (lambda _: b"", "empty"),
    ],
    ids=["of another", "of another status", "cut", "too long", "none"],
)
def test_what_is_no_right_answer_is_lost(respond: Respond, kind: str) -> None:
    with serving(respond) as address, Load(address, clients=1) as load:
        until(lambda: load.lost, "a request that is lost")
        load.finish()
        assert {loss.kind for loss in load.lost} == {kind}
        with pytest.raises(AssertionError, match="lost"):
            load.check()


def test_where_nobody_listens_it_ends() -> None:
    with serving(right) as address:
        pass
    with Load(address, clients=2) as load:
        load.wait_end()
        with pytest.raises(AssertionError, match=r"\d refused"):
            load.check()


def test_a_kept_connection_that_is_closed_at_once_is_cut_off() -> None:
    """The client asks again over another one, so the request is not lost, and it is noticed all the same."""
    with serving(right, requests=2) as address, Load(address, clients=1, keep=True) as load:
        until(lambda: load.cut_off, "a connection that is cut off")
        load.finish()
        assert not load.lost
        with pytest.raises(AssertionError, match="cut off"):
            load.check()
