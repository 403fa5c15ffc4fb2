# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
"""A Flask application whose requests wait for PostgreSQL, through the driver that DRIVER names."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import flask

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNINFO: Final = os.environ["CONNINFO"]

app = flask.Flask(__name__)
with_database = 0
most = 0

if os.environ["DRIVER"] == "psycopg":
    from psycopg_pool import ConnectionPool

    size = int(os.environ["POOL"])
    pool = ConnectionPool(
        CONNINFO, min_size=0, max_size=size, open=True, timeout=60, kwargs={"autocommit": True}
    )

    @contextlib.contextmanager
    def connection() -> Iterator[Any]:
        """Lend a connection to the database."""
        with pool.connection() as found:
            yield found

else:
    import psycopg2

    idle: list[Any] = []  # psycopg2's own pool closes what it has too many of, and raises when it has none

    @contextlib.contextmanager
    def connection() -> Iterator[Any]:
        """Lend a connection to the database; as many as there are requests."""
        found = idle.pop() if idle else psycopg2.connect(CONNINFO)
        found.autocommit = True
        try:
            yield found
        finally:
            idle.append(found)


def query(text: str) -> str:
    """Ask the database, and count who does so at the same time."""
    global with_database, most  # noqa: PLW0603 (what each request has to do with)
    with connection() as conn:
        with_database += 1
        most = max(most, with_database)
        try:
            cursor = conn.cursor()
            cursor.execute(text)
            [row] = cursor.fetchall()
            return str(row[0])
        finally:
            with_database -= 1


@app.get("/sleep")
def sleep() -> str:
    """Have the database sleep."""
    return query("select 'slept' from pg_sleep(0.2)")


@app.get("/held")
def held() -> str:
    """Have the database sleep once nobody has locked the table any more."""
    return query("select 'slept' from (select pg_sleep(0.2) from gate) as held")


@app.get("/most")
def at_most() -> str:
    """Return how many were with the database at once since this was asked last, at most."""
    global most
    found, most = most, 0
    return str(found)
