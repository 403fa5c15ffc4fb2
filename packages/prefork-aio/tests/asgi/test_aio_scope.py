# SPDX-License-Identifier: MIT
"""What an application is told of a request (ASGI, "HTTP Connection Scope")."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from prefork.errors import ProtocolError
from prefork.http import Limits
from prefork.http.forwarded import ForwardPolicy
from prefork.http.head import parse_head
from prefork.worker import Exchange
from prefork_aio.asgi.scope import Scopes

POLICY = ForwardPolicy(("192.0.2.1",), {"X-FORWARDED-PROTO": "https"}, ("SCRIPT_NAME",), "drop")


def exchange(
    target: str, *lines: str, peer: str = "192.0.2.1", memo: dict[str, Any] | None = None
) -> Exchange:
    """Return a request, as far as a scope asks for it."""
    request = parse_head(
        "\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode(), Limits()
    )
    assert request is not None
    request.memo = memo
    parts = SimpleNamespace(
        request=request,
        peer=(peer, 4711 if peer else 0),
        server=("127.0.0.1", 8000),
        forwarded=lambda: POLICY.apply(request, peer),
        client=lambda: POLICY.client(request, peer),
        extend_deadline=lambda seconds: seconds,
    )
    return cast("Exchange", parts)


def scopes(**changed: Any) -> Scopes:
    """Return what makes them."""
    plain = {"root_path": "/", "script_name": "", "state": None, "sends_files": True, "asks_proxies": True}
    return Scopes(**{**plain, **changed})


def test_all_that_the_specification_asks_for_is_there() -> None:
    scope = scopes().http(exchange("/a%20b/%C3%A9?x=%20", "X-Y: z"))
    assert scope.pop("prefork.extend_deadline")(5) == 5
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b/é",
        "raw_path": b"/a%20b/%C3%A9",
        "query_string": b"x=%20",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x-y", b"z")],
        "client": ("192.0.2.1", 4711),
        "server": ("127.0.0.1", 8000),
        "extensions": {"http.response.pathsend": {}},
    }


def test_one_of_a_websocket_has_no_method() -> None:
    scope = scopes().websocket(exchange("/", "X-Forwarded-Proto: https", "Sec-WebSocket-Protocol: a, b"))
    assert (scope["type"], scope["scheme"], scope["subprotocols"]) == ("websocket", "wss", ["a", "b"])
    assert "method" not in scope
    assert scope["extensions"] == {"websocket.http.response": {}}


def plain(scope: dict[str, Any]) -> dict[str, Any]:
    """Return a scope without what is another one's each time."""
    return {name: value for name, value in scope.items() if name != "prefork.extend_deadline"}


LINES = ("X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7", "SCRIPT_NAME: /app")


@pytest.mark.parametrize("changed", [{}, {"root_path": "/root", "state": {"pool": 1}}])
@pytest.mark.parametrize("lines", [(), LINES[:2], LINES])
def test_one_of_a_head_that_is_repeated_is_as_any_other(lines: tuple[str, ...], changed: Any) -> None:
    found, memo = scopes(**changed), {}  # type: ignore[var-annotated]
    for target in ("/app/1?x=1", "/app/%C3%A9", "/app"):
        scope = found.http(exchange(target, *lines, memo=memo))
        assert plain(scope) == plain(found.http(exchange(target, *lines)))
        scope["headers"].append((b"x-mine", b""))
        scope["extensions"]["mine"] = scope["asgi"]["mine"] = scope["mine"] = {}
    assert memo


def test_a_path_outside_of_where_it_is_mounted_is_refused_though_the_head_is_repeated() -> None:
    memo: dict[str, Any] = {}
    assert scopes().http(exchange("/app/1", *LINES, memo=memo))["root_path"] == "/app"
    with pytest.raises(ProtocolError):
        scopes().http(exchange("/other", *LINES, memo=memo))


def test_nothing_of_one_is_in_the_next() -> None:
    found = scopes(state={"pool": 1})
    for _ in range(2):
        scope = found.http(exchange("/"))
        assert (scope["headers"], scope["state"]) == ([(b"host", b"a")], {"pool": 1})
        scope["headers"].append((b"x", b"y"))
        scope["extensions"]["x"] = scope["asgi"]["x"] = scope["state"]["x"] = 1
        assert found.http(exchange("/"))["asgi"] == {"version": "3.0", "spec_version": "2.5"}


@pytest.mark.parametrize("root", ["/api/é", "/api/é/"])
def test_a_root_path_that_the_proxy_takes_off_is_put_before(root: str) -> None:
    scope = scopes(root_path=root).http(exchange("/x%20y"))
    assert (scope["root_path"], scope["path"]) == ("/api/é", "/api/é/x y")
    assert scope["raw_path"] == b"/api/%C3%A9/x%20y"


def test_one_that_it_leaves_there_is_in_the_path_already() -> None:
    scope = scopes(script_name="/app/").http(exchange("/app/x"))
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/app", "/app/x", b"/app/x")
    named = scopes().http(exchange("/mine/x", "SCRIPT_NAME: /mine"))
    assert (named["root_path"], named["path"]) == ("/mine", "/mine/x")
    with pytest.raises(ProtocolError):
        scopes(script_name="/app").http(exchange("/other"))


def test_the_client_is_whom_a_trusted_proxy_names() -> None:
    told = "X-Forwarded-For: 203.0.113.9, 198.51.100.7"
    assert scopes().http(exchange("/", told))["client"] == ("198.51.100.7", 0)
    assert scopes(asks_proxies=False).http(exchange("/", told))["client"] == ("192.0.2.1", 4711)
    assert scopes().http(exchange("/", told, peer="192.0.2.9"))["client"] == ("192.0.2.9", 4711)
    assert scopes().http(exchange("/", peer=""))["client"] is None


def test_names_with_an_underscore_are_for_proxies() -> None:
    lines = ("x_user: me", "SCRIPT_NAME: /a")
    names = [name for name, _ in scopes().http(exchange("/a", *lines))["headers"]]
    assert names == [b"host", b"script_name"]


def test_files_are_not_offered_where_sendfile_is_off() -> None:
    assert scopes(sends_files=False).http(exchange("/"))["extensions"] == {}
