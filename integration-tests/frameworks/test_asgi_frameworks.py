# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""Frameworks of ASGI work under `-k aio`, with clients that people use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from support.server import Server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

APPLICATIONS: Final = Path(__file__).parent / "applications"
LARGE: Final = bytes(range(256)) * 20_000
TIMEOUT: Final = 20


class Framework:
    """A server with a framework, and a client.

    Args:
        server: the server.
    """

    def __init__(self, server: Server) -> None:
        assert isinstance(server.address, tuple)
        self.server = server
        self._place = "{}:{}".format(*server.address)
        self.http = httpx.Client(base_url=f"http://{self._place}", timeout=TIMEOUT, trust_env=False)

    def websocket(self, target: str, subprotocols: Sequence[Any] | None = None) -> Any:
        """Open a WebSocket, for a `with` statement."""
        return connect(
            f"ws://{self._place}{target}", proxy=None, open_timeout=TIMEOUT, subprotocols=subprotocols
        )

    def left(self, name: str) -> None:
        """Wait until the application has left a file."""
        until((self.server.folder / name).exists, f"a file {name}")


def serve(name: str, factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve one of the applications."""
    folder = factory.mktemp(name)
    (folder / "large.bin").write_bytes(LARGE)
    arguments = f"-k aio -w 1 --pythonpath {APPLICATIONS} asgi_{name}:app"
    with Server(folder, arguments, environ={"FILES": str(folder)}) as server:
        framework = Framework(server)
        yield framework
        framework.http.close()
        server.stop()  # long before graceful_timeout
    if name != "fastapi":  # which fails on purpose
        assert "Traceback" not in server.log()


@pytest.fixture(scope="module")
def starlette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve Starlette; it is told of the end."""
    found = serve("starlette", tmp_path_factory)
    framework = next(found)
    yield framework
    assert next(found, None) is None
    framework.left("ended")


@pytest.fixture(scope="module")
def fastapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve FastAPI."""
    yield from serve("fastapi", tmp_path_factory)


@pytest.fixture(scope="module")
def django(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve Django."""
    yield from serve("django", tmp_path_factory)


@pytest.fixture(scope="module")
def litestar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve Litestar."""
    yield from serve("litestar", tmp_path_factory)


@pytest.fixture(scope="module")
def quart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
    """Serve Quart."""
    yield from serve("quart", tmp_path_factory)


class TestStarlette:
    def test_the_lifespan_has_made_what_requests_find(self, starlette: Framework) -> None:
        headers = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "Host": "shop.example"}
        assert starlette.http.get("/", headers=headers).json() == {
            "pool": ["a connection"],
            "client": "198.51.100.7",
            "url": "https://shop.example/",
        }

    def test_a_stream_ends_with_its_client(self, starlette: Framework) -> None:
        with starlette.http.stream("GET", "/endless") as response:
            assert next(response.iter_bytes())
        starlette.left("stream-ended")

    def test_bodies_arrive_whole(self, starlette: Framework) -> None:
        pieces = (LARGE[at : at + 50_000] for at in range(0, len(LARGE), 50_000))
        assert starlette.http.post("/upload", content=pieces).text == str(len(LARGE))
        assert starlette.http.post("/upload", content=LARGE).text == str(len(LARGE))
        assert starlette.http.post("/form", files={"file": LARGE[:100_000]}).content == LARGE[:100_000]

    def test_files_come_whole_in_part_and_not_again(self, starlette: Framework) -> None:
        assert starlette.http.get("/download").content == LARGE
        part = starlette.http.get("/download", headers={"Range": "bytes=1000-1999"})
        assert (part.status_code, part.content) == (206, LARGE[1000:2000])
        static = starlette.http.get("/static/large.bin")
        assert static.content == LARGE
        again = {"If-None-Match": static.headers["ETag"]}
        assert starlette.http.get("/static/large.bin", headers=again).status_code == 304
        assert starlette.http.head("/static/large.bin").headers["Content-Length"] == str(len(LARGE))
        assert starlette.http.get("/static/none").status_code == 404

    def test_a_task_runs_behind_the_response(self, starlette: Framework) -> None:
        assert starlette.http.get("/later").text == "soon"
        starlette.left("done")

    def test_websockets_talk_and_are_denied(self, starlette: Framework) -> None:
        with starlette.websocket("/talk") as talk:
            talk.send("hello " * 10_000)
            assert talk.recv(TIMEOUT) == "HELLO " * 10_000
        with pytest.raises(InvalidStatus) as denied, starlette.websocket("/denied"):
            pass
        assert (denied.value.response.status_code, denied.value.response.body) == (401, b"members only")
        with pytest.raises(InvalidStatus) as missing, starlette.websocket("/nowhere"):
            pass
        assert missing.value.response.status_code == 403


class TestFastAPI:
    def test_models_and_dependencies(self, fastapi: Framework) -> None:
        assert fastapi.http.get("/?q=a&q=b").json() == {"session": "open", "q": ["a", "b"]}
        fastapi.left("closed")
        created = fastapi.http.post("/items", json={"name": "tea", "price": 2})
        assert (created.status_code, created.json()) == (201, {"name": "Tea", "price": 4.0})
        assert fastapi.http.post("/items", json={"name": "tea"}).status_code == 422
        sent = fastapi.http.post("/files", files={"file": ("a.bin", LARGE)})
        assert sent.json() == {"name": "a.bin", "size": len(LARGE)}
        assert fastapi.http.get("/blocking").json() == "done"
        assert fastapi.http.get("/openapi.json").json()["paths"]["/items"]

    def test_streams_and_tasks_behind_the_response(self, fastapi: Framework) -> None:
        assert fastapi.http.get("/numbers").text.split() == [str(number) for number in range(100)]
        assert fastapi.http.post("/notify").json() == "sent"
        fastapi.left("notified")

    def test_an_error_is_a_500_and_in_the_log(self, fastapi: Framework) -> None:
        assert fastapi.http.get("/broken").status_code == 500
        fastapi.server.wait_log("LookupError: on purpose")

    def test_a_websocket_has_parameters_and_a_subprotocol(self, fastapi: Framework) -> None:
        with fastapi.websocket("/items/7?token=t", subprotocols=["other", "items"]) as talk:
            assert talk.subprotocol == "items"
            talk.send("é")
            assert talk.recv(TIMEOUT) == '{"number":7,"token":"t","text":"é"}'
        with pytest.raises(InvalidStatus), fastapi.websocket("/items/none?token=t"):
            pass


class TestDjango:
    def test_views_ask_the_database(self, django: Framework) -> None:
        for text in ("one", "zwölf"):
            assert django.http.post("/notes", content=text.encode()).json()["notes"][-1] == text
        assert django.http.get("/notes").json()["notes"] == ["one", "zwölf"]
        shown = django.http.get("/plain/%C3%A9").json()
        assert (shown["count"], shown["name"]) == (2, "é")
        assert django.http.get("/stream").text.split() == [str(number) for number in range(50)]
        assert django.http.get("/none").status_code == 404

    def test_a_view_whose_client_goes_is_cancelled(self, django: Framework) -> None:
        with pytest.raises(httpx.ReadTimeout):
            django.http.get("/waits", timeout=httpx.Timeout(TIMEOUT, read=0.5))
        django.left("cancelled")


class TestLitestar:
    def test_it_answers_and_talks(self, litestar: Framework) -> None:
        assert litestar.http.get("/").json() == {"since": "start", "path": "/"}
        assert litestar.http.post("/echo", json={"a": [1]}).json() == {"a": [1]}
        assert litestar.http.get("/stream").text == "0123456789"
        with litestar.websocket("/talk") as talk:
            talk.send("abc")
            assert talk.recv(TIMEOUT) == "cba"


class TestQuart:
    def test_it_answers_and_talks(self, quart: Framework) -> None:
        assert quart.http.get("/").json() == {"since": "start", "scheme": "http"}
        assert quart.http.post("/form", data={"name": "Käse"}).text == "Käse"
        assert quart.http.get("/stream").text == "0123456789"
        assert quart.http.post("/later").text == "soon"
        quart.left("worked")
        with quart.websocket("/talk") as talk:
            talk.send("you")
            assert talk.recv(TIMEOUT) == "heard you"

    def test_a_websocket_is_told_that_the_server_stops(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        running = serve("quart", tmp_path_factory)
        framework = next(running)
        with framework.websocket("/talk") as talk:
            talk.send("stop")
            assert talk.recv(TIMEOUT) == "heard stop"
            framework.server.stop()
            with pytest.raises(ConnectionClosed) as closed:
                talk.recv(TIMEOUT)
        assert next(running, None) is None
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
