# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from serving import Serving

from prefork import __version__
from prefork.demo import app

if TYPE_CHECKING:
    from pathlib import Path


def page(**environ: str) -> str:
    """Return what the demo answers, called as PEP 3333 has it."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    setup_testing_defaults(environ)
    body = b"".join(app(environ, lambda status, headers: started.append((status, headers))))
    status, headers = started[0]
    assert status == "200 OK"
    assert dict(headers)["Content-Length"] == str(len(body))
    return body.decode()


def full(**more: str) -> str:
    return page(RAW_URI="/", REMOTE_ADDR="192.0.2.1", REMOTE_PORT="5", SERVER_PROTOCOL="HTTP/1.1", **more)


def test_it_shows_who_answered() -> None:
    shown = full()
    assert f'<span class="pid">{os.getpid()}</span>' in shown
    assert f"prefork {__version__}" in shown
    assert f"kill -HUP {os.getppid()}" in shown


def test_it_shows_what_was_asked() -> None:
    shown = full(REQUEST_METHOD="PUT", HTTP_X_OWN="value")
    assert "PUT / HTTP/1.1" in shown
    assert "192.0.2.1:5" in shown
    assert "<th>X-Own</th><td>value</td>" in shown


def test_it_counts() -> None:
    first, second = full(), full()
    assert first != second


def test_what_the_client_sent_is_text_and_no_markup() -> None:
    shown = full(HTTP_X_OWN="<script>alert(1)</script>")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_it_is_well_formed() -> None:
    class Balance(HTMLParser):
        open: list[str]

        def handle_starttag(self, tag: str, _attributes: Any) -> None:
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.open = []
    parser.feed(full())
    assert parser.open == []


def test_a_client_on_a_unix_socket_is_shown_as_one(tmp_path: Path) -> None:
    settings = {"bind": (f"unix:{tmp_path}/s",)}
    with Serving(validator(app), tmp_path, settings=settings) as server, server.client() as client:
        answer = client.get("/x?y").answer()
        assert answer.status == 200
        assert answer.fields["Content-Type"] == "text/html; charset=utf-8"
        assert b"a Unix socket" in answer.body
        assert b"GET /x?y HTTP/1.1" in answer.body
