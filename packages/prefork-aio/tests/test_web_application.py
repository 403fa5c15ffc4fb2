# SPDX-License-Identifier: MIT
"""What can be served, and how it becomes an application of aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from prefork.errors import BootError
from prefork_aio.web.application import made, refuses


class Factory:
    """Makes applications, and is no function."""

    def __call__(self) -> web.Application:
        return web.Application()


async def coroutine() -> web.Application:
    await asyncio.sleep(0)
    return web.Application()


async def runner() -> web.AppRunner:
    return web.AppRunner(web.Application())


def in_the_loop() -> web.Application:
    asyncio.get_running_loop()
    return web.Application()


def with_options(debug: bool = False) -> web.Application:
    del debug
    return web.Application()


@pytest.mark.parametrize(
    "make",
    [
        web.Application,
        coroutine,
        runner,
        in_the_loop,
        with_options,
        Factory(),
        partial(with_options, debug=True),
    ],
)
def test_applications_runners_and_what_makes_them_are_served(make: Callable[[], Any]) -> None:
    assert refuses(make) is None
    assert isinstance(asyncio.run(made(make)), web.Application | web.AppRunner)


def test_an_instance_is_served_as_it_is() -> None:
    app = web.Application()
    assert refuses(app) is None
    assert asyncio.run(made(app)) is app


def test_the_coroutine_of_a_call_is_awaited() -> None:
    async def serve() -> object:
        found = coroutine()
        assert refuses(found) is None
        return await made(found)

    assert isinstance(asyncio.run(serve()), web.Application)


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> None: ...


def needy(one: Any) -> None: ...


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "nor a function that returns one, but None"),
        ("app", "but a str"),
        (5, "but an int"),
        (asgi, "ASGI application, which -k aio serves"),
        (wsgi, "WSGI application, which -k gthread serves"),
        (needy, "a function that needs arguments"),
    ],
)
def test_anything_else_is_refused_with_advice(found: object, why: str) -> None:
    assert why in str(refuses(found))


def test_a_factory_of_something_else_is_a_failed_boot() -> None:
    with pytest.raises(BootError, match=r"returned a dict, not an aiohttp\.web\.Application"):
        asyncio.run(made(dict))
