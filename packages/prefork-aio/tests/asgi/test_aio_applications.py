# SPDX-License-Identifier: MIT
"""What is an ASGI 3 application, and what is said of something else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from prefork_aio.asgi.applications import refusal


async def function(scope: Any, receive: Any, send: Any) -> None: ...


async def with_more(scope: Any, receive: Any, send: Any, *, more: int = 0) -> None: ...


async def of_four(more: int, scope: Any, receive: Any, send: Any) -> None: ...


class Application:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    "app", [function, with_more, partial(of_four, 1), Application(), Application().method]
)
def test_what_takes_three_arguments_is_one(app: object) -> None:
    assert refusal(app) is None


@pytest.mark.parametrize(
    ("app", "why"),
    [
        ("text", "it is no application but str"),
        (Application, "it is the class Application"),
        (lambda environ, start_response: [environ, start_response], "-k gthread serves them"),
        (lambda: None, "add () to its name"),
        (lambda scope: scope, "does not take the arguments scope, receive and send"),
    ],
)
def test_what_is_something_else_is_told_what_to_do(app: object, why: str) -> None:
    assert why in (refusal(app) or "")
