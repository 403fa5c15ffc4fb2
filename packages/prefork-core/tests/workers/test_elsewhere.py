# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.workers.elsewhere import hint


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gevent", "pip install prefork-gevent"),
        ("eventlet", "pip install prefork-eventlet"),
        ("tornado", "pip install prefork-tornado"),
        ("aiohttp", "pip install 'prefork-aio[aiohttp]'"),
        ("aio", "pip install prefork-aio"),
        ("asgi", "use -k aio (pip install prefork-aio)"),
        ("uvicorn.workers.UvicornWorker", "use -k aio (pip install prefork-aio)"),
        ("uvicorn_worker.UvicornWorker", "use -k aio (pip install prefork-aio)"),
        ("aiohttp.GunicornWebWorker", "use -k aiohttp (pip install 'prefork-aio[aiohttp]')"),
        ("egg:gunicorn#gevent", "use -k gevent (pip install prefork-gevent)"),
        ("gunicorn.workers.gthread.ThreadWorker", "use -k gthread"),
        ("egg:gunicorn#sync", "use -k sync"),
        ("own", ""),
        ("own.workers.UvicornWorker", ""),
    ],
)
def test_who_asks_for_what_is_not_there_is_told_what_to_do(asked: str, said: str) -> None:
    assert hint(asked, ["sync", "gthread"]) == said


def test_who_has_installed_it_is_only_told_the_name() -> None:
    assert hint("uvicorn.workers.UvicornWorker", ["aio", "gthread", "sync"]) == "use -k aio"
