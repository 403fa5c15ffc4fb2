# SPDX-License-Identifier: MIT
"""What prefork is told of a connection and its requests, and what becomes of them at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from prefork.errors import BootError, ProtocolError
from prefork.http.forwarded import Forwarded
from prefork.process.suspended import shown
from prefork.settings import Settings
from prefork.worker import StopReason
from prefork_aio.web.serving import Serving

HOST = "Host: x\r\n"
SMUGGLED = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


class Record:
    """Notes what is said of a request."""

    def __init__(self, said: list[str], line: str) -> None:
        self._said = said
        said.append(line)

    def waiting(self, *, to_write: bool) -> None:
        waits = "waits to write" if to_write else "waits to read"
        if self._said[-1] != waits:  # once more is no news
            self._said.append(waits)

    def progress(self) -> None:
        self._said.append("goes on")

    def taken(self) -> None:
        self._said.append("taken")

    def end(
        self, status: int, sent: int, fields: Iterable[tuple[str, str]] = (), *, outcome: str = "ok"
    ) -> None:
        assert all(isinstance(name, str) for name, _ in fields)
        self._said.append(f"{outcome} {status} {sent}")


class Arrival:
    """A connection of a client in the test, and what is said of it."""

    def __init__(self, address: str = "") -> None:
        self.client, self.sock = socket.socketpair()
        self.client.setblocking(False)
        self.sock.setblocking(False)
        self.address, self.port = address, 5
        self.said: list[str] = []
        self.forward: Forwarded | ProtocolError = Forwarded("http", "", {})
        self.late: Callable[[], object] = lambda: None

    def when_late(self, close: Callable[[], object]) -> None:
        self.late = close

    def began(self) -> None:
        if self.said[-1:] != ["began"]:
            self.said.append("began")

    def request(self, method: str, target: str, version: str, fields: Iterable[tuple[str, str]]) -> Record:
        del fields
        return Record(self.said, f"{method} {target} {version}")

    def forwarded(self, fields: Iterable[tuple[str, str]]) -> Forwarded:
        assert dict(fields)["X-Forwarded-Proto"] == "https"
        if isinstance(self.forward, ProtocolError):
            raise self.forward
        return self.forward

    def closed(self) -> None:
        self.said.append("closed")

    async def send(self, data: str) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data.encode())

    async def receive(self, end: str) -> str:
        """Return what comes, up to an end."""
        data = ""
        async with asyncio.timeout(20):
            while not data.endswith(end):
                more = await asyncio.get_running_loop().sock_recv(self.client, 65536)
                assert more, f"it ended behind {data!r}"
                data += more.decode()
        return data

    async def rest(self) -> str:
        """Return what comes until the connection is closed."""
        data = b""
        async with asyncio.timeout(20):
            while more := await asyncio.get_running_loop().sock_recv(self.client, 65536):
                data += more
        return data.decode()

    async def says(self, *expected: str) -> None:
        """Wait until all of that was said, and nothing else."""
        async with asyncio.timeout(20):
            while len(self.said) < len(expected):  # noqa: ASYNC110 (here and below: what is tested knows no events)
                await asyncio.sleep(0.001)
        assert self.said == list(expected)


class Reception:
    """Has the connections that the test gives it."""

    within = 0.01

    def __init__(self) -> None:
        self.fd, self._other = os.pipe()
        self.keeps = True
        self.ended = False
        self.coming: list[Arrival] = []
        self.ready = False

    def begin(self) -> None:
        self.ready = True

    def turn(self) -> Sequence[Arrival]:
        arrivals, self.coming = self.coming, []
        return arrivals

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)


class Context:
    """What a worker is given."""

    log = logging.getLogger("test")

    def __init__(self, app: Any, **settings: Any) -> None:
        self.app = app
        self.settings = Settings(**{"accesslog": "-", **settings})
        self.stopping: StopReason | None = None
        self.left = inf
        self.made = Reception()

    def reception(self) -> Reception:
        return self.made

    def show_waiting(self, waiting: Callable[[], Iterable[tuple[str, object]]]) -> None:
        self.waiting = waiting

    def time_left(self) -> float:
        return self.left

    def stop(self, reason: StopReason = StopReason.DRAIN, left: float = inf) -> None:
        """Stop it, as if nobody were connected."""
        self.stopping, self.left, self.made.keeps = reason, left, False
        self.made.ended = left > 0.0

    async def arrive(self, arrival: Arrival | None = None) -> Arrival:
        """Have a connection arrive, when there is somebody for it."""
        arrival = arrival or Arrival()
        async with asyncio.timeout(20):
            while not self.made.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        self.made.coming.append(arrival)
        return arrival


def serve(app: Any, client: Callable[[Context], Awaitable[None]], **settings: Any) -> None:
    """Serve an application as long as a client lasts."""

    async def run() -> None:
        ctx = Context(app, **settings)
        serving = Serving(ctx, asyncio.get_running_loop())  # type: ignore[arg-type]  # all that it uses
        living = asyncio.create_task(serving.live())
        try:
            await client(ctx)
            if ctx.stopping is None:
                ctx.stop()
            await asyncio.wait_for(living, 20)
        finally:
            living.cancel()
            serving.close()

    asyncio.run(run())


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.scheme} {request.path}!")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


def application(**handlers: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    """Return an application with a handler for each path."""
    app = web.Application()
    for name, handler in {"hello": hello, "echo": echo, **handlers}.items():
        app.router.add_route("*", f"/{name}", handler)
    return app


def test_a_request_that_waits_is_shown_and_an_idle_connection_is_not() -> None:
    going_on = asyncio.Event()

    async def hold(_request: web.Request) -> web.Response:
        await going_on.wait()
        return web.Response(text="went on")

    async def client(ctx: Context) -> None:
        idle, busy = await ctx.arrive(), await ctx.arrive()
        await idle.send("GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
        await idle.receive("\r\n\r\n404: Not Found")
        await busy.send("GET /hold?now HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(20):
            while "in hold\n" not in shown(ctx.waiting()):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        names = [name for name, _ in ctx.waiting()]
        assert names[0] == "GET /hold?now"
        assert "GET /idle" not in names
        assert shown(ctx.waiting()).count("web_protocol.py") <= 4  # of one connection
        going_on.set()
        await busy.receive("went on")

    app = web.Application()
    app.router.add_get("/hold", hold)
    serve(app, client)


def test_each_request_of_a_connection_is_told_of_in_order() -> None:
    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /hello?a=b HTTP/1.1\r\n{HOST}\r\nGET /nothing HTTP/1.1\r\n{HOST}\r\n")
        await arrival.receive("404: Not Found")
        await arrival.send(f"HEAD /hello HTTP/1.0\r\n{HOST}\r\n")
        await arrival.rest()
        await arrival.says(
            "GET /hello?a=b HTTP/1.1",
            "ok 200 12",
            "GET /nothing HTTP/1.1",
            "ok 404 14",
            "HEAD /hello HTTP/1.0",
            "ok 200 0",
            "closed",
        )

    serve(application(), client)


def test_a_body_that_comes_late_is_waited_for_and_begins_no_request() -> None:
    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 6\r\n\r\nabc")
        await arrival.says("POST /echo HTTP/1.1", "waits to read")
        await arrival.send("def")
        assert (await arrival.receive("abcdef")).startswith("HTTP/1.1 200 OK\r\n")
        await arrival.says("POST /echo HTTP/1.1", "waits to read", "goes on", "ok 200 6")

    serve(application(), client)


def test_a_file_counts_with_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 1000)

    async def file(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(tmp_path / "file")

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /file HTTP/1.1\r\n{HOST}Range: bytes=0-99\r\n\r\n")
        await arrival.receive("x" * 100)
        await arrival.says("GET /file HTTP/1.1", "ok 206 100")

    serve(application(file=file), client)


def test_a_request_goes_on_without_its_client_and_only_then_is_the_connection_closed() -> None:
    there, go = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        there.set()
        await go.wait()
        return web.Response(text="late")

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /slow HTTP/1.1\r\n{HOST}\r\n")
        await there.wait()
        arrival.client.close()
        await asyncio.sleep(0.05)
        assert arrival.said == ["GET /slow HTTP/1.1"]
        go.set()
        await arrival.says("GET /slow HTTP/1.1", "aborted 0 0", "closed")

    serve(application(slow=slow), client)


def test_half_a_head_is_answered_when_it_is_late_and_an_idle_connection_is_closed() -> None:
    async def client(ctx: Context) -> None:
        half, idle = await ctx.arrive(), await ctx.arrive()
        await half.send("GET /hel")
        await idle.send(f"GET /hello HTTP/1.1\r\n{HOST}\r\n")
        await idle.receive("!")
        await half.says("began")
        half.late()
        idle.late()
        assert (await half.rest()).startswith("HTTP/1.1 408 Request Timeout\r\n")
        assert await idle.rest() == ""
        await half.says("began", "- - -", "timeout 408 20", "closed")
        await idle.says("GET /hello HTTP/1.1", "ok 200 12", "closed")

    serve(application(), client)


def test_a_connection_is_not_late_whose_request_has_come_just_now() -> None:
    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /kept HTTP/1.1\r\n{HOST}\r\n")
        await arrival.receive("kept")
        connections[0].data_received(f"GET /hello HTTP/1.1\r\n{HOST}\r\n".encode())
        arrival.late()
        await arrival.receive("http /hello!")
        arrival.late()
        assert await arrival.rest() == ""

    async def keep(request: web.Request) -> web.Response:
        connections.append(request.protocol)
        return web.Response(text="kept")

    connections: list[web.RequestHandler] = []
    serve(application(kept=keep), client)


@pytest.mark.parametrize("path", ["hello", "inner/hello"])
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_functions_of_each_application_change_the_head_of_a_response(
    path: str, *, outer: bool, inner: bool
) -> None:
    async def mark_outer(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Outer"] = "yes"

    async def mark_inner(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Inner"] = "yes"

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /{path} HTTP/1.1\r\n{HOST}\r\n")
        head = await arrival.receive("!")
        assert ("X-Outer: yes" in head) is outer
        assert ("X-Inner: yes" in head) is (inner and path == "inner/hello")
        assert "Server: ours\r\n" in head

    app, nested = application(), application()
    if outer:
        app.on_response_prepare.append(mark_outer)
    if inner:
        nested.on_response_prepare.append(mark_inner)
    app.add_subapp("/inner", nested)
    serve(app, client, server_header="ours")


@pytest.mark.filterwarnings("ignore:Inheritance class")
def test_an_application_that_makes_requests_of_its_own_has_them() -> None:
    class Own(web.Application):
        def _make_request(self, *args: Any, **kw: Any) -> web.Request:
            made.append(super()._make_request(*args, **kw))
            return made[-1]

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /hello HTTP/1.1\r\n{HOST}\r\n")
        assert "Server: ours\r\n" in await arrival.receive("!")
        assert [type(each) for each in made] == [web.Request]

    made: list[web.Request] = []
    app = Own()
    app.router.add_get("/hello", hello)
    serve(app, client, server_header="ours")


def test_a_connection_that_waits_for_its_client_at_its_end_is_cut_off_the_second_time() -> None:
    async def big(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(8 << 20), headers={"Connection": "close"})

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /big HTTP/1.1\r\n{HOST}\r\n")
        await arrival.says("GET /big HTTP/1.1", "waits to write")
        arrival.late()
        arrival.late()
        async with asyncio.timeout(20):
            while "closed" not in arrival.said:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    serve(application(big=big), client)


@pytest.mark.parametrize(
    ("forward", "said", "ends"),
    [
        (Forwarded("https", "", {}), "https /hello!", "ok 200 13"),
        (Forwarded("http", "", {}), "http /hello!", "ok 200 12"),
        (ProtocolError("fields contradict each other"), "400 Bad Request\n", "rejected 400 16"),
    ],
)
def test_what_a_proxy_says_is_core_s_to_judge(
    forward: Forwarded | ProtocolError, said: str, ends: str
) -> None:
    async def client(ctx: Context) -> None:
        arrival = Arrival()
        arrival.forward = forward
        await ctx.arrive(arrival)
        await arrival.send(f"GET /hello HTTP/1.1\r\n{HOST}X-Forwarded-Proto: https\r\n\r\n")
        await arrival.receive(said)
        assert arrival.said[:2] == ["GET /hello HTTP/1.1", ends]

    serve(application(), client)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /echo HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + SMUGGLED, 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + SMUGGLED, 501),
        ("GET /hello HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("GET /hello HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    ],
)
def test_a_head_on_which_two_servers_may_differ_is_refused(head: str, status: int) -> None:
    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(head)
        assert (await arrival.rest()).startswith(f"HTTP/1.1 {status} ")
        await arrival.says(arrival.said[0], arrival.said[1], "closed")
        assert arrival.said[1].startswith(f"rejected {status} ")

    serve(application(), client)


def test_chunks_as_they_should_be_and_a_client_of_http_1_0_are_served() -> None:
    async def client(ctx: Context) -> None:
        arrival, old = await ctx.arrive(), await ctx.arrive()
        await arrival.send(
            f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n1\r\n!\r\n0\r\n\r\n"
        )
        await arrival.receive("!")
        await old.send("GET /hello HTTP/1.0\r\n\r\n")
        assert (await old.rest()).endswith("!")

    serve(application(), client)


def test_a_server_that_stops_announces_it_also_to_requests_in_hand() -> None:
    go = asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        await go.wait()
        return web.Response(text="late")

    async def client(ctx: Context) -> None:
        slow, quick = await ctx.arrive(), await ctx.arrive()
        await slow.send(f"GET /slow HTTP/1.1\r\n{HOST}\r\n")
        await slow.says("GET /slow HTTP/1.1")
        ctx.made.keeps = False
        await quick.send(f"GET /hello HTTP/1.1\r\n{HOST}\r\n")
        assert "\r\nConnection: close\r\n" in await quick.rest()
        go.set()
        assert "\r\nConnection: close\r\n" in await slow.rest()

    serve(application(slow=slow), client)


def test_what_has_not_ended_in_time_is_cancelled_before_the_clean_up() -> None:
    said: list[str] = []

    async def slow(_request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            said.append("cancelled")
        return web.Response()

    async def clean_up(_app: web.Application) -> None:
        said.append("cleaned up")

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /slow HTTP/1.1\r\n{HOST}\r\n")
        await arrival.says("GET /slow HTTP/1.1")
        ctx.stop(left=0.0)
        await arrival.rest()
        assert "timeout 0 0" in arrival.said

    app = application(slow=slow)
    app.on_cleanup.append(clean_up)
    serve(app, client)
    assert said == ["cancelled", "cleaned up"]


def test_what_on_startup_sets_in_its_context_handlers_and_on_cleanup_find() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    found: list[str] = []

    async def start(_app: web.Application) -> None:
        variable.set("set")

    async def show(_request: web.Request) -> web.Response:
        text = variable.get()
        variable.set("of one request")
        return web.Response(text=text + "!")

    async def clean_up(_app: web.Application) -> None:
        found.append(variable.get())

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        for _ in range(2):
            await arrival.send(f"GET /show HTTP/1.1\r\n{HOST}\r\n")
            assert (await arrival.receive("!")).endswith("\r\n\r\nset!")

    app = application(show=show)
    app.on_startup.append(start)
    app.on_cleanup.append(clean_up)
    serve(app, client)
    assert found == ["set"]


def test_options_of_an_application_hold_but_for_those_that_settings_decide(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Any] = []

    async def look(request: web.Request) -> web.Response:
        protocol: Any = request.protocol
        seen.extend([protocol._lingering_time, protocol.max_field_size, protocol.access_logger])
        return web.Response(text="!")

    async def client(ctx: Context) -> None:
        arrival = await ctx.arrive()
        await arrival.send(f"GET /look HTTP/1.1\r\n{HOST}\r\n")
        await arrival.receive("!")

    app = web.Application(handler_args={"lingering_time": 3.0, "max_field_size": 99})
    app.router.add_get("/look", look)
    serve(app, client, limit_request_field_size=1234)
    assert seen == [3.0, 1234, None]
    assert "options of the application have no effect: max_field_size" in caplog.text


def test_a_start_up_that_fails_is_a_failed_boot_and_what_it_has_opened_is_closed() -> None:
    said: list[str] = []

    async def pool(_app: web.Application) -> Any:
        said.append("opened")
        yield
        said.append("closed")

    async def start(_app: web.Application) -> None:
        raise LookupError("no database")

    async def client(ctx: Context) -> None:
        await asyncio.sleep(0.02)
        assert not ctx.made.ready

    app = application()
    app.cleanup_ctx.append(pool)
    app.on_startup.append(start)
    with pytest.raises(BootError, match="could not start: LookupError: no database"):
        serve(app, client)
    assert said == ["opened", "closed"]
