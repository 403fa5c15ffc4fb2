# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""`-k tornado`: what applications of Tornado do on prefork's HTTP, and WSGI beside them."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Final

import pytest
from simple_websocket import Client as WebSocket
from simple_websocket import ConnectionClosed
from support.browser import blocks, fetch, wire
from support.server import Server

from prefork.testing import client
from prefork.testing.client import Kept, connect, read_answer
from prefork.testing.server import bind_text
from prefork.testing.waiting import until

BEGIN: Final = """\
import asyncio, os, sys
import tornado.ioloop, tornado.web, tornado.websocket, tornado.wsgi
from tornado.web import Application, RequestHandler

def note(name, text=""):
    with open(name + ".new", "w") as file:
        file.write(str(text))
    os.replace(name + ".new", name)

async def told(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.01)

class Ready(RequestHandler):
    def get(self):
        self.write("ready")
"""

END: Final = """
app = Application([(r"/ready", Ready), (r"/.*", Handler)])
"""


def serve(folder: Path, handler: str, arguments: str = "", *, end: str = END) -> Server:
    """Return a server of a class `Handler`, for a `with` statement."""
    (folder / "app.py").write_text(BEGIN + handler + end)
    return Server(folder, f"-k tornado -w 1 {arguments} app:app")


def noted(server: Server, name: str) -> str:
    """Wait until the application has left a note; return it."""
    file = server.folder / name
    until(file.exists, f"the note {name!r}")
    return file.read_text()


def receive(sock: socket.socket, end: bytes) -> bytes:
    """Return what comes up to some bytes, and no more than has come with them."""
    found = b""
    while end not in found:
        piece = sock.recv(65536)
        assert piece, found
        found += piece
    return found


# WebSockets

CHAT: Final = """
class Handler(tornado.websocket.WebSocketHandler):
    def on_message(self, message):
        if message == "exit":
            sys.exit(3)
        self.write_message(message, binary=isinstance(message, bytes))
    def on_close(self):
        note("closed")
"""


def chat(server: Server) -> WebSocket:
    """Return an open WebSocket, which has its worker's attention."""
    talk = WebSocket(f"ws://{bind_text(server.address)}/chat")
    talk.send("hello")
    assert talk.receive(timeout=20) == "hello"
    return talk


def test_websockets_talk_beside_each_other(tmp_path: Path) -> None:
    with serve(tmp_path, CHAT, "--access-logfile -") as server:
        talks = [chat(server) for _ in range(20)]
        for number, talk in enumerate(talks):
            talk.send(f"number {number}")
        assert [talk.receive(timeout=20) for talk in talks] == [f"number {number}" for number in range(20)]
        talks[0].send(b"\0" * 500_000)
        assert talks[0].receive(timeout=20) == b"\0" * 500_000
        for talk in talks:
            talk.close()
        server.wait_log('"GET /chat HTTP/1.1" 101', count=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_websockets_are_told_when_their_worker_goes(tmp_path: Path, number: signal.Signals) -> None:
    """With 1001, "going away" (RFC 6455 section 7.4.1), long before graceful_timeout."""
    with serve(tmp_path, CHAT) as server:
        talk = chat(server)
        server.signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            talk.receive(timeout=20)
        assert closed.value.reason == 1001
        noted(server, "closed")
        if number is signal.SIGTERM:
            assert server.wait_exit(20) == 0


def test_an_exit_in_a_websocket_ends_that_and_no_other(tmp_path: Path) -> None:
    with serve(tmp_path, CHAT) as server:
        first = server.workers()
        other, talk = chat(server), chat(server)
        talk.send("exit")
        with pytest.raises(ConnectionClosed):
            talk.receive(timeout=20)
        other.send("still here")
        assert other.receive(timeout=20) == "still here"
        assert server.workers() == first
        server.wait_log("sys.exit() behind /chat")


def test_a_detached_connection_begins_with_what_came_early(tmp_path: Path) -> None:
    """And finds its end when the worker stops."""
    handler = """
class Handler(RequestHandler):
    async def get(self):
        stream = self.detach()
        await stream.write(b"> ")
        while True:
            await stream.write((await stream.read_until(b"\\n")).upper())
"""
    with serve(tmp_path, handler) as server, connect(server.address) as sock:
        fields = ("Connection: Upgrade", "Upgrade: shout")
        sock.sendall(client.render("/", "GET", b"", *fields) + b"early\n")
        assert receive(sock, b"\n") == b"> EARLY\n"
        sock.sendall(b"late\n")
        assert receive(sock, b"\n") == b"LATE\n"
        server.signal(signal.SIGTERM)
        assert sock.recv(1) == b""
        assert server.wait_exit(20) == 0


# Streams


def test_a_response_is_sent_as_it_is_flushed(tmp_path: Path) -> None:
    """First of all its head, as a reader of server-sent events waits for."""
    handler = """
class Handler(RequestHandler):
    async def get(self):
        await self.flush()
        await told("one")
        self.write("one")
        await self.flush()
        await told("two")
        self.write("two")
"""
    with serve(tmp_path, handler) as server, connect(server.address) as sock:
        sock.sendall(client.render("/"))
        assert receive(sock, b"\r\n\r\n").endswith(b"\r\n\r\n")
        (tmp_path / "one").touch()
        assert receive(sock, b"one\r\n") == b"3\r\none\r\n"
        (tmp_path / "two").touch()
        assert receive(sock, b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


def test_a_handler_waits_for_a_client_that_is_behind(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        for number in range(1000):
            self.write(bytes(1 << 16))
            waiting = self.flush()
            if not waiting.done():
                note("behind", number)
            await waiting
"""
    with serve(tmp_path, handler) as server, connect(server.address) as sock:
        sock.sendall(client.render("/"))
        assert int(noted(server, "behind")) < 500
        assert server.ask("/ready").status == 200
        assert read_answer(sock).body == bytes(1000 << 16)


def test_a_handler_need_not_wait_for_the_end_of_its_response(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        await self.finish(bytes(20 << 20))
        note("finished")
"""
    with serve(tmp_path, handler) as server, connect(server.address) as sock:
        sock.sendall(client.render("/"))
        noted(server, "finished")
        assert read_answer(sock).body == bytes(20 << 20)


def test_a_client_that_takes_nothing_is_dropped_in_time(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        try:
            while True:
                self.write(bytes(1 << 16))
                await self.flush()
        except tornado.iostream.StreamClosedError:
            note("dropped")
            raise
"""
    with (
        serve(tmp_path, handler, "--write-timeout 0.5 --access-logfile -") as server,
        connect(server.address) as sock,
    ):
        sock.sendall(client.render("/"))
        noted(server, "dropped")
        server.wait_log("timeout by 127.0.0.1")
        assert server.ask("/ready").status == 200


UPLOAD: Final = """
@tornado.web.stream_request_body
class Handler(RequestHandler):
    def prepare(self):
        self.size = 0
        if self.request.path == "/no":
            self.set_status(403)
            self.finish()
        if self.request.path == "/large":
            self.request.connection.set_max_body_size(1 << 40)
    async def data_received(self, piece):
        self.size += len(piece)
        note("received", self.size)
        await asyncio.sleep(0)
    def on_connection_close(self):
        note("gone", self.size)
    def post(self):
        self.write(str(self.size))
"""


def test_a_body_is_read_as_it_comes(tmp_path: Path) -> None:
    with serve(tmp_path, UPLOAD) as server, connect(server.address) as sock:
        sock.sendall(client.render("/", "POST", b"", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
        assert noted(server, "received") == "3"
        sock.sendall(b"2\r\nde\r\n0\r\n\r\n")
        assert read_answer(sock).text == "5"


def test_a_body_may_be_as_large_as_its_handler_says(tmp_path: Path) -> None:
    size = 5 << 20
    with serve(tmp_path, UPLOAD, "--tornado-max-body-size 1MiB") as server:
        assert fetch(server.address, "/large", method="POST", body=blocks(size)).text == str(size)
        with connect(server.address) as sock:
            sock.sendall(client.render("/", "POST", b"", f"Content-Length: {size}"))
            sock.sendall(bytes(size))
            assert read_answer(sock).status == 413
        with connect(server.address) as sock:
            sock.sendall(client.render("/", "POST", b"", "Transfer-Encoding: chunked"))
            sock.sendall(b"100001\r\n" + bytes(0x100001))
            assert read_answer(sock).status == 413


def test_a_body_that_is_not_wanted_is_answered_at_once(tmp_path: Path) -> None:
    with serve(tmp_path, UPLOAD) as server, connect(server.address) as sock:
        fields = ("Transfer-Encoding: chunked", "Expect: 100-continue")
        sock.sendall(client.render("/no", "POST", b"", *fields))
        answer = read_answer(sock)
        assert (answer.status, answer.closing) == (403, True)


def test_a_handler_hears_of_a_body_that_breaks_off(tmp_path: Path) -> None:
    with serve(tmp_path, UPLOAD) as server:
        with connect(server.address) as sock:
            sock.sendall(client.render("/", "POST", b"", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
            noted(server, "received")
        assert noted(server, "gone") == "3"


@pytest.mark.parametrize(("rest", "status"), [(b"", 408), (b"no length\r\n", 400)])
def test_a_body_that_does_not_come_is_refused(tmp_path: Path, rest: bytes, status: int) -> None:
    with serve(tmp_path, UPLOAD, "--body-timeout 0.5") as server, connect(server.address) as sock:
        sock.sendall(client.render("/", "POST", b"", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n" + rest)
        answer = read_answer(sock)
        assert (answer.status, answer.closing) == (status, True)
        assert noted(server, "gone") == "3"


def test_a_handler_hears_of_a_client_that_goes_away(tmp_path: Path) -> None:
    """And its request does not keep a worker that stops."""
    handler = """
class Handler(RequestHandler):
    async def get(self):
        note("begun")
        await asyncio.Event().wait()
    def on_connection_close(self):
        note("gone", self.request.connection.stream.closed())
"""
    with serve(tmp_path, handler) as server:
        with connect(server.address) as sock:
            sock.sendall(client.render("/"))
            noted(server, "begun")
        assert noted(server, "gone") == "True"
        server.signal(signal.SIGTERM)
        assert server.wait_exit(20) == 0


@pytest.mark.parametrize("request_", [client.render("/ready"), client.render("/ready", "POST", b"abc")])
def test_a_client_that_sends_no_more_is_answered(tmp_path: Path, request_: bytes) -> None:
    handler = """
class Handler(RequestHandler):
    def get(self):
        self.write("heard")
    post = get
"""
    with serve(tmp_path, handler, end="\napp = Application([('/.*', Handler)])\n") as server:
        answer = wire(server.address, request_)
        assert answer.endswith(b"\r\n\r\nheard")


# What the client is


SHOWS: Final = """
class Handler(RequestHandler):
    def get(self):
        request = self.request
        self.write(f"{request.protocol} {request.remote_ip} {request.host} {request.uri} ")
        self.write(",".join(sorted(name for name in request.headers if "_" in name)))
"""


@pytest.mark.parametrize(("trusted", "scheme"), [("127.0.0.1", "https"), ("192.0.2.1", "http")])
def test_only_a_trusted_proxy_says_what_the_scheme_was(tmp_path: Path, trusted: str, scheme: str) -> None:
    fields = ("X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7", "X-Real-Ip: 192.0.2.7")
    with serve(tmp_path, SHOWS, f"--forwarded-allow-ips {trusted}") as server:
        assert server.ask("/?a=b", *fields).text == f"{scheme} 127.0.0.1 test /?a=b "


def test_fields_that_could_pose_as_others_are_dropped(tmp_path: Path) -> None:
    with serve(tmp_path, SHOWS, "--forwarder-headers REMOTE_USER") as server:
        assert server.ask("/", "Remote_User: me", "X_Real_Ip: you").text.endswith(" Remote_user")


def test_a_target_with_a_host_is_routed_by_its_path(tmp_path: Path) -> None:
    with serve(tmp_path, SHOWS) as server:
        assert server.ask("http://other/path?q").text == "http 127.0.0.1 other /path?q "


# What handlers do wrong


def test_what_a_handler_raises_is_logged_and_ends_no_worker(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        if self.request.path == "/later":
            asyncio.get_running_loop().call_soon(sys.exit, 4)
        if self.request.path == "/waits":
            await asyncio.sleep(0.01)
        if self.request.path == "/begun":
            await self.flush()
        if self.request.path in ("/raises", "/begun"):
            raise ZeroDivisionError
        if self.request.path in ("/exits", "/waits"):
            sys.exit(3)
        if self.request.path == "/head":
            self.set_header("Nice", "\\u20ac")
        if self.request.path == "/switch":
            self.set_status(101)
            self.finish()
            return
        self.write("well")
"""
    with serve(tmp_path, handler) as server:
        first = server.workers()
        paths = ("/raises", "/exits", "/waits", "/head", "/switch", "/later")
        assert [server.ask(path).status for path in paths] == [500, 500, 500, 500, 500, 200]
        server.ask("/begun")
        server.wait_log("sys.exit() outside of a request has no effect")
        assert server.ask("/").text == "well"
        assert server.workers() == first
        assert server.log().count("Uncaught exception GET") == 3
        assert server.log().count("SystemExit: 3") == 2


def test_what_tornado_finds_malformed_is_refused(tmp_path: Path) -> None:
    """By more arguments than it reads, in this case; later requests are served."""
    with serve(tmp_path, SHOWS, "--limit-request-line 64k") as server:
        answer = server.ask("/?" + "a&" * 20_000)
        assert (answer.status, answer.closing) == (400, True)
        server.wait_log("rejected from 127.0.0.1: refused by Tornado")


def test_a_handler_may_close_its_connection(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    def get(self):
        self.set_header("Connection", "close")
"""
    with serve(tmp_path, handler) as server:
        kept = Kept(server.address)
        assert kept.ask("/").closing
        assert kept.ended()


def test_a_request_is_logged_once(tmp_path: Path) -> None:
    """In the access log, also if the application lets Tornado log to standard error."""
    handler = """
import logging
logging.basicConfig(level=logging.DEBUG)
class Handler(RequestHandler):
    def get(self):
        self.set_status(404)
"""
    with serve(tmp_path, handler, "--access-logfile -") as server:
        server.ask("/once")
        server.wait_log("/once HTTP/1.1")
    assert server.log().count("/once") == 1


def test_tornados_reloader_does_not_start(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    def get(self):
        self.write(str(os.getpid()))
"""
    end = "\napp = Application([(r'/.*', Handler)], debug=True)\n"
    with serve(tmp_path, handler, end=end) as server:
        server.wait_log("autoreload does not run in a worker")
        assert [int(server.ask("/").text)] == server.workers()


def test_requests_are_forgotten(tmp_path: Path) -> None:
    """Whatever has become of them; only the traceback of the last sys.exit() has some of one."""
    handler = """
import gc
import prefork_tornado.connection
@tornado.web.stream_request_body
class Handler(RequestHandler):
    async def prepare(self):
        if self.request.path == "/raises":
            raise ZeroDivisionError
        if self.request.path == "/exits":
            sys.exit(3)
    def data_received(self, piece):
        pass
    async def get(self):
        if self.request.path == "/waits":
            await asyncio.sleep(0.2)
        if self.request.path == "/count":
            gc.collect()
            kinds = (prefork_tornado.connection.Connection, RequestHandler)
            self.write(str(sum(isinstance(found, kinds) for found in gc.get_objects())))
    post = get
"""
    with serve(tmp_path, handler, "--tornado-max-body-size 1k") as server:
        for _ in range(5):
            server.ask("/")
            server.ask("/?" + "a&" * 2000)
            server.ask("/raises")
            server.ask("/exits")
            server.ask("/", method="POST", body=b"abc")
            server.ask("/", method="POST", body=bytes(2000))
            with connect(server.address) as sock:
                sock.sendall(client.render("/", "POST", b"", "Content-Length: 70000"))
            with connect(server.address) as sock:
                sock.sendall(client.render("/waits"))
        until(lambda: int(server.ask("/count").text) <= 4, "little but the request that counts")


# The loop

STARTS: Final = """
def tick():
    note(f"ticked-{os.getpid()}")
tornado.ioloop.PeriodicCallback(tick, 10).start()
class Handler(RequestHandler):
    def get(self):
        self.write(str(os.getpid()))
"""


def test_what_is_started_at_import_runs(tmp_path: Path) -> None:
    with serve(tmp_path, STARTS) as server:
        noted(server, f"ticked-{server.ask('/').text}")


def test_what_is_started_in_a_template_is_told_to_be_lost(tmp_path: Path) -> None:
    with serve(tmp_path, STARTS, "--preload") as server:
        server.wait_log("what the application has started on its event loop while it was imported is lost")
        assert int(server.ask("/").text) in server.workers()


def test_a_task_may_clean_up_when_its_worker_ends(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    tasks = set()
    def get(self):
        self.tasks.add(asyncio.create_task(self.work()))
    async def work(self):
        try:
            await asyncio.Event().wait()
        finally:
            note("cleaned")
"""
    with serve(tmp_path, handler) as server:
        server.ask("/")
        server.stop()
        assert (tmp_path / "cleaned").exists()


def test_idle_connections_are_closed_and_requests_finished(tmp_path: Path) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        if self.request.path == "/hold":
            note("held")
            await told("released")
        self.write("done")
"""
    with serve(tmp_path, handler) as server:
        idle, busy = Kept(server.address), Kept(server.address)
        assert idle.ask("/").text == "done"
        busy.send(client.render("/hold"))
        noted(server, "held")
        server.signal(signal.SIGTERM)
        assert idle.ended()
        (tmp_path / "released").touch()
        answer = busy.read()
        assert (answer.text, answer.closing) == ("done", True)
        assert server.wait_exit(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_does_not_end_is_dropped(tmp_path: Path, number: signal.Signals) -> None:
    handler = """
class Handler(RequestHandler):
    async def get(self):
        note("begun")
        try:
            await asyncio.Event().wait()
        finally:
            note("cleaned")
"""
    with (
        serve(tmp_path, handler, "--graceful-timeout 2 --access-logfile -") as server,
        connect(server.address) as sock,
    ):
        sock.sendall(client.render("/stuck"))
        noted(server, "begun")
        server.signal(number)
        assert server.wait_exit(20) == 0
    assert "Traceback" not in server.log()
    assert server.log().count("/stuck") == 1
    assert (tmp_path / "cleaned").exists() == (number is signal.SIGTERM)


# Files

FILES: Final = """
class Handler(tornado.web.StaticFileHandler):
    pass
"""


def test_static_files_are_served(tmp_path: Path) -> None:
    content = b"".join(blocks(1 << 20))
    (tmp_path / "file").write_bytes(content)
    end = "\napp = Application([(r'/ready', Ready), (r'/(.*)', Handler, {'path': '.'})])\n"
    with serve(tmp_path, FILES, end=end) as server:
        whole = fetch(server.address, "/file")
        assert whole.body == content
        part = fetch(server.address, "/file", Range="bytes=10-19")
        assert (part.status, part.body) == (206, content[10:20])
        head = fetch(server.address, "/file", method="HEAD")
        assert (head.headers["Content-Length"], head.body) == (str(len(content)), b"")
        kept = Kept(server.address)
        kept.send(client.render("/file", "GET", b"", f"If-None-Match: {whole.headers['Etag']}"))
        assert receive(kept.sock, b"\r\n\r\n").startswith(b"HTTP/1.1 304 ")
        assert kept.ask("/ready").text == "ready"


# WSGI


FLASK: Final = """
import threading, time
import flask
app = flask.Flask(__name__)
both_here = threading.Barrier(2)
@app.get("/ready")
def ready():
    return "ready"
@app.get("/both")
def both():
    both_here.wait(20)
    return threading.current_thread().name
@app.post("/count")
def count():
    return f"{sum(map(len, iter(lambda: flask.request.stream.read(65536), b'')))} {flask.request.scheme}"
@app.get("/pieces")
def pieces():
    def made():
        yield "one"
        while not os.path.exists("go"):
            time.sleep(0.01)
        yield "two"
    return flask.Response(made())
@app.get("/endless")
def endless():
    def made():
        try:
            for number in range(1 << 30):
                yield bytes(1 << 16)
        finally:
            note("ended", number)
    return flask.Response(made())
@app.get("/exits")
def exits():
    sys.exit(3)
"""


def test_an_application_of_tornado_has_no_use_for_threads(tmp_path: Path) -> None:
    with serve(tmp_path, "Handler = Ready\n", "--threads 2") as server:
        assert server.ask("/").body == b"ready"
        assert "threads has no effect: an application of Tornado" in server.log()


def test_a_wsgi_application_has_threads_beside_the_loop(tmp_path: Path) -> None:
    with serve(tmp_path, FLASK, "--threads 2", end="") as server:
        server.wait_log("which -k gthread serves with less work")
        one, other = Kept(server.address), Kept(server.address)
        one.send(client.render("/both"))
        other.send(client.render("/both"))
        assert {one.read().text, other.read().text} == {"wsgi_0", "wsgi_1"}
        assert server.ask("/exits").status == 500
        assert server.ask("/missing").status == 404
        size = 5 << 20
        counted = fetch(server.address, "/count", method="POST", body=blocks(size), X_Forwarded_Proto="https")
        assert counted.text == f"{size} https"


def test_a_wsgi_response_is_sent_as_it_is_made(tmp_path: Path) -> None:
    with serve(tmp_path, FLASK, end="") as server, connect(server.address) as sock:
        sock.sendall(client.render("/pieces"))
        assert receive(sock, b"one\r\n").endswith(b"3\r\none\r\n")
        (tmp_path / "go").touch()
        assert receive(sock, b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


def test_a_wsgi_response_waits_for_its_client_and_ends_with_it(tmp_path: Path) -> None:
    with serve(tmp_path, FLASK, "--threads 2", end="") as server:
        with connect(server.address) as sock:
            sock.sendall(client.render("/endless"))
            receive(sock, b"\0")
            assert server.ask("/ready").text == "ready"
        assert int(noted(server, "ended")) < 1000


def test_a_wsgi_call_that_does_not_end_is_dropped(tmp_path: Path) -> None:
    with (
        serve(tmp_path, FLASK, "--graceful-timeout 2 --threads 2", end="") as server,
        connect(server.address) as sock,
    ):
        sock.sendall(client.render("/pieces"))
        receive(sock, b"one\r\n")
        server.signal(signal.SIGTERM)
        assert server.wait_exit(10) == 0
    assert "Traceback" not in server.log()


def test_a_wsgi_application_may_be_a_part_of_one_of_tornado(tmp_path: Path) -> None:
    """As Tornado's own container has it."""
    end = """
wsgi, app = app, None
app = Application([(r"/.*", tornado.web.FallbackHandler,
    {"fallback": tornado.wsgi.WSGIContainer(wsgi)})])
"""
    with serve(tmp_path, FLASK, end=end) as server:
        assert server.ask("/ready").text == "ready"
        assert fetch(server.address, "/count", method="POST", body=b"abc").text == "3 http"
