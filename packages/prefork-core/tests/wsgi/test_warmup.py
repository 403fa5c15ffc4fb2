# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from prefork.errors import BootError
from prefork.wsgi import warmup

LOG = logging.getLogger("test")


class Application:
    """Notes what it is asked, and answers with a status.

    Args:
        status: what it answers with.
        body: what it returns.
    """

    def __init__(self, status: str = "200 OK", body: Any = (b"warm",)) -> None:
        self.environs: list[dict[str, Any]] = []
        self._status = status
        self._body = body

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environs.append(environ)
        start_response(self._status, [("Content-Type", "text/plain")])
        return self._body


def ask(application: Any, target: str = "/", script_name: str = "") -> None:
    warmup.request(application, target, LOG, script_name)


def test_a_path_is_asked_for_with_its_query() -> None:
    application = Application()
    ask(application, "/a%20b/c?d=1,2")
    (environ,) = application.environs
    assert environ["PATH_INFO"] == "/a b/c"
    assert environ["QUERY_STRING"] == "d=1,2"
    assert environ["RAW_URI"] == "/a%20b/c?d=1,2"
    assert (environ["HTTP_HOST"], environ["wsgi.url_scheme"]) == ("localhost", "http")


def test_a_url_says_whom_the_application_serves() -> None:
    application = Application()
    ask(application, "https://shop.example/cart")
    (environ,) = application.environs
    assert (environ["HTTP_HOST"], environ["wsgi.url_scheme"]) == ("shop.example", "https")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("shop.example", "443")
    assert environ["RAW_URI"] == "/cart"


def test_the_application_is_mounted_where_the_server_has_it() -> None:
    application = Application()
    ask(application, "/a", "/shop")
    assert application.environs[0]["SCRIPT_NAME"] == "/shop"


@pytest.mark.parametrize("target", ["/", "/a?b", "http://shop.example:8080/"])
def test_the_environ_is_what_pep_3333_wants(target: str) -> None:
    ask(validator(Application(body=[b"warm"])), target)


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "499 Whatever"])
def test_what_is_the_clients_affair_is_no_failure(status: str) -> None:
    ask(Application(status))


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Busy", "nothing"])
def test_an_error_of_the_server_is_a_failed_boot(status: str) -> None:
    with pytest.raises(BootError, match=f"warmup: /x was answered with {status}"):
        ask(Application(status), "/x")


def test_no_status_at_all_is_a_failed_boot() -> None:
    with pytest.raises(BootError, match="was answered with no status"):
        ask(lambda _environ, _start_response: [])


@pytest.mark.parametrize("error", [LookupError("no table"), SystemExit(3)])
def test_what_the_application_raises_is_a_failed_boot_with_its_cause(error: BaseException) -> None:
    def application(_environ: object, _start_response: object) -> None:
        raise error

    with pytest.raises(BootError, match=rf"warmup: / raised {type(error).__name__}") as caught:
        ask(application)
    assert caught.value.__cause__ is error


def test_the_answer_is_read_to_its_end_and_closed() -> None:
    """There may be a generator that does the work, and a connection that is given back by `close`."""
    steps = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            steps.append("begun")
            yield b"a"
            steps.append("read")

        def close(self) -> None:
            steps.append("closed")

    ask(Application(body=Body()))
    assert steps == ["begun", "read", "closed"]


def test_a_body_that_raises_is_closed_too() -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise LookupError("later")

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(BootError, match="later"):
        ask(Application(body=Body()))
    assert closed == [True]


def test_the_write_callable_may_be_used() -> None:
    def application(_environ: object, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written")
        return []

    ask(application)
