# SPDX-License-Identifier: MIT
"""Flask applications do under two workers what Flask's documentation says."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from support.browser import Browser, blocks, fetch, read_all, upload, wire
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing.client import connect
from prefork.testing.processes import descriptors
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = UNDER_BOTH

APPLICATIONS: Final = Path(__file__).parent / "applications"
SIZE: Final = 3_000_001
CONTENT: Final = b"".join(blocks(SIZE))
UNTRUSTED: Final = "127.0.0.2"
"""A peer that `forwarded_allow_ips` does not name by default."""


def serve(folder: Path, application: str, **environ: str) -> Server:
    """Return a server of two workers; the applications offer the files of the folder."""
    (folder / "leaf.bin").write_bytes(CONTENT)
    arguments = f"-w 2 --access-logfile - --pythonpath {APPLICATIONS} flask_shop:{application}"
    return Server(folder, arguments, environ={"SHOP_FILES": str(folder), **environ})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve the application for all tests that do not stop it."""
    with serve(tmp_path_factory.mktemp(f"shop-{worker_class.name}"), "app") as server:
        yield server


class Conversation:
    """A response that waits for its client in the middle and keeps a worker busy, for a `with` statement.

    Attributes:
        pid: of the worker.
    """

    def __init__(self, shop: Server, name: str) -> None:
        assert isinstance(shop.address, tuple)
        self._answer = shop.folder / name
        self._connection = http.client.HTTPConnection(*shop.address, timeout=20)
        self._connection.request("GET", f"/dialogue?client={name}")
        self._response = self._connection.getresponse()
        self.pid = int(self._response.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> bytes:
        """Give the answer that the worker waits for; return what it says then."""
        self._answer.touch()
        rest = self._response.read()
        self._connection.close()
        return rest


@only(SYNC)  # one with threads is not busy yet
def test_a_worker_that_is_busy_leaves_requests_to_the_other(shop: Server) -> None:
    with Conversation(shop, "first") as first, Conversation(shop, "second") as second:
        assert {first.pid, second.pid} == set(shop.wait_workers(2))


class TestForms:
    def test_a_form_keeps_order_repetition_and_umlauts(self, shop: Server) -> None:
        reply = fetch(
            shop.address,
            "/form",
            method="POST",
            body=b"tag=a&tag=b&name=K%C3%A4se+und+Brot&empty=",
            Content_Type="application/x-www-form-urlencoded",
        )
        assert reply.json == {"tag": ["a", "b"], "name": ["Käse und Brot"], "empty": [""]}

    def test_json_comes_back(self, shop: Server) -> None:
        text = '{"price": 1.5, "name": "Käse", "tags": []}'.encode()
        reply = fetch(shop.address, "/json", method="POST", body=text, Content_Type="application/json")
        assert reply.json == {"price": 1.5, "name": "Käse", "tags": []}

    def test_bad_json_is_flasks_400(self, shop: Server) -> None:
        reply = fetch(shop.address, "/json", method="POST", body=b"{", Content_Type="application/json")
        assert (reply.status, reply.headers["Content-Type"]) == (400, "text/html; charset=utf-8")

    def test_two_cookies_are_two_fields_and_come_back(self, shop: Server) -> None:
        browser = Browser(shop.address)
        first = browser.get("/cookie")
        assert first.text == "none"
        assert [line.partition("=")[0] for line in first.headers.get_all("Set-Cookie", [])] == [
            "basket",
            "seen",
        ]
        assert browser.get("/cookie").text == "tea & cake"

    @only(SYNC)  # which needs only one request to keep a worker busy
    def test_a_session_is_the_same_in_every_worker(self, shop: Server) -> None:
        browser = Browser(shop.address)
        with Conversation(shop, "one") as one:
            with Conversation(shop, "other"):
                one.end()
                assert browser.post("/login", user="Zoë").text == "Zoë"
                assert browser.get("/").json["pid"] == one.pid
                again = Conversation(shop, "again")
            with again:
                assert browser.get("/").json["pid"] != one.pid
                assert browser.get("/whoami").text == "Zoë"
        assert Browser(shop.address).get("/whoami").text == "nobody"

    def test_a_redirect_is_relative_on_the_wire(self, shop: Server) -> None:
        reply = fetch(
            shop.address,
            "/login",
            method="POST",
            body=b"user=a",
            Content_Type="application/x-www-form-urlencoded",
        )
        assert (reply.status, reply.headers["Location"]) == (302, "/whoami")


class TestStreaming:
    def test_a_generator_is_chunked_for_1_1(self, shop: Server) -> None:
        reply = fetch(shop.address, "/stream?word=tea&rows=500")
        assert reply.text == "".join(f"tea {number}\n" for number in range(500))
        assert reply.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in reply.headers

    def test_a_generator_ends_with_the_connection_for_1_0(self, shop: Server) -> None:
        head, _, body = wire(shop.address, "GET /stream?word=tea HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
        assert body == b"tea 0\ntea 1\ntea 2\n"
        assert b"transfer-encoding" not in head.lower()

    def test_a_piece_is_sent_before_the_next_is_made(self, shop: Server) -> None:
        """PEP 3333: servers must not delay the transmission of any piece."""
        with Conversation(shop, "pieces") as conversation:
            assert conversation.end() == b"answered\n"

    @pytest.mark.parametrize("by", ["abort", "raise"])
    def test_an_error_in_the_middle_cuts_the_response(self, shop: Server, by: str) -> None:
        """A client that got no last chunk knows that something is missing (RFC 9112 section 8)."""
        answer = wire(shop.address, f"GET /breaks?by={by} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n4\r\none\n\r\n")
        with pytest.raises(http.client.IncompleteRead):
            fetch(shop.address, f"/breaks?by={by}")
        shop.wait_log(f"error in the application: GET /breaks?by={by}", count=2)

    def test_an_error_in_the_middle_resets_a_response_that_ends_with_the_connection(
        self, shop: Server
    ) -> None:
        """For a client of HTTP/1.0 a closed connection would be the end of a whole response."""
        with pytest.raises(ConnectionResetError):
            wire(shop.address, "GET /breaks?by=reset HTTP/1.0\r\n\r\n")

    @pytest.mark.parametrize("rudely", [False, True], ids=["closes", "resets"])
    def test_a_client_that_leaves_closes_the_generator(self, shop: Server, rudely: bool) -> None:
        name = f"client-{rudely}"
        with connect(shop.address) as sock:
            sock.sendall(f"GET /endless?client={name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert sock.recv(10_000)
            if rudely:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        shop.wait_log(f"endless: closed for {name}")
        shop.wait_log(f'"GET /endless?client={name} HTTP/1.1" 200 ')

    def test_head_of_an_endless_stream_ends(self, shop: Server) -> None:
        answer = wire(shop.address, "HEAD /endless?client=head HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n")


class TestBodies:
    def test_a_file_is_uploaded_with_its_name_and_every_byte(self, shop: Server) -> None:
        form = upload("K\u00e4se.bin", note="for later")
        reply = fetch(
            shop.address,
            "/upload",
            method="POST",
            body=b"".join(form.pieces([CONTENT])),
            Content_Type=form.content_type,
        )
        assert reply.json == {
            "name": "Käse.bin",
            "type": "application/octet-stream",
            "size": SIZE,
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "note": "for later",
        }

    def test_a_chunked_form_is_a_form(self, shop: Server) -> None:
        form = upload("a.bin", note="chunked")
        reply = fetch(
            shop.address,
            "/upload",
            method="POST",
            body=form.pieces([b"ab", b"c"]),
            Content_Type=form.content_type,
        )
        assert (reply.json["size"], reply.json["note"]) == (3, "chunked")

    def test_request_stream_reads_a_chunked_body_to_its_end(self, shop: Server) -> None:
        reply = fetch(shop.address, "/raw", method="POST", body=blocks(SIZE))
        assert reply.json == {
            "size": SIZE,
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "length": None,
        }

    def test_request_stream_reads_no_further_than_its_body(
        self, shop: Server, worker_class: WorkerClass
    ) -> None:
        second = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = wire(shop.address, "POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + second)
        assert b'"size":3' in answer
        # sync closes after the first, and says so: an answer to the second was never promised.
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == (1 if worker_class is SYNC else 2)
        assert answer.count(b"Connection: close\r\n") == 1

    @pytest.mark.parametrize("rudely", [False, True], ids=["closes", "resets"])
    @pytest.mark.parametrize(
        "framing",
        ["Content-Length: 9000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nf4240\r\n"],
        ids=["length", "chunked"],
    )
    @pytest.mark.parametrize(("limit", "seen"), [("", "OSError"), ("&limit=9999999", "ClientDisconnected")])
    def test_a_client_that_leaves_in_mid_body_is_an_error_in_the_read(
        self, shop: Server, rudely: bool, framing: str, limit: str, seen: str
    ) -> None:
        """Werkzeug turns the error into its own where it wraps the stream: with a limit."""
        name = f"{framing[:3]}-{rudely}-{seen}"
        with connect(shop.address) as sock:
            sock.sendall(f"POST /patient?client={name}{limit} HTTP/1.1\r\nHost: a\r\n{framing}".encode())
            sock.sendall(b"x" * 100_000)
            if rudely:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        shop.wait_log(f"patient: {seen} for {name}")

    def test_an_answer_before_the_body_was_read_can_be_read(self, shop: Server) -> None:
        """Closing at once would reset the connection while the client still sends, and destroy the answer."""
        reply = fetch(shop.address, "/impatient", method="POST", body=CONTENT)
        assert (reply.status, reply.text) == (413, "no, thanks")

    def test_100_continue_is_sent_when_flask_reads(self, shop: Server) -> None:
        head = "POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        with connect(shop.address) as sock:
            sock.sendall(head.encode())
            assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"abc")
            assert b'"size":3' in read_all(sock)

    def test_100_continue_is_not_sent_when_flask_refuses(self, shop: Server) -> None:
        head = "POST /impatient HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert wire(shop.address, head).startswith(b"HTTP/1.1 413 ")


class TestFiles:
    def test_a_file_is_sent_whole(self, shop: Server) -> None:
        reply = fetch(shop.address, "/file/leaf.bin")
        assert reply.body == CONTENT
        assert reply.headers["Content-Length"] == str(SIZE)
        assert "Transfer-Encoding" not in reply.headers

    def test_head_has_the_fields_of_get_and_no_body(self, shop: Server) -> None:
        whole = fetch(shop.address, "/file/leaf.bin")
        answer = wire(shop.address, "HEAD /file/leaf.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n")
        for name in ("Content-Length", "ETag", "Last-Modified", "Cache-Control"):
            assert f"\r\n{name}: {whole.headers[name]}\r\n".encode() in answer

    def test_a_copy_that_is_still_good_is_a_304_without_a_body(self, shop: Server) -> None:
        whole = fetch(shop.address, "/file/leaf.bin")
        for condition in (
            f"If-None-Match: {whole.headers['ETag']}",
            f"If-Modified-Since: {whole.headers['Last-Modified']}",
        ):
            answer = wire(shop.address, f"GET /file/leaf.bin HTTP/1.1\r\nHost: a\r\n{condition}\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 304 NOT MODIFIED\r\n")
            assert answer.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(
        ("wanted", "start", "end"),
        [
            ("0-0", 0, 1),
            ("1000000-1999999", 1_000_000, 2_000_000),
            ("2999999-", SIZE - 2, SIZE),
            ("-10", SIZE - 10, SIZE),
        ],
    )
    def test_a_range_is_sent_and_nothing_else(self, shop: Server, wanted: str, start: int, end: int) -> None:
        reply = fetch(shop.address, "/file/leaf.bin", Range=f"bytes={wanted}")
        assert reply.status == 206
        assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
        assert reply.headers["Content-Length"] == str(end - start)
        assert reply.body == CONTENT[start:end]

    def test_what_is_before_a_range_is_not_read(self, shop: Server) -> None:
        """Werkzeug asks the file wrapper whether it can be moved; a film must not be read up to its end."""
        with (shop.folder / "film.bin").open("wb") as file:
            file.truncate(1 << 30)
        before = sum(map(bytes_read, shop.wait_workers(2)))
        reply = fetch(shop.address, "/file/film.bin", Range="bytes=-1000")
        assert (reply.status, reply.body) == (206, bytes(1000))
        assert sum(map(bytes_read, shop.workers())) - before < 1_000_000

    def test_a_range_beyond_the_end_is_refused(self, shop: Server) -> None:
        reply = fetch(shop.address, "/file/leaf.bin", Range=f"bytes={SIZE}-")
        assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{SIZE}")

    def test_a_name_outside_ascii_is_encoded(self, shop: Server) -> None:
        reply = fetch(shop.address, "/attachment/leaf.bin")
        assert "filename*=UTF-8''K%C3%A4se.bin" in reply.headers["Content-Disposition"]
        assert reply.body == CONTENT

    def test_files_stay_closed(self, shop: Server) -> None:
        """Each worker has sent files and parts of them; none is open."""

        def closed() -> bool:
            files = [name for pid in shop.workers() for name in descriptors(pid)]
            return not any(name.endswith("leaf.bin") for name in files)

        fetch(shop.address, "/file/leaf.bin", Range="bytes=5-9")
        fetch(shop.address, "/file/leaf.bin")
        until(closed, "no open file")


class TestErrors:
    def test_error_handlers_answer(self, shop: Server) -> None:
        missing = fetch(shop.address, "/missing")
        assert (missing.status, missing.json) == (404, {"error": "no such shelf"})
        divided = fetch(shop.address, "/divide")
        assert (divided.status, divided.text) == (500, "handled")
        assert fetch(shop.address, "/teapot").status == 418
        assert fetch(shop.address, "/form").status == 405

    def test_an_unhandled_error_is_flasks_500_and_logged_once(self, shop: Server) -> None:
        reply = fetch(shop.address, "/boom")
        assert reply.status == 500
        assert b"boom" not in reply.body
        shop.wait_log("\n  RuntimeError: boom for the log\n")  # indented: of the same record
        assert shop.log().count("Exception on /boom [GET]") == 1
        assert "error in the application: GET /boom" not in shop.log()

    def test_204_has_neither_body_nor_length(self, shop: Server) -> None:
        answer = wire(shop.address, "DELETE /nothing HTTP/1.1\r\nHost: a\r\n\r\n").lower()
        assert answer.startswith(b"http/1.1 204 no content\r\n")
        assert b"\r\ncontent-length:" not in answer
        assert b"\r\ntransfer-encoding:" not in answer
        assert answer.endswith(b"\r\n\r\n")

    def test_options_says_what_is_allowed(self, shop: Server) -> None:
        reply = fetch(shop.address, "/where", method="OPTIONS")
        assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        assert reply.body == b""


class TestProxies:
    def test_only_a_trusted_peer_makes_it_https(self, shop: Server) -> None:
        trusted = fetch(shop.address, "/where", X_Forwarded_Proto="https", Host="shop.example").json
        assert (trusted["scheme"], trusted["url"]) == ("https", "https://shop.example/whoami")
        stranger = fetch(
            shop.address, "/where", source=UNTRUSTED, X_Forwarded_Proto="https", Host="shop.example"
        ).json
        assert (stranger["scheme"], stranger["url"]) == ("http", "http://shop.example/whoami")
        assert stranger["peer"] == UNTRUSTED

    def test_only_a_trusted_peer_mounts_the_application(self, shop: Server) -> None:
        request = "GET /shop/where/x HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /shop\r\nConnection: close\r\n\r\n"
        assert b'"root":"/shop"' in wire(shop.address, request)
        assert isinstance(shop.address, tuple)
        with socket.create_connection(shop.address, 20, (UNTRUSTED, 0)) as sock:
            sock.sendall(request.encode())
            assert read_all(sock).startswith(b"HTTP/1.1 404 ")

    def test_a_mount_point_in_the_environment_holds_for_every_request(self, tmp_path: Path) -> None:
        with serve(tmp_path, "app", SCRIPT_NAME="/mounted") as server:
            found = fetch(server.address, "/mounted/where/a%20b?c=%20", Host="shop.example").json
            assert found["root"] == "/mounted"
            assert (found["path"], found["rest"], found["query"]) == ("/where/a b", "a b", "c=%20")
            assert found["url"] == "http://shop.example/mounted/whoami"
            assert fetch(server.address, "/mounted2/where").status == 500

    def test_proxyfix_sees_what_the_proxy_said(self, tmp_path: Path) -> None:
        """ProxyFix believes whoever is the peer: the fields reach it from everybody, as under gunicorn."""
        with serve(tmp_path, "proxied") as server:
            for source in ("127.0.0.1", UNTRUSTED):
                found = fetch(
                    server.address,
                    "/where",
                    source=source,
                    X_Forwarded_For="203.0.113.9, 192.0.2.7",
                    X_Forwarded_Proto="https",
                    X_Forwarded_Host="shop.example",
                    X_Forwarded_Prefix="/shop",
                ).json
                assert found["peer"] == "192.0.2.7"
                assert found["url"] == "https://shop.example/shop/whoami"
            plain = fetch(server.address, "/where", Host="a.example").json
            assert plain["url"] == "http://a.example/whoami"


def test_whitenoise_around_flask_sends_files(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("body { color: #123 }")
    with serve(tmp_path, "with_static") as server:
        whole = fetch(server.address, "/static/leaf.bin")
        assert whole.body == CONTENT
        part = fetch(server.address, "/static/leaf.bin", Range="bytes=10-19")
        assert (part.status, part.body) == (206, CONTENT[10:20])
        style = fetch(server.address, "/static/style.css")
        assert style.headers["Content-Type"] == 'text/css; charset="utf-8"'
        assert fetch(server.address, "/").json["name"] == "with_static"
        again = fetch(server.address, "/static/leaf.bin", If_Modified_Since=whole.headers["Last-Modified"])
        assert (again.status, again.body) == (304, b"")


def bytes_read(pid: int) -> int:
    """Return what a process has read from files, from the disk or not, in bytes."""
    found = re.search(r"^rchar: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found
    return int(found[1])
