# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from prefork.trial import answers
from prefork.trial.wsgi import app


def call(path: str, body: bytes = b"") -> tuple[str, dict[str, str], bytes]:
    """Call the application; return status, header fields and body."""
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    environ |= {"wsgi.input": BytesIO(body)}
    began: list[Any] = []
    pieces = app(environ, lambda *start: began.append(start))  # type: ignore[arg-type]
    found = b"".join(pieces)
    [(status, headers)] = began
    return status, dict(headers), found


def test_any_path_is_answered_with_a_line_many_times() -> None:
    status, headers, body = call("/some/path")
    assert status == "200 OK"
    assert body == answers.line("/some/path")
    assert body.count(f" {os.getpid()} /some/path\n".encode()) == answers.REPEAT
    assert headers["Content-Length"] == str(len(body))


def test_it_is_an_application_as_wsgi_has_it() -> None:
    environ: dict[str, Any] = {"PATH_INFO": "/", "QUERY_STRING": "", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    found = validator(app)(environ, lambda *_: lambda _: None)
    assert b"".join(found) == answers.line("/")
    found.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("path", "body"), [("/echo", b"abc"), ("/big/5", b"xxxxx"), ("/echo/more", b"abc")])
def test_a_route_has_its_answer(path: str, body: bytes) -> None:
    assert call(path, b"abc")[2] == body


def test_an_empty_answer_has_no_fields() -> None:
    assert call("/empty") == ("204 No Content", {}, b"")


def test_it_raises_and_exits_when_asked() -> None:
    with pytest.raises(answers.RaisedOnPurpose):
        call("/raise")
    with pytest.raises(SystemExit):
        call("/exit")


@pytest.mark.parametrize("does", ["hold", "block", "stream"])
def test_a_request_waits_until_it_is_released(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("7.released").touch()
    body = call(f"/{does}/7")[2]
    assert body == (b"first\nlast\n" if does == "stream" else answers.line(f"/{does}/7"))
    assert Path("7.held").read_text() == f"{os.getpid()}\n"
