# SPDX-License-Identifier: MIT
"""`wsgi.file_wrapper`: with `sendfile` where that is possible, and the same without."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import eventually
from raw_client import request
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE = os.urandom(4 << 20)
"""More than kernel and worker keep for a client that does not read."""


class Opened:
    """An application that answers with a file, and what became of it.

    Args:
        open_file: returns the file, at the place where the response begins.
        headers: of the response.
    """

    def __init__(self, open_file: Callable[[], Any], *headers: tuple[str, str]) -> None:
        self._open = open_file
        self._headers = list(headers)
        self.files: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", self._headers)
        self.files.append(self._open())
        return environ["wsgi.file_wrapper"](self.files[-1])

    @property
    def closed(self) -> bool:
        return all(file.closed for file in self.files)


def opener(folder: Path, content: bytes = b"0123456789", offset: int = 0) -> Callable[[], Any]:
    """Return a function that opens a file of this content, at an offset."""
    path = folder / "file"
    path.write_bytes(content)

    def open_file() -> Any:
        file = path.open("rb")
        file.seek(offset)
        return file

    return open_file


both = pytest.mark.parametrize("sendfile", [True, False])


@both
def test_a_file_is_sent_with_its_length(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path))
    with Serving(app, tmp_path, keepalive=60.0, settings={"sendfile": sendfile}) as server:
        with server.client() as client:
            answer = client.get().answer()
            assert (answer.body, answer.whole) == (b"0123456789", True)
            # Without sendfile the length is not known before the end.
            assert answer.fields["Content-Length"] == ("10" if sendfile else None)
            assert client.get().answer().body == b"0123456789"
        assert server.access(2)[0] == "ok 200 10 GET / HTTP/1.1"
    assert app.closed


@both
def test_it_begins_where_the_file_stands(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path, offset=7))
    with Serving(app, tmp_path, settings={"sendfile": sendfile}) as server, server.client() as client:
        assert client.get().answer().body == b"789"


@both
def test_it_ends_where_the_length_says(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path, offset=2), ("Content-Length", "3"))
    settings = {"sendfile": sendfile}
    with Serving(app, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as client:
        for _ in range(2):
            answer = client.get().answer()
            assert (answer.body, answer.whole) == (b"234", True)
        assert "Content-Length" not in server.errors() or not sendfile


@both
def test_a_file_shorter_than_the_length_cuts_the_response(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path), ("Content-Length", "11"))
    settings = {"sendfile": sendfile}
    with Serving(app, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as client:
        answer = client.get().answer()
        assert (answer.body, answer.whole) == (b"0123456789", False)
        assert "fewer bytes" in server.errors()
        if sendfile:
            assert answer.fields["Connection"] == "close"


@both
def test_head_sends_none_of_it(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path), ("Content-Length", "10"))
    settings = {"sendfile": sendfile}
    with Serving(app, tmp_path, keepalive=60.0, settings=settings) as server, server.client() as client:
        for _ in range(2):
            answer = client.send(request("HEAD", "/")).answer("HEAD")
            assert answer.fields["Content-Length"] == "10"
        assert server.access(2)[1] == "ok 200 0 HEAD / HTTP/1.1"
    assert app.closed


@both
def test_an_empty_file_is_a_response_of_length_0(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path, b""))
    with Serving(app, tmp_path, settings={"sendfile": sendfile}) as server, server.client() as client:
        assert client.get().answer().fields["Content-Length"] == "0"
    assert app.closed


@both
def test_a_place_behind_the_end_is_nothing(tmp_path: Path, sendfile: bool) -> None:
    app = Opened(opener(tmp_path, offset=20))
    with Serving(app, tmp_path, settings={"sendfile": sendfile}) as server, server.client() as client:
        assert client.get().answer().body == b""


def test_a_file_in_memory_is_read(tmp_path: Path) -> None:
    app = Opened(lambda: io.BytesIO(b"0123456789"))
    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.get().answer().body == b"0123456789"
    assert app.closed


def test_a_pipe_is_read(tmp_path: Path) -> None:
    def open_pipe() -> Any:
        reading, writing = os.pipe()
        os.write(writing, b"from a pipe")
        os.close(writing)
        return os.fdopen(reading, "rb")

    with Serving(Opened(open_pipe), tmp_path) as server, server.client() as client:
        assert client.get().answer().body == b"from a pipe"


def test_a_file_whose_size_is_not_known_is_read(tmp_path: Path) -> None:
    """Files of /proc say that they have 0 bytes."""
    app = Opened(lambda: open("/proc/self/stat", "rb"))  # noqa: SIM115 (the server closes it)
    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.get().answer().body.startswith(str(os.getpid()).encode())


@pytest.mark.parametrize("buffered", [False, True])
def test_a_compressed_file_is_sent_as_it_reads(tmp_path: Path, buffered: bool) -> None:
    """It has a descriptor, but that is of other bytes than its read() returns."""
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"plain text"))

    def open_file() -> Any:
        file = gzip.open(path)  # noqa: SIM115 (the same)
        return io.BufferedReader(file) if buffered else file

    with Serving(Opened(open_file), tmp_path) as server, server.client() as client:
        assert client.get().answer().body == b"plain text"


@pytest.mark.parametrize("kind", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile])
def test_a_temporary_file_is_sent_by_sendfile(tmp_path: Path, kind: Callable[..., Any]) -> None:
    def open_file() -> Any:
        file = kind(dir=tmp_path)
        file.write(b"0123456789")
        file.seek(1)
        return file

    with Serving(Opened(open_file), tmp_path) as server, server.client() as client:
        answer = client.get().answer()
        assert (answer.body, answer.fields["Content-Length"]) == (b"123456789", "9")


def test_a_wrapper_that_reads_something_else_is_read(tmp_path: Path) -> None:
    plain = opener(tmp_path)

    class Upper:
        """Passes everything on but read(), as files do that decrypt."""

        def __init__(self) -> None:
            self.file = plain()

        def read(self, size: int) -> bytes:
            data: bytes = self.file.read(size)
            return data[::-1]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with Serving(Opened(Upper), tmp_path) as server, server.client() as client:
        assert client.get().answer().body == b"9876543210"


def test_a_wrapper_that_only_passes_read_on_is_sent_by_sendfile(tmp_path: Path) -> None:
    """Django's File is one."""
    plain = opener(tmp_path)

    class Proxy:
        def __init__(self) -> None:
            self.file = plain()

        read = property(lambda self: self.file.read)
        fileno = property(lambda self: self.file.fileno)
        tell = property(lambda self: self.file.tell)
        closed = property(lambda self: self.file.closed)

        def close(self) -> None:
            self.file.close()

    app = Opened(Proxy)
    with Serving(app, tmp_path) as server, server.client() as client:
        assert client.get().answer().fields["Content-Length"] == "10"
    assert app.closed


def test_a_client_that_reads_slowly_costs_no_worker(tmp_path: Path) -> None:
    app = Opened(opener(tmp_path, LARGE))
    with Serving(app, tmp_path) as server, server.client(4096) as slow:
        slow.get("/slow")
        slow.read_head()
        with server.client() as other:
            other.get("/other")
            assert other.answer().body == LARGE
        assert server.access(1) == [f"ok 200 {len(LARGE)} GET /other HTTP/1.1"]
        assert not app.files[0].closed
        assert slow.rest() == LARGE
        assert server.access(2)[1] == f"ok 200 {len(LARGE)} GET /slow HTTP/1.1"
    assert app.closed


@pytest.mark.parametrize("vanish", ["close", "reset"])
def test_the_file_is_closed_when_the_client_is_gone(tmp_path: Path, vanish: str) -> None:
    app = Opened(opener(tmp_path, LARGE))
    with Serving(app, tmp_path) as server:
        client = server.client(4096)
        client.get()
        client.read_head()
        eventually(lambda: server.slot.requests == 1)
        getattr(client, vanish)()
        outcome, status, sent, *_ = server.access(1)[0].split()
        assert (outcome, status) == ("aborted", "200")
        assert int(sent) < len(LARGE), "what was not sent is not to be counted"
        assert app.closed


def test_a_file_that_becomes_shorter_cuts_the_response_and_is_told(tmp_path: Path) -> None:
    app = Opened(opener(tmp_path, LARGE))
    with Serving(app, tmp_path, keepalive=60.0) as server, server.client(4096) as client:
        client.get("/x")
        assert f"Content-Length: {len(LARGE)}".encode() in client.read_head()
        eventually(lambda: server.slot.requests == 1)
        os.truncate(tmp_path / "file", len(LARGE) // 2)
        assert len(client.rest()) < len(LARGE)
        assert server.access(1)[0].startswith("error 200 ")
        eventually(lambda: "the file became shorter" in server.errors())
    assert app.closed


def test_files_of_parked_responses_are_closed_when_the_worker_stops(tmp_path: Path) -> None:
    app = Opened(opener(tmp_path, LARGE))
    with Serving(app, tmp_path) as server:
        client = server.client(4096)
        client.get()
        client.read_head()
        eventually(lambda: server.slot.requests == 1)
    assert app.closed
    assert server.access(1)[0].startswith("aborted 200 ")
    assert "unfinished requests: 1" in server.errors()
    client.close()


def test_two_slow_clients_of_one_file_get_it_whole(tmp_path: Path) -> None:
    app = Opened(opener(tmp_path, LARGE))
    got: list[bytes] = []
    with Serving(app, tmp_path) as server:
        clients = [server.client(4096) for _ in range(2)]
        for client in clients:
            client.get()
        threads = [threading.Thread(target=lambda c=c: got.append(c.answer().body)) for c in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        for client in clients:
            client.close()
    assert [body == LARGE for body in got] == [True, True]
