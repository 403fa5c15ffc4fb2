# SPDX-License-Identifier: MIT
from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from prefork.trial import answers
from prefork.trial.asgi import app

REQUEST = [
    {"type": "http.request", "body": b"ab", "more_body": True},
    {"type": "http.request", "body": b"c", "more_body": False},
]


def call(scope: dict[str, Any], messages: list[dict[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Call the application with what it receives; return what it has sent."""
    waiting = iter(messages)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def ask(path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, header fields and body of an answer."""
    start, *rest = call({"type": "http", "path": path}, REQUEST)
    assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]
    return start["status"], dict(start["headers"]), b"".join(message["body"] for message in rest)


def test_any_path_is_answered_with_a_line_many_times() -> None:
    status, headers, body = ask("/some/path")
    assert (status, body) == (200, answers.line("/some/path"))
    assert headers[b"content-length"] == b"%d" % len(body)


@pytest.mark.parametrize(("path", "body"), [("/echo", b"abc"), ("/big/5", b"xxxxx")])
def test_a_route_has_its_answer(path: str, body: bytes) -> None:
    assert ask(path)[2] == body


def test_an_empty_answer_has_no_fields() -> None:
    assert ask("/empty") == (204, {}, b"")


def test_it_raises_and_exits_when_asked() -> None:
    with pytest.raises(answers.RaisedOnPurpose):
        ask("/raise")
    with pytest.raises(SystemExit):
        ask("/exit")


@pytest.mark.parametrize("does", ["hold", "block", "stream"])
def test_a_request_waits_until_it_is_released(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("7.released").touch()
    body = ask(f"/{does}/7")[2]
    assert body == (b"first\nlast\n" if does == "stream" else answers.line(f"/{does}/7"))
    assert Path("7.held").read_text() == f"{os.getpid()}\n"


def test_it_lives_as_long_as_its_server() -> None:
    sent = call({"type": "lifespan"}, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_other_scopes_are_refused() -> None:
    with pytest.raises(ValueError, match="websocket"):
        call({"type": "websocket"}, [])
