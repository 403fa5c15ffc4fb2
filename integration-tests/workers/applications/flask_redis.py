# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""A Flask application whose requests wait for Redis."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import flask
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

app = flask.Flask(__name__)
# Without max_connections it has 100, and an error for who comes then.
store = redis.Redis.from_url(
    os.environ["REDIS"], decode_responses=True, max_connections=int(os.environ["POOL"])
)


@app.get("/take/<queue>")
def take(queue: str) -> str:
    """Wait for something in a queue."""
    found = store.blpop([queue], timeout=60)
    return found[1] if found else "nothing"


@app.get("/hear/<channel>")
def hear(channel: str) -> flask.Response:
    """Stream what is published, to its end."""

    def heard() -> Iterator[str]:
        with store.pubsub() as subscription:
            subscription.subscribe(channel)
            for message in subscription.listen():
                if message["type"] == "message":
                    if message["data"] == "end":
                        return
                    yield message["data"]

    return flask.Response(heard())


@app.get("/count")
def count() -> str:
    """Count, by reading and writing."""
    with store.pipeline() as both:
        both.incr("count")
        both.get("count")
        return str(both.execute()[1])
