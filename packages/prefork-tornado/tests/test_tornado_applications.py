# SPDX-License-Identifier: MIT
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.routing import RuleRouter
from tornado.web import Application, RequestHandler
from tornado.wsgi import WSGIContainer

from prefork_tornado import applications
from prefork_tornado.worker import TornadoWorker


def wsgi(_environ: dict[str, Any], _start: Callable[..., Any]) -> Iterable[bytes]:
    return []


class Callables:
    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return wsgi(environ, start)


async def asgi(_scope: object, _receive: object, _send: object) -> None:
    """Serve nothing."""


class Asynchronous:
    async def __call__(self, _scope: object, _receive: object, _send: object) -> None:
        """Serve nothing."""


@pytest.mark.parametrize("app", [Application(), RuleRouter(), HTTPServerConnectionDelegate()])
def test_what_speaks_tornados_interface_is_served_by_it(app: object) -> None:
    assert applications.is_native(app)
    assert TornadoWorker.refuses(app) is None


@pytest.mark.parametrize("app", [wsgi, Callables()])
def test_what_can_be_called_is_taken_for_wsgi(app: object) -> None:
    assert not applications.is_native(app)
    assert TornadoWorker.refuses(app) is None


@pytest.mark.parametrize(
    ("app", "why"),
    [
        (asgi, "it is asynchronous, as ASGI applications are"),
        (Asynchronous(), "it is asynchronous, as ASGI applications are"),
        (RequestHandler, "a RequestHandler is one part of an application"),
        (WSGIContainer(wsgi), "a WSGIContainer is not needed"),
        (7, "it is int; wanted is a tornado.web.Application"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(app: object, why: str) -> None:
    assert (TornadoWorker.refuses(app) or "").startswith(why)
