# SPDX-License-Identifier: MIT
"""`wsgiref.validate` finds no fault with the server, whatever body a request has and however it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from support.browser import blocks, fetch, read_all, wire
from support.server import Server
from support.workers import UNDER_BOTH, WorkerClass

from prefork.testing.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = UNDER_BOTH

APPLICATIONS: Final = Path(__file__).parent / "applications"
READERS: Final = (
    "read",
    "read-all",
    "readline",
    "readline-limit",
    "readlines",
    "readlines-hint",
    "iterate",
)
"""The paths of applications/echo.py, each another way to read."""

LINES: Final = b"".join(b"line %d\n" % number * (number % 7) for number in range(2000)) + b"no newline"
BODIES: Final = {
    "empty": b"",
    "one-byte": b"x",
    "lines": LINES,
    "no-newline": b"x" * 70_000,  # longer than what is collected before the application is called
    "newlines": b"\n" * 3000,
}
PIECES: Final = 997
"""Bytes of a chunk; no reader asks for so many."""


CONTENT: Final = b"".join(blocks(3_000_001))


class Answer(NamedTuple):
    """A response, taken from the wire by the rules of RFC 9112 section 6.3."""

    interim: list[int]
    status: int
    head: bytes
    body: bytes


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve the validated echo application."""
    arguments = f"-w 2 --pythonpath {APPLICATIONS} echo:app"
    with Server(tmp_path_factory.mktemp(f"echo-{worker_class.name}"), arguments) as server:
        yield server
        log = server.log()
        # The validator asserts also when an iterator is collected that was never closed.
        assert "Iterator garbage collected without being closed" not in log
        assert "AssertionError" not in log


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve files by their descriptors."""
    folder = tmp_path_factory.mktemp(f"files-{worker_class.name}")
    (folder / "leaf.bin").write_bytes(CONTENT)
    with Server(
        folder, f"-w 2 --pythonpath {APPLICATIONS} echo:files", environ={"SHOP_FILES": str(folder)}
    ) as server:
        yield server


def request(path: str, *fields: str, method: str = "POST", version: str = "1.1") -> bytes:
    """Return a head."""
    host = ["Host: localhost"] if version == "1.1" else []
    return "\r\n".join([f"{method} {path} HTTP/{version}", *host, *fields, "", ""]).encode()


def chunks(body: bytes, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return a body in the chunked coding."""
    found = [body[at : at + PIECES] for at in range(0, len(body), PIECES)]
    coded = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in found)
    return coded + b"0\r\n" + trailers + b"\r\n"


def understand(received: bytes, method: str = "POST") -> Answer:
    """Take a response apart, and check that nothing is left over."""
    interim = []
    while match := re.match(rb"HTTP/1\.1 (1\d\d) [^\r]*\r\n\r\n", received):
        interim.append(int(match[1]))
        received = received[match.end() :]
    head, separator, body = received.partition(b"\r\n\r\n")
    assert separator, received
    head += b"\r\n"
    status = int(head[9:12])
    if method == "HEAD" or status in {204, 304}:
        assert body == b""
    elif b"\r\nTransfer-Encoding: chunked" in head:
        body = dechunk(body)
    elif found := re.search(rb"\r\nContent-Length: (\d+)", head):
        assert len(body) == int(found[1])
    return Answer(interim, status, head, body)


def dechunk(coded: bytes) -> bytes:
    """Return what was chunked; the coding must end where the bytes do."""
    body = b""
    while True:
        size, separator, coded = coded.partition(b"\r\n")
        assert separator
        length = int(size, 16)
        piece, end, coded = coded[:length], coded[length : length + 2], coded[length + 2 :]
        assert end == b"\r\n"
        if not length:
            assert not coded
            return body
        body += piece


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("reader", READERS)
class TestEveryBodyAndReader:
    def test_content_length(self, echo: Server, reader: str, body: bytes) -> None:
        answer = understand(wire(echo.address, request(f"/{reader}", f"Content-Length: {len(body)}") + body))
        assert (answer.status, answer.body) == (200, body)
        assert b"\r\nX-Length: %d\r\n" % len(body) in answer.head

    def test_chunked(self, echo: Server, reader: str, body: bytes) -> None:
        answer = understand(
            wire(echo.address, request(f"/{reader}", "Transfer-Encoding: chunked") + chunks(body))
        )
        assert (answer.status, answer.body) == (200, body)
        assert b"\r\nX-Length: none\r\n" in answer.head

    def test_content_length_of_1_0(self, echo: Server, reader: str, body: bytes) -> None:
        answer = understand(
            wire(echo.address, request(f"/{reader}", f"Content-Length: {len(body)}", version="1.0") + body)
        )
        assert (answer.status, answer.body) == (200, body)
        assert b"Transfer-Encoding" not in answer.head

    def test_100_continue(self, echo: Server, reader: str, body: bytes) -> None:
        """The body is sent when the server has asked for it, which it does when the application reads."""
        head = request(f"/{reader}", f"Content-Length: {len(body)}", "Expect: 100-continue")
        with connect(echo.address) as sock:
            sock.sendall(head)
            begun = sock.recv(25) if body else b""
            assert begun == (b"HTTP/1.1 100 Continue\r\n\r\n" if body else b"")
            sock.sendall(body)
            answer = understand(begun + read_all(sock))
        assert (answer.status, answer.body) == (200, body)


class TestOtherBodies:
    @pytest.mark.parametrize("reader", [*READERS, "ignore"])
    @pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PUT"])
    def test_no_body_reads_as_empty(self, echo: Server, reader: str, method: str) -> None:
        answer = understand(wire(echo.address, request(f"/{reader}", method=method)))
        assert answer.body == b""

    def test_extensions_and_trailers_of_chunks_reach_nobody(self, echo: Server) -> None:
        body = chunks(LINES, extension=b';name="a;b"', trailers=b"X-Length: 666\r\nContent-Length: 5\r\n")
        answer = understand(wire(echo.address, request("/read", "Transfer-Encoding: chunked") + body))
        assert (answer.status, answer.body) == (200, LINES)
        assert b"\r\nX-Length: none\r\n" in answer.head

    def test_a_body_that_comes_byte_by_byte_is_whole(self, echo: Server) -> None:
        data = request("/readline", "Transfer-Encoding: chunked") + chunks(b"ab\ncd", trailers=b"A: b\r\n")
        with connect(echo.address) as sock:
            for byte in data:
                sock.sendall(bytes([byte]))
            assert understand(read_all(sock)).body == b"ab\ncd"

    @pytest.mark.parametrize("how", ["", "length", "write", "nothing"])
    @pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_every_way_to_answer(self, echo: Server, how: str, method: str, version: str) -> None:
        head = request(f"/read?{how}", f"Content-Length: {len(LINES)}", method=method, version=version)
        answer = understand(wire(echo.address, head + LINES), method)
        assert answer.status == (204 if how == "nothing" else 200)
        assert answer.body == (b"" if method == "HEAD" or how == "nothing" else LINES)
        echo.wait_log(f"closed {method} /read?{how} HTTP/{version}")

    def test_options_of_the_server_itself(self, echo: Server) -> None:
        answer = understand(wire(echo.address, request("*", method="OPTIONS")))
        assert answer.status == 200
        assert b"\r\nX-Request: OPTIONS * HTTP/1.1\r\n" in answer.head

    def test_a_body_that_nobody_reads_does_not_hide_the_answer(self, echo: Server) -> None:
        body = b"".join(blocks(3_000_000))
        reply = fetch(echo.address, "/ignore", method="POST", body=body)
        assert (reply.status, reply.body) == (200, b"")

    def test_100_continue_is_not_sent_when_nobody_reads(self, echo: Server) -> None:
        head = request("/ignore", "Content-Length: 5", "Expect: 100-continue")
        assert understand(wire(echo.address, head)).interim == []

    def test_a_target_in_absolute_form_names_path_and_host(self, echo: Server) -> None:
        answer = understand(wire(echo.address, request("http://shop.example/read?length", method="GET")))
        assert answer.status == 200


class TestFiles:
    """`wsgi.file_wrapper` around a file, in a way that only `sendfile` can send it."""

    def test_the_whole_file(self, files: Server) -> None:
        reply = fetch(files.address, "/leaf.bin")
        assert reply.body == CONTENT
        assert reply.headers["Content-Length"] == str(len(CONTENT))

    def test_from_where_the_file_stands(self, files: Server) -> None:
        assert fetch(files.address, "/leaf.bin?offset=1000001").body == CONTENT[1_000_001:]

    def test_no_more_than_content_length(self, files: Server) -> None:
        assert fetch(files.address, "/leaf.bin?length=1000").body == CONTENT[:1000]

    def test_fewer_than_content_length_is_not_taken_for_all(self, files: Server) -> None:
        answer = wire(files.address, request("/leaf.bin?length=4000000", method="GET"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nContent-Length: 4000000" in head
        assert b"\r\nConnection: close" in head
        assert body == CONTENT
        files.wait_log("the application sent fewer bytes than its Content-Length")

    def test_1_0_gets_the_file_too(self, files: Server) -> None:
        answer = understand(wire(files.address, request("/leaf.bin", method="GET", version="1.0")))
        assert answer.body == CONTENT

    def test_head_gets_no_byte_of_it(self, files: Server) -> None:
        answer = understand(wire(files.address, request("/leaf.bin", method="HEAD")), "HEAD")
        assert (answer.status, answer.body) == (200, b"")

    def test_without_sendfile_it_would_be_read(self, files: Server, tmp_path: Path) -> None:
        """So the tests above do show that it was not."""
        arguments = f"-w 2 --no-sendfile --pythonpath {APPLICATIONS} echo:files"
        environ = {"SHOP_FILES": str(files.folder)}
        with Server(tmp_path, arguments, environ=environ) as server:
            assert fetch(server.address, "/leaf.bin").status == 500
            server.wait_log("ValueError: read length must be non-negative or -1")
