# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""Flask under gevent and eventlet with PostgreSQL and Redis: hundreds of requests wait in one worker."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from support.databases import Postgres, Redis, postgres, redis_server
from support.server import Server
from support.workers import GREEN

from prefork.testing import client
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATIONS: Final = Path(__file__).parent / "applications"
CLIENTS: Final = 200
ENOUGH: Final = 150
"""Requests of these that must be seen with the database at once, where none is held up for it."""
SUBSCRIBERS: Final = 20


class Way(NamedTuple):
    """A way to PostgreSQL."""

    library: str
    driver: str
    variables: dict[str, str]


PSYCOGREEN: Final = "psycogreen.{0}:patch_psycopg"
WAYS: Final = (
    Way("gevent", "psycopg", {}),
    Way("gevent", "psycopg2", {"PREFORK_GEVENT_POST_PATCH": PSYCOGREEN.format("gevent")}),
    # The compiled half of psycopg knows gevent only.
    Way("eventlet", "psycopg", {"PSYCOPG_WAIT_FUNC": "wait_selector"}),
    Way("eventlet", "psycopg2", {"PREFORK_EVENTLET_POST_PATCH": PSYCOGREEN.format("eventlet")}),
)


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as found:
        found.ask("create table gate as select 1")
        yield found


@pytest.fixture(scope="module")
def store() -> Iterator[Redis]:
    with redis_server() as found:
        yield found


def serve(folder: Path, library: str, application: str, **variables: str) -> Server:
    arguments = f"-k {library} -w 1 --pythonpath {APPLICATIONS} {application}:app"
    return Server(folder, arguments, environ={"POOL": str(CLIENTS), **variables})


def kept(server: Server, stack: ExitStack, count: int = CLIENTS) -> list[client.Kept]:
    """Return connections, all open at once."""
    found = [client.Kept(server.address) for _ in range(count)]
    for each in found:
        stack.callback(each.close)
    return found


def ask_all(clients: list[client.Kept], path: str) -> None:
    for each in clients:
        each.send(client.render(path))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.library}-{way.driver}")
def test_hundreds_of_queries_run_at_once(tmp_path: Path, database: Postgres, way: Way) -> None:
    """First none goes on in the database until all are there; then all come as they come."""
    variables = {"CONNINFO": database.conninfo, "DRIVER": way.driver, **way.variables}
    with serve(tmp_path, way.library, "flask_postgresql", **variables) as server, ExitStack() as stack:
        clients = kept(server, stack)

        def are_served(path: str) -> bool:
            ask_all(clients, path)
            assert {each.read().text for each in clients} == {"slept"}
            return True

        with database.session() as session, session.transaction():
            session.execute("lock table gate")
            ask_all(clients, "/held")
            until(lambda: database.locked_out() == CLIENTS, f"{CLIENTS} in the database")
        assert {each.read().text for each in clients} == {"slept"}
        assert server.ask("/most").text == str(CLIENTS)
        until(lambda: are_served("/sleep") and int(server.ask("/most").text) >= ENOUGH, f"{ENOUGH} at once")


@pytest.mark.parametrize("library", [each.name for each in GREEN])
class TestRedis:
    def test_hundreds_of_requests_wait_for_it_at_once(
        self, tmp_path: Path, store: Redis, library: str
    ) -> None:
        with (
            serve(tmp_path, library, "flask_redis", REDIS=store.url) as server,
            ExitStack() as stack,
        ):
            clients = kept(server, stack)
            ask_all(clients, "/take/queue")
            until(lambda: store.blocked() == CLIENTS, f"{CLIENTS} wait for it")
            store.client.rpush("queue", *range(CLIENTS))
            assert sorted(int(each.read().text) for each in clients) == list(range(CLIENTS))

    def test_what_is_published_reaches_all_who_listen(
        self, tmp_path: Path, store: Redis, library: str
    ) -> None:
        with (
            serve(tmp_path, library, "flask_redis", REDIS=store.url) as server,
            ExitStack() as stack,
        ):
            clients = kept(server, stack, SUBSCRIBERS)
            ask_all(clients, "/hear/news")
            for message in ("tea ", "is ", "ready", "end"):
                until(lambda: store.listeners("news") == SUBSCRIBERS, f"{SUBSCRIBERS} listen")
                store.client.publish("news", message)
            assert {each.read().text for each in clients} == {"tea is ready"}

    def test_requests_read_and_write_beside_each_other(
        self, tmp_path: Path, store: Redis, library: str
    ) -> None:
        store.client.delete("count")
        with (
            serve(tmp_path, library, "flask_redis", REDIS=store.url) as server,
            ExitStack() as stack,
        ):
            clients = kept(server, stack)
            ask_all(clients, "/count")
            assert sorted(int(each.read().text) for each in clients) == list(range(1, CLIENTS + 1))
