# SPDX-License-Identifier: MIT
"""The scope of one request (ASGI specification, "HTTP & WebSocket Message Format").

Every scope is made of new dictionaries and lists: applications write into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from prefork.http.forwarded import path_info
from prefork_aio.asgi.handshake import offered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.http import Request
    from prefork.worker import Exchange

SPEC: Final = "2.5"
"""Of the HTTP and WebSocket messages: from 2.4 on `send` raises an OSError when the client has gone."""

EXTEND_DEADLINE: Final = "prefork.extend_deadline"
"""Under which name the application finds a function of seconds: see `prefork.worker.Exchange`. The environ of
WSGI applications has it under the same."""

PATHSEND: Final = "http.response.pathsend"

_SCOPE: Final = "prefork_aio.scope"
"""Under which name the memo of a head has what is the same for all requests that repeat it."""

_KEPT: Final = 64
_KEPT_SIZE: Final = 2048
"""Bytes of a head up to which its fields are kept, for the next request that has the same ones."""


class Scopes:
    """Makes the scopes of a worker.

    Args:
        root_path: where the application is mounted, if the proxy takes that off the path; "" else.
        script_name: where it is mounted, if the path has that; "" for the root.
        state: of the lifespan; each scope gets a copy.
        sends_files: whether `http.response.pathsend` is offered.
        asks_proxies: whether the client is whom trusted proxies name; else it is the peer.
    """

    def __init__(
        self,
        *,
        root_path: str,
        script_name: str,
        state: dict[str, Any] | None,
        sends_files: bool,
        asks_proxies: bool,
    ) -> None:
        self._root_path = root_path.rstrip("/")
        self._raw_root = quote(self._root_path).encode("ascii")
        self._script_name = script_name.rstrip("/")
        self._state = state
        self._asks_proxies = asks_proxies
        self._sends_files = sends_files
        self._pairs: dict[bytes, list[tuple[bytes, bytes]]] = {}

    def http(self, exchange: Exchange) -> dict[str, Any]:
        """Return the scope of an HTTP request.

        Raises:
            ProtocolError: the request is to be refused.
        """
        request = exchange.request
        memo = request.memo
        if memo is None:
            scope, script_name = self._of_fields(exchange)
        else:
            known = memo.get(_SCOPE)
            if known is None:
                known = memo[_SCOPE] = self._of_fields(exchange)
            scope, script_name = known[0].copy(), known[1]
            scope["headers"] = scope["headers"].copy()
        path = request.path
        raw_path = path.encode("latin-1")
        if "%" in path:
            path = unquote(path)
        if script_name:
            path_info(request.path, script_name)  # raises where the path is not below it
        elif self._root_path:
            path = self._root_path + path
            raw_path = self._raw_root + raw_path
        scope["asgi"] = {"version": "3.0", "spec_version": SPEC}
        scope["method"] = request.method
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = request.query.encode("latin-1")
        scope["extensions"] = {PATHSEND: {}} if self._sends_files else {}
        scope[EXTEND_DEADLINE] = exchange.extend_deadline
        if self._state is not None:
            scope["state"] = self._state.copy()
        return scope

    def _of_fields(self, exchange: Exchange) -> tuple[dict[str, Any], str]:
        """Return what is the same for all requests that repeat a head on its connection, and SCRIPT_NAME."""
        request = exchange.request
        forwarded = exchange.forwarded()
        script_name = forwarded.script_name or self._script_name
        address, port = exchange.peer
        if self._asks_proxies and "HTTP_X_FORWARDED_FOR" in request.fields:
            client = exchange.client()
            if client != address:
                address, port = client, 0
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": request.version[5:],
            "scheme": forwarded.scheme,
            "root_path": script_name or self._root_path,
            "headers": self._headers(request, forwarded.fields),
            "client": (address, port) if address else None,
            "server": exchange.server,
            # What is not the same has its place already: a dictionary that grows costs as much as a new one.
            "asgi": None,
            "method": None,
            "path": None,
            "raw_path": None,
            "query_string": None,
            "extensions": None,
            EXTEND_DEADLINE: None,
        }
        if self._state is not None:
            scope["state"] = None
        return scope, script_name

    def websocket(self, exchange: Exchange) -> dict[str, Any]:
        """Return the scope of a request for a WebSocket.

        Raises:
            ProtocolError: the request is to be refused.
        """
        scope = self.http(exchange)
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = offered(exchange.request)
        scope["extensions"] = {"websocket.http.response": {}}
        return scope

    def _headers(self, request: Request, permitted: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        if request.underscored:
            # "x_user" becomes the same variable as "x-user" where a framework makes an environ of it.
            return [
                (name, value)
                for name, value in request.pairs()
                if b"_" not in name or _cgi_name(name) in permitted
            ]
        pairs = self._pairs.get(request.rest)
        if pairs is None:
            pairs = request.pairs()
            if len(request.rest) <= _KEPT_SIZE:
                if len(self._pairs) >= _KEPT:
                    self._pairs.clear()
                self._pairs[bytes(request.rest)] = pairs
        return pairs.copy()


def _cgi_name(name: bytes) -> str:
    return "HTTP_" + str(name, "latin-1").upper().replace("-", "_")
