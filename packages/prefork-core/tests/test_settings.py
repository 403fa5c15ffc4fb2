# SPDX-License-Identifier: MIT
"""Settings do what the reference says: each is read by somebody, and those of a request reach the request.

What a setting means is tested where it is decided; here is whether what an operator writes gets there.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import pytest
from serving import Serving

import prefork
from prefork.settings import Settings
from prefork.settings.option import Table

SOURCES: Final = Path(prefork.__file__).parent
NAMES: Final = list(Table(Settings))


def read_by(module: Path) -> set[str]:
    """Return the names that a module reads of something called `settings`."""
    found = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)]
    return {
        node.attr for node in found if ast.unparse(node.value).rpartition(".")[2].strip("_") == "settings"
    }


READ: Final = {
    name for path in SOURCES.rglob("*.py") if path.parent.name != "settings" for name in read_by(path)
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "config"])
def test_a_setting_is_read_outside_of_the_settings(name: str) -> None:
    """`config` is read while settings are loaded, and nobody needs it afterwards."""
    assert name in READ


def environ_of(folder: Path, fields: str, **settings: Any) -> dict[str, Any]:
    """Return the environ of one request, with these header fields, from a peer that is trusted."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with Serving(app, folder, settings=settings) as worker, worker.client() as client:
        client.send(f"GET /path HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        assert client.answer().status == 200
    return seen


def status_of(folder: Path, request: str, **settings: Any) -> int:
    """Return the status that a request is answered with."""

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "0")])
        return []

    with Serving(app, folder, settings=settings) as worker, worker.client() as client:
        client.send(request.encode())
        return int(client.answer().status)


@pytest.mark.parametrize(
    ("setting", "request_head", "status"),
    [
        ({"limit_request_line": 40}, f"GET /{'a' * 40} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ({"limit_request_fields": 2}, "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\n\r\n", 431),
        ({"limit_request_field_size": 40}, f"GET / HTTP/1.1\r\nHost: x\r\nA: {'a' * 40}\r\n\r\n", 431),
        ({"header_map": "refuse"}, "GET / HTTP/1.1\r\nHost: x\r\nA_B: 1\r\n\r\n", 400),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_request_is_refused_by_the_limit_that_is_set(
    tmp_path: Path, setting: dict[str, Any], request_head: str, status: int
) -> None:
    assert status_of(tmp_path, request_head) == 200
    assert status_of(tmp_path, request_head, **setting) == status


def test_what_a_trusted_proxy_says_of_the_scheme_is_what_is_set(tmp_path: Path) -> None:
    assert environ_of(tmp_path, "X-Secure: yes\r\n")["wsgi.url_scheme"] == "http"
    environ = environ_of(tmp_path, "X-Secure: yes\r\n", secure_scheme_headers={"X-SECURE": "yes"})
    assert environ["wsgi.url_scheme"] == "https"


def test_a_field_with_an_underscore_comes_from_a_trusted_proxy_if_it_is_set(tmp_path: Path) -> None:
    assert "HTTP_REMOTE_USER" not in environ_of(tmp_path, "Remote_User: ann\r\n")
    environ = environ_of(tmp_path, "Remote_User: ann\r\n", forwarder_headers=("REMOTE_USER",))
    assert environ["HTTP_REMOTE_USER"] == "ann"


def test_who_is_no_trusted_proxy_says_nothing_of_both(tmp_path: Path) -> None:
    fields = "X-Forwarded-Proto: https\r\nRemote_User: ann\r\n"
    settings = {"forwarder_headers": ("REMOTE_USER",), "forwarded_allow_ips": ("192.0.2.1",)}
    environ = environ_of(tmp_path, fields, **settings)
    assert environ["wsgi.url_scheme"] == "http"
    assert "HTTP_REMOTE_USER" not in environ
