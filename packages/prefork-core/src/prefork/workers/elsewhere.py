# SPDX-License-Identifier: MIT
"""Worker classes that are not installed, or are gunicorn's: what to do for whoever asks for one.

It decides nothing about those that are installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

DISTRIBUTIONS: Final = {
    "aio": "prefork-aio",
    "aiohttp": "'prefork-aio[aiohttp]'",
    "eventlet": "prefork-eventlet",
    "gevent": "prefork-gevent",
    "tornado": "prefork-tornado",
}
"""The worker classes of our other distributions."""

_ALIASES: Final = {
    "aiohttp": ("aiohttp.GunicornWebWorker", "aiohttp.GunicornUVLoopWebWorker"),
    "aio": ("asgi", "uvicorn", "uvicorn_worker.UvicornWorker", "uvicorn_worker.UvicornH11Worker"),
    "gevent": ("gevent_wsgi", "gevent_pywsgi", "geventwebsocket"),
    "gthread": ("meinheld", "egg:meinheld#gunicorn_worker", "meinheld.gmeinheld.MeinheldWorker"),
}
"""Names that gunicorn's users give, by ours."""

_CORE: Final = ("sync", "gthread")

_MODULES: Final = {
    "aiohttp.worker.": "aiohttp",
    "geventwebsocket.gunicorn.": "gevent",
    "gunicorn.workers.gasgi.": "aio",
    "gunicorn.workers.geventlet.": "eventlet",
    "gunicorn.workers.ggevent.": "gevent",
    "gunicorn.workers.gthread.": "gthread",
    "gunicorn.workers.gtornado.": "tornado",
    "gunicorn.workers.sync.": "sync",
    "uvicorn.workers.": "aio",
}
"""Modules of worker classes for gunicorn, by the begin of the dotted name."""


def hint(asked: str, known: Collection[str]) -> str:
    """Return what to do for a worker class that is not there; an empty text if it is not known.

    Args:
        asked: the name that was given.
        known: the installed names.
    """
    ours = _ours(asked)
    if ours is None:
        return ""
    use = f"use -k {ours}"
    if ours in known or ours not in DISTRIBUTIONS:
        return use
    install = f"pip install {DISTRIBUTIONS[ours]}"
    return install if asked == ours else f"{use} ({install})"


def _ours(asked: str) -> str | None:
    name = asked.removeprefix("egg:gunicorn#")
    if name in DISTRIBUTIONS or (name != asked and name in _CORE):
        return name
    for ours, aliases in _ALIASES.items():
        if name in aliases:
            return ours
    return next((ours for module, ours in _MODULES.items() if name.startswith(module)), None)
