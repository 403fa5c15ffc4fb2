# SPDX-License-Identifier: MIT
"""What hooks are shown; that and when they run is in `test_serve`."""

from __future__ import annotations

import logging

from prefork.http import Limits, ServerConnection
from prefork.wsgi.requesthooks import HookRequest, HookResponse, RequestHooks
from prefork.wsgi.response import Response


class Manners:
    server = ""
    keeps = True

    def date(self) -> str:
        return ""


class Nowhere:
    """Takes what is sent."""

    def send(self, _data: bytes) -> None: ...

    def send_last(self, _data: bytes) -> None: ...


def received(head: str) -> ServerConnection:
    http = ServerConnection(Limits())
    http.feed(head.replace("\n", "\r\n").encode("latin-1"))
    assert http.next_request() is not None
    return http


def test_a_request_has_gunicorns_attributes() -> None:
    http = received("PUT /a%20b?c=d HTTP/1.0\nHost: a\nX-Own: \xe9\nx-own: 2\nContent-Type: b\n\n")
    assert http.request is not None
    req = HookRequest(http.request)
    assert (req.method, req.uri, req.path, req.query) == ("PUT", "/a%20b?c=d", "/a%20b", "c=d")
    assert req.version == (1, 0)
    assert req.headers == [("HOST", "a"), ("X-OWN", "\xe9"), ("X-OWN", "2"), ("CONTENT-TYPE", "b")]


def test_a_response_has_gunicorns_attributes() -> None:
    response = Response(received("GET / HTTP/1.1\nHost: a\n\n"), Nowhere(), Manners())
    response.start("404 Not Found", [("Content-Length", "5")])
    response.send_list([b"12345"])
    resp = HookResponse(response)
    assert (resp.status, resp.status_code) == ("404 Not Found", 404)
    assert (resp.sent, resp.response_length) == (5, 5)
    assert resp.headers == [("Content-Length", "5")]


def test_a_response_that_never_started_says_so() -> None:
    resp = HookResponse(Response(received("GET / HTTP/1.1\nHost: a\n\n"), Nowhere(), Manners()))
    assert (resp.status, resp.status_code, resp.response_length) == ("", 0, None)


def test_a_hook_that_is_not_set_is_not_missed() -> None:
    http = received("GET / HTTP/1.1\nHost: a\n\n")
    assert http.request is not None
    hooks = RequestHooks(None, None, None, logging.getLogger("test"))
    hooks.before(http.request)
    hooks.after(http.request, {}, Response(http, Nowhere(), Manners()))
