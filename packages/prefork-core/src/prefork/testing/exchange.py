# SPDX-License-Identifier: MIT
"""What a worker answers: requests and responses of every shape, many on a connection, and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from prefork.testing.client import Answer, Kept, Replies, RequestFailed, connect, render, send
from prefork.testing.subject import Held, Subject, fresh, needs, release, wait_held
from prefork.trial.answers import REPEAT

if TYPE_CHECKING:
    import socket

    from prefork.testing.server import Server

_BODY: Final = bytes(range(256)) * 400
_BIG: Final = 8 << 20

_HOST: Final = b"Host: test\r\n"
_MALFORMED: Final = {
    "no request": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "space before a colon": b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
    "a control character": b"GET / HTTP/1.1\r\n" + _HOST + b"A: b\x00c\r\n\r\n",
    "a line that goes on": b"GET / HTTP/1.1\r\n" + _HOST + b"A: b\r\n c\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\n" + _HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "no length": b"POST /echo HTTP/1.1\r\n" + _HOST + b"Content-Length: +3\r\n\r\nabc",
    "a length and chunks": b"POST /echo HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
_TOO_LONG: Final = {
    "request line": render("/" + "x" * 10_000),
    "field": render("/", "GET", b"", "A: " + "x" * 10_000),
    "many fields": render("/", "GET", b"", *(f"A{number}: b" for number in range(200))),
}


class Exchange(Subject):
    """Requests and responses."""

    def test_an_answer_is_whole_and_of_this_application(self, server: Server) -> None:
        """A response with a length is sent to its last byte."""
        [pid] = server.wait_workers(1)
        answer = server.ask("/simple")
        assert answer.status == 200
        assert answer.text == f"one {pid} /simple\n" * REPEAT

    def test_a_body_with_a_length_reaches_the_application(self, server: Server) -> None:
        """The application reads all bytes of a request's body, and no others."""
        assert server.ask("/echo", method="POST", body=_BODY).body == _BODY

    def test_a_body_that_comes_late_reaches_the_application(self, server: Server) -> None:
        """A body may come in a segment of its own, and in two."""
        with connect(server.address) as sock:
            request = render("/echo", "POST", _BODY)
            head = len(request) - len(_BODY)
            for piece in (request[:head], request[head:-1000], request[-1000:]):
                send(sock, piece)
            assert Replies(sock).next().body == _BODY

    def test_a_chunked_body_reaches_the_application(self, server: Server) -> None:
        """Chunks of a request's body are put together; what is said beside them is left out."""
        chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (_BODY, b"x", b"yz"))
        with connect(server.address) as sock:
            send(sock, render("/echo", "POST", b"", "Transfer-Encoding: chunked"))
            send(sock, chunks + b"0\r\n\r\n")
            assert Replies(sock).next().body == _BODY + b"xyz"

    def test_the_answer_to_head_has_no_body(self, server: Server) -> None:
        """HEAD has the status of GET, and not a byte of a body (RFC 9110 section 9.3.2)."""
        with connect(server.address) as sock:
            send(sock, render("/simple", "HEAD", b"", "Connection: close"))
            replies = Replies(sock)
            assert replies.next(to_head=True).status == 200
            check_ended(replies)

    def test_a_204_has_no_body(self, server: Server) -> None:
        """A response with the status 204 has neither a body nor a length (RFC 9110 section 15.3.5)."""
        with connect(server.address) as sock:
            send(sock, render("/empty", "GET", b"", "Connection: close"))
            replies = Replies(sock)
            answer = replies.next()
            assert answer.status == 204
            assert "content-length" not in answer.head.lower()
            assert "transfer-encoding" not in answer.head.lower()
            check_ended(replies)

    def test_a_big_response_is_whole(self, server: Server) -> None:
        """A response of many times a socket's buffer is sent to its end."""
        assert server.ask(f"/big/{_BIG}").body == b"x" * _BIG

    def test_a_stream_arrives_piece_by_piece(self, server: Server) -> None:
        """What the application has given is sent before it gives more."""
        path = fresh("stream")
        with connect(server.address) as sock:
            send(sock, render(path))
            wait_held(server, path)
            assert b"first\n" in _received(sock, b"first\n")
            release(server, path)
            assert b"last\n" in _received(sock, b"last\n")

    def test_a_stream_has_an_end(self, server: Server) -> None:
        """A client can tell the end of a response without a length from one that was cut."""
        path = fresh("stream")
        release(server, path)
        assert server.ask(path).body == b"first\nlast\n"

    def test_who_expects_100_is_told_to_go_on(self, server: Server) -> None:
        """A client that waits for 100 with its body gets it, and then the answer (RFC 9110, 10.1.1)."""
        request = render("/echo", "POST", _BODY, "Expect: 100-continue")
        with connect(server.address) as sock:
            replies = Replies(sock)
            send(sock, request[: -len(_BODY)])
            assert replies.next().status == 100
            send(sock, _BODY)
            assert replies.next().body == _BODY

    def test_who_closes_is_answered_and_closed(self, server: Server) -> None:
        """After `Connection: close` the answer is the last."""
        with connect(server.address) as sock:
            send(sock, render("/simple", "GET", b"", "Connection: close"))
            replies = Replies(sock)
            assert replies.next().closing
            check_ended(replies)

    def test_a_client_of_http_1_0_is_answered_and_closed(self, server: Server) -> None:
        """It does not know chunks, nor that a connection stays."""
        path = fresh("stream")
        release(server, path)
        with connect(server.address) as sock:
            send(sock, f"GET {path} HTTP/1.0\r\n\r\n".encode())
            replies = Replies(sock)
            assert replies.next().body == b"first\nlast\n"
            check_ended(replies)

    # Connections with more than one request

    @needs("keeps_alive")
    def test_a_connection_stays_for_the_next_request(self, server: Server) -> None:
        """A connection is kept after responses with and without a body, and with and without a length."""
        stream = fresh("stream")
        release(server, stream)
        kept = Kept(server.address)
        paths = ("/simple", stream, "/empty", "/big/100000", "/last")
        assert [kept.ask(path).closing for path in paths] == [False] * len(paths)
        kept.send(render("/echo", "POST", _BODY))
        assert kept.read().body == _BODY
        assert "/after" in kept.ask("/after").text
        kept.close()

    @needs("keeps_alive")
    def test_pipelined_requests_are_answered_in_order(self, server: Server) -> None:
        """Requests sent without waiting are answered in the same order, however long one of them takes."""
        kept = Kept(server.address)
        path = fresh("hold")
        kept.send(render(path) + render("/echo", "POST", _BODY) + render("/third"))
        wait_held(server, path)
        release(server, path)
        assert kept.read().text.endswith(f" {path}\n")
        assert kept.read().body == _BODY
        assert kept.read().text.endswith(" /third\n")
        kept.close()

    @needs("keeps_alive")
    def test_a_body_that_nobody_reads_is_no_request(self, server: Server) -> None:
        """The next request begins after the body, though the application has not asked for it."""
        kept = Kept(server.address)
        inner = render("/smuggled")
        kept.send(render("/unread", "POST", inner) + render("/next"))
        assert kept.read().text.endswith(" /unread\n")
        assert kept.read().text.endswith(" /next\n")
        assert not kept.rest
        kept.close()

    # Requests beside each other

    @needs("concurrent")
    def test_requests_wait_beside_each_other(self, server: Server) -> None:
        """A request that waits in the application holds up no other of its worker."""
        with Held(server) as first, Held(server) as second:
            assert server.ask("/quick").status == 200
            assert second.finish().status == 200
            assert first.finish().status == 200

    # Refusals

    @pytest.mark.parametrize("kind", _MALFORMED)
    def test_what_is_malformed_is_refused_and_closed(self, server: Server, kind: str) -> None:
        """It is answered with 400, and nothing that follows is taken for a request."""
        assert self._refused(server, _MALFORMED[kind] + render("/smuggled")).status == 400

    @pytest.mark.parametrize("kind", _TOO_LONG)
    def test_what_is_too_long_is_refused_and_closed(self, server: Server, kind: str) -> None:
        """A head beyond the limits is answered with a status of a client's error."""
        assert 400 <= self._refused(server, _TOO_LONG[kind]).status < 500

    @staticmethod
    def _refused(server: Server, request: bytes) -> Answer:
        with connect(server.address) as sock:
            send(sock, request)
            replies = Replies(sock)
            answer = replies.next()
            check_ended(replies)
        assert server.ask("/after").status == 200
        return answer


def check_ended(replies: Replies) -> None:
    """Check that a connection ends, and that nothing comes before it does.

    Raises:
        AssertionError: something came, or it stays open.
    """
    with pytest.raises(RequestFailed) as failure:
        replies.next()
    assert failure.value.kind in {"empty", "reset"}, failure.value


def _received(sock: socket.socket, end: bytes) -> bytes:
    """Receive until there are certain bytes, or no more come."""
    data = b""
    while end not in data and (more := sock.recv(65536)):
        data += more
    return data
