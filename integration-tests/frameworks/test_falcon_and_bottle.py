# SPDX-License-Identifier: MIT
"""Small frameworks, which come close to the server's own WSGI, work under two workers too."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from support.browser import Browser, blocks, fetch, upload, wire
from support.server import Server
from support.workers import UNDER_BOTH, WorkerClass

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = UNDER_BOTH

APPLICATIONS: Final = Path(__file__).parent / "applications"
CONTENT: Final = b"".join(blocks(1_000_001))


@pytest.fixture(scope="module")
def falcon(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve the Falcon application."""
    with Server(
        tmp_path_factory.mktemp(f"falcon-{worker_class.name}"),
        f"-w 2 --pythonpath {APPLICATIONS} falcon_notes",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory, worker_class: WorkerClass) -> Iterator[Server]:
    """Serve the Bottle application, and a file."""
    folder = tmp_path_factory.mktemp(f"bottle-{worker_class.name}")
    (folder / "leaf.bin").write_bytes(CONTENT)
    arguments = f"-w 2 --pythonpath {APPLICATIONS} bottle_notes:app"
    with Server(folder, arguments, environ={"SHOP_FILES": str(folder)}) as server:
        yield server


class TestFalcon:
    def test_media_goes_both_ways(self, falcon: Server) -> None:
        text = '{"text": "Käse"}'.encode()
        reply = fetch(falcon.address, "/notes/7", method="PUT", body=text, Content_Type="application/json")
        assert (reply.status, reply.headers["Location"]) == (
            201,
            "http://{}:{}/notes/7".format(*falcon.address),
        )
        assert reply.json == {"number": 7, "note": {"text": "Käse"}}

    def test_the_query_is_decoded_once(self, falcon: Server) -> None:
        reply = fetch(falcon.address, "/notes/1?tag=a&tag=b%2525")
        assert reply.json["tags"] == ["a", "b%25"]

    def test_the_prefix_follows_a_trusted_proxy(self, falcon: Server) -> None:
        reply = fetch(falcon.address, "/notes/1", X_Forwarded_Proto="https", Host="notes.example")
        assert reply.json["prefix"] == "https://notes.example"

    def test_204_ends_with_its_head(self, falcon: Server) -> None:
        answer = wire(falcon.address, "DELETE /notes/1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert b"content-length" not in answer.lower()

    def test_errors_are_falcons(self, falcon: Server) -> None:
        conflict = fetch(falcon.address, "/notes/0", method="DELETE")
        assert (conflict.status, conflict.json["title"]) == (409, "Not that one")
        assert fetch(falcon.address, "/nowhere").status == 404
        wrong = fetch(falcon.address, "/notes/1", method="POST", body=b"")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "DELETE, GET, PUT, OPTIONS")

    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_a_body_is_read_to_its_end(self, falcon: Server, chunked: bool) -> None:
        body = iter([CONTENT[:500_000], CONTENT[500_000:]]) if chunked else CONTENT
        reply = fetch(falcon.address, "/body", method="POST", body=body)
        assert reply.json == {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}

    @pytest.mark.parametrize("sized", ["true", "false"])
    def test_a_stream_is_sent_whole(self, falcon: Server, sized: str) -> None:
        """Falcon uses `wsgi.file_wrapper`, here with an object that has no descriptor."""
        reply = fetch(falcon.address, f"/body?sized={sized}")
        assert reply.body == b"falcon " * 50_000
        assert ("Content-Length" in reply.headers) == (sized == "true")


class TestBottle:
    def test_text_is_encoded_and_signed_cookies_come_back(self, bottle: Server) -> None:
        browser = Browser(bottle.address)
        assert browser.get("/name").text == "nobody"
        assert browser.get("/hello/Zo%C3%AB").text == "Grüße, Zoë"
        assert browser.get("/name").text == "Zoë"

    def test_a_form_with_a_file_arrives(self, bottle: Server) -> None:
        form = upload("leaf.bin", note="for later")
        reply = fetch(
            bottle.address,
            "/upload",
            method="POST",
            body=b"".join(form.pieces([CONTENT])),
            Content_Type=form.content_type,
        )
        assert reply.json == {"name": "leaf.bin", "size": len(CONTENT), "note": "for later"}

    def test_a_generator_is_sent_whole(self, bottle: Server) -> None:
        assert fetch(bottle.address, "/rows").text == "row 0\nrow 1\nrow 2\n"

    def test_a_file_and_its_parts_are_sent(self, bottle: Server) -> None:
        whole = fetch(bottle.address, "/file/leaf.bin")
        assert whole.body == CONTENT
        part = fetch(bottle.address, "/file/leaf.bin", Range="bytes=999990-")
        assert (part.status, part.body) == (206, CONTENT[999_990:])
        same = fetch(bottle.address, "/file/leaf.bin", If_None_Match=whole.headers["ETag"])
        assert (same.status, same.body) == (304, b"")
        head = wire(bottle.address, "HEAD /file/leaf.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"\r\nContent-Length: 1000001\r\n" in head
        assert head.endswith(b"\r\n\r\n")

    def test_errors_are_bottles(self, bottle: Server) -> None:
        gone = fetch(bottle.address, "/gone")
        assert (gone.status, "it was here yesterday" in gone.text) == (410, True)
        assert fetch(bottle.address, "/nowhere").status == 404

    def test_a_304_has_no_body_even_if_bottle_gives_one(self, bottle: Server) -> None:
        answer = wire(bottle.address, "GET /not-modified HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 304 Not Modified\r\n")
        assert b"must not be sent" not in answer
