# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""`-k gevent` and `-k eventlet`: what is theirs alone. All else is in tests/conformance of each package."""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import socketio
from simple_websocket import Client as WebSocket
from support.application import deploy, hold, holder, release
from support.server import Server
from support.workers import GREEN, present

from prefork.testing import client
from prefork.testing.client import read_answer
from prefork.testing.load import Load
from prefork.testing.server import bind_text
from prefork.testing.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

CROWD: Final = 50


@pytest.fixture(autouse=True, params=GREEN, ids=lambda found: found.name)
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the servers of each test under each library; return its name."""
    with present(request.param) as found:
        yield found.name


def write(folder: Path, text: str) -> None:
    """Put a module `app` into a folder."""
    (folder / "app.py").write_text(text)


OTHER_LOOP: Final = {"gevent": {"GEVENT_BACKEND": "poll"}, "eventlet": {"EVENTLET_HUB": "asyncio"}}


in_each_loop = pytest.mark.parametrize("loop", ["usual", "other"])


def environ_of(library: str, loop: str) -> dict[str, str]:
    """Return what has a library take a loop."""
    return OTHER_LOOP[library] if loop == "other" else {}


@in_each_loop
def test_many_requests_wait_beside_each_other(tmp_path: Path, library: str, loop: str) -> None:
    """Each of them waits for all others, so none would end if one had to wait for another's end."""
    write(
        tmp_path,
        f"""\
import socket, threading
assert not socket.socket.__module__.startswith("socket"), "patched too late"
all_here = threading.Barrier({CROWD})
def app(environ, start_response):
    if environ["PATH_INFO"] == "/all":
        all_here.wait(timeout=20)
    start_response("200 OK", [("Content-Length", "4")])
    return [b"here"]
""",
    )
    with Server(tmp_path, "-w 1 app:app", environ=environ_of(library, loop)) as server, ExitStack() as stack:
        server.wait_workers(1)
        waiting = [stack.enter_context(client.connect(server.address)) for _ in range(CROWD)]
        for sock in waiting:
            client.send(sock, client.render("/all"))
        assert {read_answer(sock).text for sock in waiting} == {"here"}


def test_a_hook_runs_between_the_patch_and_the_import(tmp_path: Path, library: str) -> None:
    (tmp_path / "patches.py").write_text("""\
import os, socket, sys
assert not socket.socket.__module__.startswith("socket"), "too early"
def more():
    os.environ["MORE"] = "app imported" if "app" in sys.modules else "in time"
""")
    write(
        tmp_path,
        """\
import os
MORE = os.environ["MORE"]
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(MORE)))])
    return [MORE.encode()]
""",
    )
    with Server(tmp_path, f"-w 1 --{library}-post-patch patches:more app:app") as server:
        assert server.wait_ready().text == "in time"


def test_a_configuration_file_that_patches_is_refused(tmp_path: Path, library: str) -> None:
    """It would patch the arbiter. On a reload that goes on as if nothing had been, and so do new workers."""
    patch = {
        "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
        "eventlet": "import eventlet\neventlet.monkey_patch()\n",
    }
    refused = "the configuration file replaces what the server itself needs: _thread.start_new_thread"
    write(
        tmp_path,
        """\
import socket
assert not socket.socket.__module__.startswith("socket"), "not patched"
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""",
    )
    config = tmp_path / "prefork.conf.py"
    config.write_text(patch[library])
    with Server(tmp_path, "-w 1 app:app", ready=False, expect=1) as server:
        server.wait_exit()
        assert refused in server.log()
        assert "Traceback" not in server.log()
    config.write_text("")
    with Server(tmp_path, "-w 1 app:app") as server:
        config.write_text(patch[library])
        server.signal(signal.SIGHUP)
        server.wait_log(refused)
        assert server.ask("/").status == 200
        config.write_text("")
        server.signal(signal.SIGHUP)
        server.wait_log("generation 2 ready")
        assert server.ask("/").status == 200
        [pid] = server.wait_workers(1)
        os.kill(pid, signal.SIGKILL)
        server.wait_log("ready after", count=3)
        server.stop()  # long before graceful_timeout
        assert "Traceback" not in server.log()


def test_a_stop_closes_idle_connections_and_finishes_requests_of_a_forked_application(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --preload app:app") as server, hold(server, "a") as busy:
        idle = client.Kept(server.address)
        assert not idle.ask("/first").closing
        server.signal(signal.SIGTERM)
        assert idle.ended()
        release(server, "a")
        assert read_answer(busy).status == 200
        server.wait_exit()


@in_each_loop
def test_the_end_of_one_forked_worker_is_not_taken_for_that_of_another(
    tmp_path: Path, library: str, loop: str
) -> None:
    """What the template waits in, or would, was that of all workers: each was told of what was another's."""
    deploy(tmp_path)
    environ = environ_of(library, loop)
    with (
        Server(tmp_path, "-w 2 --preload app:app", environ=environ) as server,
        hold(server, "a") as busy,
    ):
        staying = holder(server, "a")
        workers = server.wait_workers(2)
        (leaving,) = set(workers) - {staying}
        for worker in workers:
            assert [each for each in watched(worker) if len(each) != len(set(each))] == []
        os.kill(leaving, signal.SIGTERM)
        until(lambda: leaving not in server.workers(), "the other one has ended")
        release(server, "a")
        assert read_answer(busy).status == 200
        assert staying in server.workers()
        assert "Traceback" not in server.log()


NOTES: Final = """
import os
def post_fork(server, worker):
    names = set()
    for number in range(64):
        try:
            names.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    with open(f"{os.getpid()}.has", "w") as file:
        file.write("\\n".join(name for name in names if name.startswith(("pipe:", "socket:"))))
"""


def test_no_forked_worker_begins_with_what_is_of_another(tmp_path: Path) -> None:
    """Of what a template was sent for one worker it has nothing any more when it forks the next one."""
    deploy(tmp_path)
    (tmp_path / "prefork.conf.py").write_text(NOTES)
    with Server(tmp_path, "-w 4 -c prefork.conf.py --preload app:app") as server:
        workers = server.wait_workers(4)
        notes = [set((tmp_path / f"{pid}.has").read_text().split()) for pid in workers]
        everybodys = set.intersection(*notes)
        assert [one & other - everybodys for one, other in combinations(notes, 2)] == [set()] * 6


def watched(pid: int) -> list[list[str]]:
    """Return the numbers in each epoll set of a process; one that is shared has the same of each process."""
    sets = (file.read_text() for file in Path(f"/proc/{pid}/fdinfo").iterdir())
    return [re.findall(r"^tfd: *(\d+)", text, re.MULTILINE) for text in sets]


def test_a_request_that_waits_for_too_long_is_explained_and_its_worker_replaced(tmp_path: Path) -> None:
    deploy(tmp_path)
    with Server(tmp_path, "-w 1 --timeout 1 --graceful-timeout 5 app:app") as server, hold(server, "a"):
        stuck = until(lambda: holder(server, "a"), "the request is in the application")
        server.wait_log("GET /hold/a")
        server.wait_log("ready after", count=2)
        assert server.ask("/").status == 200
        until(lambda: stuck not in server.workers(), "the stuck worker has gone")


def test_requests_that_end_at_once_are_all_logged_to_a_pipe(tmp_path: Path) -> None:
    """To write a line is no moment to wait: the next greenlet would be in the middle of the same."""
    deploy(tmp_path, request="time.sleep(0.003)")
    fifo = tmp_path / "access.log"
    os.mkfifo(fifo)
    lines: list[str] = []

    def read() -> None:
        with fifo.open() as pipe:
            lines.extend(pipe)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    flags = "--access-logfile access.log --access-logformat %(U)s"
    with Server(tmp_path, f"-w 1 {flags} app:app") as server, Load(server.address, clients=30) as load:
        load.wait(500)
        load.finish()
        load.check()
    reader.join(PATIENCE)
    assert len([line for line in lines if line != "/ready\n"]) == load.answered


BLOCKS: Final = """\
import ctypes
def block(seconds):
    ctypes.CDLL(None).sleep(seconds)
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/block/"):
        block(int(path[7:]))
    elif path == "/later":
        import threading
        threading.Timer(0.1, block, [60]).start()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
"""It holds the one thread in C, where nothing cooperates."""


def test_a_call_that_blocks_them_outside_of_a_request_is_ended_too(tmp_path: Path) -> None:
    write(tmp_path, BLOCKS)
    with Server(tmp_path, "-w 1 --timeout 1 app:app") as server:
        server.wait_ready()
        assert server.ask("/later").status == 200
        server.wait_log("in block")
        server.wait_log("ready after", count=2)
        assert server.ask("/").status == 200


def test_a_call_that_blocks_them_for_a_while_is_shown_and_runs_on(tmp_path: Path) -> None:
    write(tmp_path, BLOCKS)
    with Server(tmp_path, "-w 1 --blocked-loop 0.5 app:app") as server:
        first = server.wait_workers(1)
        server.wait_ready()
        assert server.ask("/block/2").status == 200
        server.wait_log("a call blocks all its requests")
        server.wait_log("GET /block/2")
        server.wait_log("in block")
        assert server.workers() == first


LEFT_BEHIND: Final = {
    "gevent": """\
import gevent, sys
def leave(): gevent.spawn(sys.exit)
def timeout(): gevent.Timeout(0.1).start()
def kill(): gevent.spawn_later(0.1, gevent.getcurrent().kill, block=False)
def spawn(): gevent.spawn(lambda: 1 / 0)
""",
    "eventlet": """\
import eventlet, greenlet, sys
def leave(): eventlet.spawn_n(sys.exit), eventlet.spawn(sys.exit)
def timeout(): eventlet.Timeout(0.1)
def kill(): eventlet.spawn_after(0.1, eventlet.kill, greenlet.getcurrent())
def spawn(): eventlet.spawn_n(lambda: 1 / 0)
""",
}


@in_each_loop
def test_what_a_request_leaves_behind_ends_no_worker(tmp_path: Path, library: str, loop: str) -> None:
    write(
        tmp_path,
        LEFT_BEHIND[library]
        + """\
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path in ("/timeout", "/kill", "/spawn", "/leave"):
        globals()[path[1:]]()
    elif path == "/exit":
        raise SystemExit
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""",
    )
    with Server(tmp_path, "-w 1 app:app", environ=environ_of(library, loop)) as server:
        first = server.wait_workers(1)
        for path in ("/timeout", "/kill", "/spawn", "/leave"):
            assert server.ask(path).status == 200
        assert server.ask("/exit").status == 500
        server.wait_log("a request has left something behind", count=2)
        server.wait_log("ZeroDivisionError")
        assert server.ask("/").status == 200
        assert server.workers() == first


def test_many_websockets_are_open_at_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
import flask, flask_sock
app = flask.Flask(__name__)
@flask_sock.Sock(app).route("/echo")
def echo(ws):
    while True:
        ws.send(ws.receive())
""",
    )
    with Server(tmp_path, "-w 1 app:app") as server:
        server.wait_ready()
        base = bind_text(server.address)
        sockets = [WebSocket(f"ws://{base}/echo") for _ in range(20)]
        for turn in ("one", "two"):
            for number, sock in enumerate(sockets):
                sock.send(f"{turn} {number}")
            assert [sock.receive(timeout=20) for sock in sockets] == [f"{turn} {n}" for n in range(20)]
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_socket_io_runs_on_the_library(tmp_path: Path, library: str, transport: str) -> None:
    write(
        tmp_path,
        f"""\
import flask, flask_socketio
app = flask.Flask(__name__)
talk = flask_socketio.SocketIO(app, async_mode={library!r})
@talk.on("shout")
def shout(words):
    flask_socketio.emit("shouted", words.upper(), broadcast=True)
    return talk.server.transport(flask.request.sid)
""",
    )
    heard: list[tuple[int, str]] = []
    with Server(tmp_path, "-w 1 app:app") as server:
        server.wait_ready()
        clients = [socketio.Client() for _ in range(5)]
        for number, each in enumerate(clients):
            each.on("shouted", lambda words, number=number: heard.append((number, words)))
            each.connect(f"http://{bind_text(server.address)}", transports=[transport])
        assert clients[0].call("shout", "all", timeout=20) == transport
        until(lambda: sorted(heard) == [(number, "ALL") for number in range(5)], "all have heard it")
        if transport == "websocket":
            server.stop()  # long before graceful_timeout
        for each in clients:
            each.disconnect()
    assert "Traceback" not in server.log()
