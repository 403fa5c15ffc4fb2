# SPDX-License-Identifier: MIT
"""A Django project does under two workers what Django's documentation says."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.browser import Browser, Reply, blocks, fetch, upload, wire
from support.django_project import APPLICATIONS, prepare
from support.server import Server
from support.workers import SYNC, UNDER_BOTH, WorkerClass, only

from prefork.testing.client import TIMEOUT, connect
from prefork.testing.processes import descriptors, status
from prefork.testing.waiting import until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

pytestmark = UNDER_BOTH

UNTRUSTED: Final = "127.0.0.2"
"""A peer that `forwarded_allow_ips` does not name by default."""

USER, PASSWORD = "ada", "correct horse"
"""As in applications/django_shop/manage.py."""

LARGE: Final = 200 * 1024 * 1024
MEMORY: Final = 8 * 1024
"""KiB by which a worker may grow when it receives or sends LARGE bytes."""


def serve(folder: Path, **environ: str) -> Server:
    """Return a server of two workers, for a folder that is prepared."""
    arguments = f"-w 2 --access-logfile - --chdir {APPLICATIONS} django_shop.wsgi"
    return Server(folder, arguments, environ={"SHOP_FOLDER": str(folder), **environ})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve the project for all tests that do not stop it."""
    folder = tmp_path_factory.mktemp(f"shop-{worker_class.name}")
    prepare(folder)
    with serve(folder) as server:
        server.wait_workers(2)
        yield server


def token(page: Reply) -> str:
    """Return the CSRF token of a page's form."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def log_in(server: Server) -> Browser:
    """Return a browser in which the administrator is logged in."""
    browser = Browser(server.address)
    page = browser.get("/admin/")
    reply = browser.post(
        "/admin/login/?next=/admin/", csrfmiddlewaretoken=token(page), username=USER, password=PASSWORD
    )
    assert reply.status == 200
    assert "Site administration" in reply.text
    return browser


class TestAdmin:
    def test_the_administrator_logs_in_and_adds_a_user(self, shop: Server) -> None:
        browser = log_in(shop)
        assert browser.cookie("sessionid")
        page = browser.get("/admin/auth/user/add/")
        saved = browser.post(
            "/admin/auth/user/add/",
            csrfmiddlewaretoken=token(page),
            username="grace",
            usable_password="true",
            password1="Kä$e und Brot 1",
            password2="Kä$e und Brot 1",
        )
        assert "was added successfully" in saved.text
        assert "grace" in browser.get("/admin/auth/user/").text

    def test_a_wrong_password_logs_nobody_in(self, shop: Server) -> None:
        browser = Browser(shop.address)
        page = browser.get("/admin/login/")
        reply = browser.post(
            "/admin/login/", csrfmiddlewaretoken=token(page), username=USER, password="wrong"
        )
        assert "Please enter the correct username and password" in reply.text
        assert not browser.cookie("sessionid")

    def test_a_form_without_the_token_is_refused(self, shop: Server) -> None:
        browser = Browser(shop.address)
        browser.get("/admin/login/")
        assert browser.post("/admin/login/", username=USER, password=PASSWORD).status == 403

    def test_a_form_from_elsewhere_is_refused(self, shop: Server) -> None:
        browser = Browser(shop.address, Origin="http://evil.example")
        page = browser.get("/admin/login/")
        reply = browser.post(
            "/admin/login/", csrfmiddlewaretoken=token(page), username=USER, password=PASSWORD
        )
        assert reply.status == 403

    def test_logging_out_ends_the_session(self, shop: Server) -> None:
        browser = log_in(shop)
        browser.post("/admin/logout/", csrfmiddlewaretoken=token(browser.get("/admin/password_change/")))
        assert "Log in" in browser.get("/admin/").text


class TestLargeFiles:
    def test_an_upload_of_200_mb_goes_to_the_disk(self, shop: Server) -> None:
        """Django spools what the server hands on; neither of them may hold it."""
        before = {pid: memory(pid) for pid in shop.wait_workers(2)}
        form = upload("large.bin", note="all of it")
        sent = hashlib.sha256()

        def content() -> Iterator[bytes]:
            for block in blocks(LARGE):
                sent.update(block)
                yield block

        reply = fetch(
            shop.address,
            "/upload/",
            method="POST",
            body=form.pieces(content()),
            Content_Type=form.content_type,
            Content_Length=str(form.length(LARGE)),
        )
        assert reply.status == 200
        found = reply.json
        assert (found["size"], found["kind"], found["note"]) == (LARGE, "TemporaryUploadedFile", "all of it")
        assert found["sha256"] == sent.hexdigest()
        (shop.folder / "kept").unlink()
        assert memory(found["pid"]) - before[found["pid"]] < MEMORY

    def test_a_file_response_of_200_mb_is_whole(self, shop: Server) -> None:
        path = shop.folder / "large.bin"
        with path.open("wb") as file:
            file.writelines(blocks(LARGE))
        before = {pid: memory(pid) for pid in shop.wait_workers(2)}
        with path.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest()
        assert download(shop, "/download/large.bin") == (200, LARGE, wanted)
        path.unlink()
        for pid, memory_before in before.items():
            assert memory(pid) - memory_before < MEMORY

    def test_head_of_a_file_response_has_its_length_and_no_body(self, shop: Server) -> None:
        (shop.folder / "small.txt").write_bytes(b"small" * 1000)
        answer = wire(shop.address, "HEAD /download/small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"\r\nContent-Length: 5000\r\n" in answer
        assert b'\r\nContent-Disposition: attachment; filename="small.txt"\r\n' in answer
        assert answer.endswith(b"\r\n\r\n")

    def test_an_empty_file_is_an_empty_response(self, shop: Server) -> None:
        (shop.folder / "empty").touch()
        reply = fetch(shop.address, "/download/empty")
        assert (reply.status, reply.headers["Content-Length"], reply.body) == (200, "0", b"")

    def test_without_sendfile_the_bytes_are_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "file.bin").write_bytes(b"".join(blocks(3_000_001)))
        wanted = hashlib.sha256((tmp_path / "file.bin").read_bytes()).hexdigest()
        arguments = f"-w 2 --no-sendfile --chdir {APPLICATIONS} django_shop.wsgi"
        with Server(tmp_path, arguments, environ={"SHOP_FOLDER": str(tmp_path)}) as server:
            assert download(server, "/download/file.bin") == (200, 3_000_001, wanted)


class TestStreaming:
    def test_every_row_arrives(self, shop: Server) -> None:
        reply = fetch(shop.address, "/rows/?last=2000")
        assert reply.headers["Transfer-Encoding"] == "chunked"
        assert reply.text == "".join(f"{number},{'x' * 1000}\n" for number in range(1, 2001))

    def test_a_client_that_leaves_closes_the_iterator(self, shop: Server) -> None:
        with connect(shop.address) as sock:
            sock.sendall(b"GET /rows/?client=leaver HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(10_000)
        shop.wait_log("rows: closed for leaver")

    def test_a_client_that_reads_nothing_more_holds_no_other(self, shop: Server) -> None:
        """One of two workers waits for it; the other answers."""
        with unread(shop):
            for _ in range(10):
                assert fetch(shop.address, "/where/").status == 200


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 2_000_000])
    def test_a_body_is_read_whole(self, shop: Server, size: int) -> None:
        reply = fetch(shop.address, "/body/", method="PUT", body=b"x" * size)
        assert reply.json == {"size": size, "method": "PUT"}

    def test_a_client_that_leaves_in_mid_body_is_an_unreadable_post(self, shop: Server) -> None:
        """With `Expect` no body is collected before the application is called, which reads it."""
        with connect(shop.address) as sock:
            sock.sendall(
                b"POST /body/?client=leaver HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
                b"Expect: 100-continue\r\n\r\n" + b"x" * 100_000
            )
        shop.wait_log("unreadable: leaver, UnreadablePostError(")

    def test_a_body_beyond_djangos_limit_is_refused_so_that_the_client_sees_it(self, shop: Server) -> None:
        reply = fetch(shop.address, "/body/", method="POST", body=b"x" * 4_000_000)
        assert reply.status == 400

    def test_a_file_upload_that_breaks_off_keeps_nothing(self, shop: Server) -> None:
        form = upload("broken.bin")
        with connect(shop.address) as sock:
            head = (
                "POST /upload/?client=breaker HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: {form.content_type}\r\nContent-Length: {form.length(9_000_000)}\r\n\r\n"
            )
            sock.sendall(head.encode() + form.before + b"x" * 4_000_000)
        shop.wait_log('"POST /upload/?client=breaker HTTP/1.1" 500 ')
        until(lambda: not list(shop.folder.glob("*.upload")), "the temporary file is gone")
        assert not (shop.folder / "media" / "broken.bin").exists()


class TestStatic:
    """WhiteNoise behind Django's staticfiles, with compressed files and hashed names."""

    def url(self, shop: Server) -> str:
        manifest = json.loads((shop.folder / "static" / "staticfiles.json").read_text())
        return f"/static/{manifest['paths']['shop/shop.css']}"

    def test_a_compressed_copy_is_sent_to_who_can_take_it(self, shop: Server) -> None:
        plain = fetch(shop.address, self.url(shop))
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Vary"] == "Accept-Encoding"
        assert "immutable" in plain.headers["Cache-Control"]
        packed = fetch(shop.address, self.url(shop), Accept_Encoding="gzip, deflate, br")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["Content-Length"] == str(len(packed.body))
        assert len(packed.body) < len(plain.body)
        assert gzip.decompress(packed.body) == plain.body

    def test_a_copy_that_is_still_good_is_a_304_without_a_body(self, shop: Server) -> None:
        whole = fetch(shop.address, self.url(shop))
        for condition in (
            f"If-None-Match: {whole.headers['ETag']}",
            f"If-Modified-Since: {whole.headers['Last-Modified']}",
        ):
            head = f"GET {self.url(shop)} HTTP/1.1\r\nHost: localhost\r\n{condition}\r\n\r\n"
            answer = wire(shop.address, head)
            assert answer.startswith(b"HTTP/1.1 304 ")
            assert answer.endswith(b"\r\n\r\n")

    def test_a_range_is_sent_and_nothing_else(self, shop: Server) -> None:
        whole = fetch(shop.address, self.url(shop))
        part = fetch(shop.address, self.url(shop), Range="bytes=10-19")
        assert (part.status, part.body) == (206, whole.body[10:20])
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.body)}"
        beyond = fetch(shop.address, self.url(shop), Range="bytes=1000000-")
        assert beyond.status == 416

    def test_the_admin_has_its_style(self, shop: Server) -> None:
        page = Browser(shop.address).get("/admin/login/")
        styles = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
        assert styles
        assert {fetch(shop.address, style).status for style in styles} == {200}


class TestResponses:
    def test_204_has_neither_body_nor_length(self, shop: Server) -> None:
        answer = wire(shop.address, "POST /nothing/ HTTP/1.1\r\nHost: localhost\r\n\r\n").lower()
        assert answer.startswith(b"http/1.1 204 no content\r\n")
        assert b"\r\ncontent-length:" not in answer
        assert b"\r\ntransfer-encoding:" not in answer
        assert answer.endswith(b"\r\n\r\n")

    def test_304_has_no_body_even_if_the_view_gives_one(self, shop: Server) -> None:
        answer = wire(shop.address, "GET /unchanged/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 304 Not Modified\r\n")
        assert b"must not be sent" not in answer

    def test_an_etag_of_django_is_honoured(self, shop: Server) -> None:
        first = fetch(shop.address, "/cached/")
        assert first.text == "the same as ever"
        again = fetch(shop.address, "/cached/", If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        assert fetch(shop.address, "/cached/", If_Match='"other"').status == 412

    def test_head_has_the_fields_of_get_and_no_body(self, shop: Server) -> None:
        answer = wire(shop.address, "HEAD /cached/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"\r\nContent-Length: 16\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    def test_options_says_what_is_allowed(self, shop: Server) -> None:
        reply = fetch(shop.address, "/upload/", method="OPTIONS")
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")

    def test_a_host_that_is_not_allowed_is_djangos_400(self, shop: Server) -> None:
        reply = fetch(shop.address, "/where/", Host="evil.example")
        assert reply.status == 400
        assert b"Bad Request (400)" in reply.body

    def test_an_error_is_djangos_500_and_in_the_log(self, shop: Server) -> None:
        reply = fetch(shop.address, "/boom/")
        assert reply.status == 500
        assert b"boom" not in reply.body
        shop.wait_log('"GET /boom/ HTTP/1.1" 500 ')

    def test_a_path_outside_ascii_is_decoded_once(self, shop: Server) -> None:
        reply = fetch(shop.address, "/download/K%C3%A4se%2525")
        assert reply.status == 500  # there is no such file, and the view does not care
        (shop.folder / "Käse%25").write_text("found")
        assert fetch(shop.address, "/download/K%C3%A4se%2525").text == "found"


class TestProxies:
    def test_only_a_trusted_peer_makes_it_secure(self, shop: Server) -> None:
        trusted = fetch(shop.address, "/where/", X_Forwarded_Proto="https", Host="shop.example").json
        assert (trusted["secure"], trusted["url"]) == (True, "https://shop.example/where/")
        stranger = fetch(
            shop.address, "/where/", source=UNTRUSTED, X_Forwarded_Proto="https", Host="shop.example"
        ).json
        assert (stranger["secure"], stranger["url"]) == (False, "http://shop.example/where/")
        assert stranger["peer"] == UNTRUSTED

    def test_secure_proxy_ssl_header_believes_every_peer(self, tmp_path: Path) -> None:
        """Django has no list of proxies: with that setting nobody else may reach the server."""
        with serve(tmp_path, SHOP_PROXY_HEADER="HTTP_X_FORWARDED_PROTO") as server:
            for source in ("127.0.0.1", UNTRUSTED):
                found = fetch(server.address, "/where/", source=source, X_Forwarded_Proto="https")
                assert found.json["secure"] is True
                found = fetch(server.address, "/where/", source=source)
                assert found.json["secure"] is False

    def test_a_mount_point_is_before_every_url(self, tmp_path: Path) -> None:
        with serve(tmp_path, SCRIPT_NAME="/mounted") as server:
            found = fetch(server.address, "/mounted/where/", Host="localhost").json
            assert (found["script"], found["path"]) == ("/mounted", "/where/")
            assert found["url"] == "http://localhost/mounted/where/"


@only(SYNC)
def test_each_worker_keeps_one_connection_to_the_database(shop: Server) -> None:
    """With CONN_MAX_AGE each worker connects once; the arbiter never does, so no worker inherits one."""
    seen: dict[int, int] = {}
    with unread(shop) as first:
        for _ in range(3):
            found = fetch(shop.address, "/database/").json
            seen[found["pid"]] = found["connections"]
        with unread(shop):
            first.close()
            for _ in range(3):
                found = fetch(shop.address, "/database/").json
                seen[found["pid"]] = found["connections"]
    assert set(seen) == set(shop.wait_workers(2))
    assert set(seen.values()) == {1}
    for pid in seen:
        assert sum(name.endswith("db.sqlite3") for name in descriptors(pid)) == 1
    assert not any(name.endswith("db.sqlite3") for name in descriptors(shop.pid))


def unread(server: Server) -> socket.socket:
    """Return a client that keeps a worker busy: it reads nothing of an endless response."""
    sock = connect(server.address)
    sock.sendall(b"GET /rows/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert sock.recv(1)
    return sock


def memory(pid: int) -> int:
    """Return the most memory that a process has had, in KiB."""
    return int(status(pid, "VmHWM").split()[0])


def download(server: Server, target: str) -> tuple[int, int, str]:
    """Return status, size and digest of a response without holding it."""
    assert isinstance(server.address, tuple)
    connection = http.client.HTTPConnection(*server.address, timeout=TIMEOUT)
    connection.request("GET", target)
    response = connection.getresponse()
    size, digest = 0, hashlib.sha256()
    assert response.headers["Content-Length"]
    while block := response.read(1 << 18):
        size += len(block)
        digest.update(block)
    connection.close()
    return response.status, size, digest.hexdigest()
