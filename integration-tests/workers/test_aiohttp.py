# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""`-k aiohttp`: what is its own. All else is in tests/conformance of prefork-aio."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed
from support.application import hold, release
from support.server import Server
from support.workers import AIOHTTP, present

from prefork.testing import client
from prefork.testing.client import read_answer
from prefork.testing.load import Load
from prefork.testing.server import bind_text
from prefork.testing.waiting import until
from prefork.trial.answers import REPEAT

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCESS: Final = "--access-logfile access.log --access-logformat '%(O)s %(s)s %(B)s %(r)s'"

BOTH_LOOPS: Final = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])

APP: Final = f"""\
import asyncio, os, sys, time
from pathlib import Path
from aiohttp import WSCloseCode, web

VERSION = "one"
routes = web.RouteTableDef()

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

@routes.get("/hold/{{name}}")
async def hold(request):
    name = request.match_info["name"]
    with open(name + ".held", "w") as file:
        file.write(f"{{os.getpid()}}\\n")
    try:
        while not os.path.exists(name + ".released"):
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note("cancelled " + name)
        raise
    note("done " + name)
    return web.Response(text=name)

@routes.get("/exit")
async def leave(request):
    sys.exit(3)

@routes.get("/exit-later")
async def leave_later(request):
    async def later():
        sys.exit(4)
    request.app["later"] = asyncio.create_task(later())
    return web.Response(text="soon")

@routes.get("/raise")
async def fail(request):
    raise LookupError("its own")

@routes.get("/break-off")
async def break_off(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    raise LookupError("in the middle")

@routes.get("/stream")
async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(5):
        await response.write(b"0123456789")
    return response

@routes.get("/endless")
async def endless(request):
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)

@routes.get("/file")
async def file(request):
    return web.FileResponse("large")

@routes.post("/upload")
async def upload(request):
    note("upload")
    while not os.path.exists("go.released"):
        await asyncio.sleep(0.01)
    count = 0
    async for piece in request.content.iter_any():
        count += len(piece)
    return web.Response(text=str(count))

@routes.post("/read")
async def read(request):
    return web.Response(text=str(len(await request.read())))

@routes.get("/about")
async def about(request):
    return web.Response(text=f"{{request.scheme}} {{request.remote}} {{request.host}}")

@routes.get("/chat")
async def chat(request):
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    everybody = request.app["everybody"]
    everybody.add(websocket)
    try:
        async for message in websocket:
            for each in list(everybody):
                await each.send_str(message.data)
    finally:
        everybody.discard(websocket)
        note(f"left {{websocket.close_code}}")
    return websocket

@routes.get("/{{anything:.*}}")
async def answer(request):
    body = f"{{VERSION}} {{os.getpid()}} {{request.path}}\\n" * {REPEAT}
    return web.Response(text=body)

async def shut_down(app):
    note("on_shutdown")
    if not os.path.exists("forgets"):
        for websocket in list(app["everybody"]):
            await websocket.close(code=WSCloseCode.GOING_AWAY, message=b"the application says so")

async def clean_up(app):
    note("on_cleanup")

def create_app():
    app = web.Application()
    app["everybody"] = set()
    app.add_routes(routes)
    app.on_shutdown.append(shut_down)
    app.on_cleanup.append(clean_up)
    return app

app = create_app()
"""


@pytest.fixture(autouse=True)
def _aiohttp() -> Iterator[None]:
    """Run the servers of each test with this worker class."""
    with present(AIOHTTP):
        yield


def deploy(folder: Path, version: str = "one", *, more: str = "") -> None:
    """Put the application into a folder, at once."""
    fresh = folder / "app.py.new"
    fresh.write_text(APP.replace('VERSION = "one"', f'VERSION = "{version}"') + more)
    os.replace(fresh, folder / "app.py")


def notes(folder: Path) -> list[str]:
    """Return what the application has noted."""
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def access(folder: Path, count: int) -> list[str]:
    """Return the lines of the access log behind that of the first request, once there are so many."""
    path = folder / "access.log"
    lines: list[str] = []

    def enough() -> bool:
        lines[:] = [line for line in path.read_text().splitlines() if "/ready" not in line]
        return len(lines) >= count

    until(enough, f"{count} lines in the access log")
    return lines


@contextmanager
def chatting(server: Server, count: int) -> Iterator[list[WebSocket]]:
    """Have so many clients in the chat."""
    base = bind_text(server.address)
    sockets = [WebSocket(f"ws://{base}/chat") for _ in range(count)]
    yield sockets
    for sock in sockets:
        if sock.connected:
            sock.close()


def closed_with(sock: WebSocket) -> tuple[int, str]:
    """Return code and reason with which a WebSocket ends."""
    try:
        while True:
            assert sock.receive(timeout=20) is not None, "it is open still"
    except ConnectionClosed as end:
        return end.reason, end.message


# What is served


KINDS: Final = {
    "app:app": "",
    "app:create_app": "",
    "app:create_app()": "",
    "app:coroutine": "\nasync def coroutine():\n    return create_app()\n",
    "app:coroutine()": "\nasync def coroutine():\n    return create_app()\n",
    "app:runner": "\nasync def runner():\n    return web.AppRunner(create_app())\n",
    "app:in_the_loop": "\ndef in_the_loop():\n    asyncio.get_running_loop()\n    return create_app()\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_applications_and_their_factories_are_served(tmp_path: Path, kind: str) -> None:
    deploy(tmp_path, more=KINDS[kind])
    with Server(tmp_path, f"-w 1 '{kind}'") as server:
        assert server.ask("/about").status == 200
        server.stop()
    assert notes(tmp_path) == ["on_shutdown", "on_cleanup"]


def test_a_template_loads_it_for_all_workers(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 2 --preload app:app") as server, Load(server.address, keep=True) as load:
        load.wait()
        deploy(tmp_path, "two")
        server.signal(signal.SIGHUP)
        load.wait_only_version("two")
        load.check()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("\nasync def bad(app):\n    raise LookupError('no database')\n", "LookupError: no database"),
        ("\nasync def bad(app):\n    sys.exit(0)\n", "SystemExit: 0"),
    ],
)
def test_a_start_up_that_fails_ends_the_server_with_its_traceback(
    tmp_path: Path, more: str, said: str
) -> None:
    deploy(tmp_path, more=f"{more}\napp.on_startup.append(bad)\n")
    with Server(tmp_path, "-w 1 app:app", ready=False, expect=3) as server:
        assert server.wait_exit() == 3
    assert f"the application could not start: {said}" in server.log()
    assert "in bad" in server.log()


def test_a_reload_to_one_that_cannot_start_leaves_the_old_one_serving(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server, Load(server.address, keep=True) as load:
        load.wait()
        deploy(
            tmp_path,
            "two",
            more="\nasync def bad(app):\n    raise LookupError('no database')\napp.on_startup.append(bad)\n",
        )
        server.signal(signal.SIGHUP)
        server.wait_log("LookupError: no database")
        server.wait_log("rolled back")
        load.wait()
        load.check()
        assert set(load.versions) == {"one"}


def test_what_is_no_such_application_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def app(environ, start_response): ...")
    with Server(tmp_path, "-w 1 app:app", ready=False, expect=4) as server:
        assert server.wait_exit() == 4
    assert "it takes the arguments of a WSGI application, which -k gthread serves" in server.log()


# Requests and answers


@BOTH_LOOPS
def test_a_file_is_sent_whole(tmp_path: Path, loop: str) -> None:
    deploy(tmp_path)
    large = os.urandom(3 * 1024**2)
    (tmp_path / "large").write_bytes(large)
    with Server(tmp_path, f"-w 1 --aio-loop {loop} {ACCESS} app:app") as server:
        assert server.ask("/file").body == large
        assert access(tmp_path, 1) == [f"ok 200 {len(large)} GET /file HTTP/1.1"]


@BOTH_LOOPS
def test_an_upload_waits_with_its_client_until_it_is_read(tmp_path: Path, loop: str) -> None:
    """What the application does not read stays with the client, beyond what buffers hold."""
    deploy(tmp_path)
    size = 64 * 1024**2
    with (
        Server(tmp_path, f"-w 1 --aio-loop {loop} --body-timeout 1 app:app") as server,
        client.connect(server.address) as sock,
    ):
        server.wait_ready()
        client.send(sock, f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        until(lambda: "upload" in notes(tmp_path), "the upload has begun")
        sent = _sent_until_blocked(sock, size)
        assert sent < size
        # The client is not late while it is the application that does not read.
        time.sleep(1.5)
        release(server, "go")
        sock.settimeout(20)
        while sent < size:
            sent += sock.send(bytes(min(65536, size - sent)))
        assert read_answer(sock).text == str(size)


def _sent_until_blocked(sock: socket.socket, size: int) -> int:
    """Send until nothing is taken for half a second; return how much was."""
    sock.settimeout(0.5)
    sent = 0
    try:
        while sent < size:
            sent += sock.send(bytes(min(65536, size - sent)))
    except TimeoutError:
        pass
    return sent


def test_each_request_has_one_line_in_the_access_log(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {ACCESS} app:app") as server:
        kept = client.Kept(server.address)
        assert kept.ask("/about").text == "http 127.0.0.1 test"
        assert kept.ask("/stream").text == "0123456789" * 5
        assert server.ask("/raise").status == 500
        with client.connect(server.address) as sock:
            sock.sendall(b"BAD\r\n\r\n")
            assert read_answer(sock).status == 400
        assert access(tmp_path, 4) == [
            "ok 200 19 GET /about HTTP/1.1",
            "ok 200 50 GET /stream HTTP/1.1",
            "error 500 55 GET /raise HTTP/1.1",
            "rejected 400 16 -",
        ]
        assert server.log().count("error in the application: GET /raise") == 1
        assert "aiohttp.access" not in server.log()


def test_a_response_that_fails_in_the_middle_breaks_off(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {ACCESS} app:app") as server:
        with pytest.raises(client.RequestFailed, match="cut"):
            server.ask("/break-off")
        assert access(tmp_path, 1) == ["error 200 5 GET /break-off HTTP/1.1"]


def test_the_server_field_is_the_setting_s(tmp_path: Path) -> None:
    deploy(tmp_path)
    for option, said in (("", "Server: prefork\r\n"), ("--server-header own", "Server: own\r\n")):
        with Server(tmp_path, f"-w 1 {option} app:app") as server:
            assert said in server.ask("/").head
            assert said in server.ask("/raise").head
    with Server(tmp_path, "-w 1 --server-header '' app:app") as server:
        assert "Server:" not in server.ask("/").head


@BOTH_LOOPS
def test_an_exit_in_a_request_or_a_task_ends_no_worker(tmp_path: Path, loop: str) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 --aio-loop {loop} app:app") as server:
        first = server.wait_workers(1)
        assert server.ask("/exit").status == 500
        assert server.ask("/exit-later").text == "soon"
        server.wait_log("a task of the application called sys.exit(4)")
        assert server.ask("/").status == 200
        assert server.workers() == first


def test_only_a_trusted_proxy_says_what_its_client_used(tmp_path: Path) -> None:
    deploy(tmp_path)
    secure = "X-Forwarded-Proto: https"
    with Server(tmp_path, "-w 1 app:app") as server:
        assert server.ask("/about", secure).text.startswith("https 127.0.0.1")
        assert server.ask("/about").text.startswith("http ")
        assert server.ask("/about", secure, "X-Forwarded-Ssl: off").status == 400
        assert server.ask("/").status == 200
    with Server(tmp_path, "-w 1 --forwarded-allow-ips 192.0.2.1 app:app") as server:
        assert server.ask("/about", secure).text.startswith("http 127.0.0.1")


@pytest.mark.parametrize(
    ("options", "head", "status"),
    [
        ("--limit-request-line 100", "GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("--limit-request-field-size 100", "GET / HTTP/1.1\r\nHost: x\r\nLong: {long}\r\n\r\n", 431),
        (
            "--limit-request-fields 3",
            "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n",
            431,
        ),
    ],
)
def test_the_limits_of_a_request_are_the_settings(
    tmp_path: Path, options: str, head: str, status: int
) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {options} app:app") as server, client.connect(server.address) as sock:
        server.wait_ready()
        client.send(sock, head.format(long="x" * 200).encode())
        assert read_answer(sock).status == status


# Clients that are slow, or go


def test_half_a_head_is_dropped_in_time(tmp_path: Path) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, f"-w 1 --header-timeout 0.3 {ACCESS} app:app") as server,
        client.connect(server.address) as sock,
    ):
        server.wait_ready()
        sock.sendall(b"GET / HTT")
        assert read_answer(sock).status == 408
        assert access(tmp_path, 1) == ["timeout 408 20 -"]


def test_who_does_not_send_its_body_gets_a_408(tmp_path: Path) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, f"-w 1 --body-timeout 0.3 {ACCESS} app:app") as server,
        client.connect(server.address) as sock,
    ):
        server.wait_ready()
        client.send(sock, b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert read_answer(sock).status == 408
        [line] = access(tmp_path, 1)
        assert line.startswith("timeout 408 ")
        assert "Traceback" not in server.log()


@BOTH_LOOPS
@pytest.mark.parametrize("path", ["/endless", "/file"])
def test_who_does_not_take_its_answer_is_dropped(tmp_path: Path, loop: str, path: str) -> None:
    deploy(tmp_path)
    with (tmp_path / "large").open("wb") as large:
        large.truncate(64 * 1024**2)
    with (
        Server(tmp_path, f"-w 1 --aio-loop {loop} --write-timeout 1 {ACCESS} app:app") as server,
        client.connect(server.address) as sock,
    ):
        server.wait_ready()
        client.send(sock, client.render(path))
        [line] = access(tmp_path, 1)
        assert line.split()[0] == "timeout"
        assert server.ask("/").status == 200


def test_a_request_whose_client_has_gone_is_finished(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 {ACCESS} app:app") as server:
        with hold(server, "a"):
            pass
        server.ask("/")
        release(server, "a")
        until(lambda: "done a" in notes(tmp_path), "the request is over")
        until(lambda: "aborted - 0 GET /hold/a HTTP/1.1" in access(tmp_path, 2), "it has its line")


# WebSockets


@BOTH_LOOPS
@pytest.mark.parametrize("forgets", [False, True])
def test_a_chat_ends_with_a_word_when_the_server_stops(tmp_path: Path, loop: str, *, forgets: bool) -> None:
    deploy(tmp_path)
    if forgets:
        (tmp_path / "forgets").touch()
    with (
        Server(tmp_path, f"-w 1 --aio-loop {loop} {ACCESS} app:app") as server,
        chatting(server, 3) as sockets,
    ):
        for number, sock in enumerate(sockets):
            sock.send(f"from {number}")
            assert [each.receive(timeout=20) for each in sockets] == [f"from {number}"] * 3
        server.signal(signal.SIGTERM)
        said = "server shutdown" if forgets else "the application says so"
        assert [closed_with(each) for each in sockets] == [(1001, said)] * 3
        server.wait_exit()
        assert notes(tmp_path)[-1] == "on_cleanup"
        assert access(tmp_path, 3) == ["ok 101 0 GET /chat HTTP/1.1"] * 3


def test_a_reload_sends_a_chat_away_and_not_into_nothing(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server:
        server.wait_ready()
        with chatting(server, 2) as sockets:
            server.signal(signal.SIGHUP)
            assert [closed_with(each)[0] for each in sockets] == [1001] * 2
        with chatting(server, 1) as [again]:
            again.send("still there")
            assert again.receive(timeout=20) == "still there"


# The stop


@BOTH_LOOPS
def test_a_stop_under_load_loses_nothing(tmp_path: Path, loop: str) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, f"-w 2 --aio-loop {loop} app:app") as server,
        Load(server.address, clients=8, keep=True) as load,
    ):
        load.wait()
        server.signal(signal.SIGTERM)
        load.outlast(server)


@BOTH_LOOPS
def test_a_stop_closes_idle_connections_and_finishes_requests(tmp_path: Path, loop: str) -> None:
    deploy(tmp_path)
    with Server(tmp_path, f"-w 1 --aio-loop {loop} app:app") as server, ExitStack() as stack:
        server.wait_ready()
        idle = [client.Kept(server.address) for _ in range(3)]
        assert not any(each.ask("/").closing for each in idle)
        busy = stack.enter_context(hold(server, "a"))
        server.signal(signal.SIGTERM)
        assert all(each.ended() for each in idle)
        assert server.is_running
        release(server, "a")
        answer = read_answer(busy)
        assert (answer.status, answer.text, answer.closing) == (200, "a", True)
        server.wait_exit()
    assert notes(tmp_path) == ["on_shutdown", "done a", "on_cleanup"]


@BOTH_LOOPS
def test_what_is_not_finished_in_time_is_cancelled_and_then_cleaned_up(tmp_path: Path, loop: str) -> None:
    deploy(tmp_path)
    with (
        Server(tmp_path, f"-w 1 --aio-loop {loop} --graceful-timeout 4 {ACCESS} app:app") as server,
        hold(server, "a"),
    ):
        server.stop()
        assert "cancelled, since the worker stops: GET /hold/a" in server.log()
        assert "did not stop in time" not in server.log()
    assert notes(tmp_path) == ["on_shutdown", "cancelled a", "on_cleanup"]
    assert access(tmp_path, 1) == ["timeout - 0 GET /hold/a HTTP/1.1"]


def test_a_stop_at_once_cleans_up_too(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 app:app") as server, hold(server, "a"):
        server.stop(signal.SIGINT)
    assert sorted(notes(tmp_path)) == ["cancelled a", "on_cleanup", "on_shutdown"]


def test_a_clean_up_that_does_not_end_is_left(tmp_path: Path) -> None:
    more = "\nasync def stay(app):\n    await asyncio.sleep(60)\napp.on_cleanup.append(stay)\n"
    deploy(tmp_path, more=more)
    with Server(tmp_path, "-w 1 --graceful-timeout 3 app:app") as server:
        server.stop()
        assert "on_cleanup of the application has not ended in time" in server.log()


def test_a_worker_that_is_told_to_stop_while_its_application_starts_cleans_up(tmp_path: Path) -> None:
    more = """
async def pool(app):
    note("opened")
    await asyncio.sleep(0 if os.path.exists("quick") else 60)
    yield
    note("closed")
async def begin(app):
    note("starting")
    await asyncio.sleep(60)
app.cleanup_ctx.append(pool)
app.on_startup.append(begin)
"""
    (tmp_path / "quick").touch()
    deploy(tmp_path, more=more)
    with Server(tmp_path, "-w 1 app:app", ready=False) as server:
        until(lambda: "starting" in notes(tmp_path), "the application starts")
        server.stop()
    assert notes(tmp_path)[-1] == "closed"
